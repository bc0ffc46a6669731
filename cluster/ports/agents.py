"""Agents: registration, what is known of them, and changes to it."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.agents.agent import Agent, Dedicated, Health, Intent, IntentBy, Liveness, NewAgent
from cluster.domain.base.log import LogRecord
from cluster.domain.tasks.task import (
    IdempotencyKey,
)
from cluster.ports.presence import HeartbeatRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChange:
    """Sets the fields that are not None; the log row is written only if something really changed."""

    workspace: str
    agent_id: str
    record: LogRecord
    intent: Intent | None = None
    intent_by: IntentBy | None = None
    liveness: Liveness | None = None
    health: Health | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterItem:
    agent: NewAgent
    record: LogRecord
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    agent: Agent
    seq: int | None
    created: bool
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DedicatedAgent:
    """An agent that wants an actor of its own, and what the actor declares to Ray."""

    workspace: str
    agent_id: str
    needs: Dedicated


class AgentStore(Protocol):
    async def register(self, items: Sequence[RegisterItem]) -> list[Registered]:
        """Idempotent by (workspace, agent_id): replaces the description, keeps counters and intent, revives liveness
        to ``alive``."""

    async def change(self, changes: Sequence[AgentChange]) -> list[bool]:
        """True where the agent exists (changed or already so)."""

    async def remove(
        self, removals: Sequence[LogRecord], keys: Sequence[IdempotencyKey | None] | None = None
    ) -> list[bool]:
        """One record per agent (entity = agent_id, workspace set); False where there was none. ``keys``, if given,
        one per record: a repeat of a removal is True and removes nothing."""

    async def get(self, workspace: str, agent_id: str) -> Agent | None: ...

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Agent]:
        """By (workspace, agent_id), one round trip."""

    async def list(self, workspace: str, capability: str | None = None) -> list[Agent]: ...

    async def record_heartbeats(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        """Writes last signs of life behind. Not a change: nothing is logged, and an older sign changes nothing."""

    async def findings(self, workspace: str, agent_id: str) -> int:
        """Entries of the ``findings`` lists in results of tasks that the agent completed."""

    async def dedicated(self) -> builtins.list[DedicatedAgent]:
        """Of all workspaces, by (workspace, agent_id)."""

    async def unschedulable(self, of: Collection[tuple[str, str]] | None = None) -> frozenset[tuple[str, str]]:
        """(workspace, agent_id) of those that get nothing new (``Agent.is_unschedulable``), of ``of`` or of all."""

    async def load(self) -> tuple[int, builtins.list[Agent]]:
        """(log cursor, all agents of all workspaces), one snapshot."""
