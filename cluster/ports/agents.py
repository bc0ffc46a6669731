"""The registry of agents."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.agents.agent import Agent, Dedicated, Health, Intent, IntentBy, Liveness, NewAgent
from cluster.domain.base.log import LogRecord
from cluster.domain.quotas.quotas import OverQuota
from cluster.domain.tasks.task import (
    IdempotencyKey,
)
from cluster.ports.presence import HeartbeatRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChange:
    """Sets the fields that are not None. The log row is written only if that changes anything. ``intent`` is what
    ``intent_by`` wants (an operator, if it is None), and leaves the other's alone."""

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
    agent: Agent | None
    """As it is stored; None if it is not (any more): its key was used for another agent, or it was unregistered at once."""
    seq: int | None
    created: bool
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DedicatedAgent:
    """An agent that wants an actor of its own, and what the actor declares to Ray."""

    workspace: str
    agent_id: str
    needs: Dedicated


class WorkspaceAgents(Protocol):
    """What request handlers get: every method works in the workspace that it is given (by an agent's origin, by a change, by the
    record of a removal, or in a key)."""

    async def register(self, items: Sequence[RegisterItem]) -> list[Registered]:
        """Registers agents. For one that exists already, replaces the description, keeps the counters and an operator's
        intent, and sets the liveness to ``alive``."""

    async def register_within_quotas(self, items: Sequence[RegisterItem]) -> list[Registered] | OverQuota:
        """The same of agents of one workspace which may have a quota on agents. Registers none of them if that has no room for
        those that are new, and returns the quota then."""

    async def change(self, changes: Sequence[AgentChange]) -> list[bool]:
        """Whether each agent exists, no matter whether anything had to change."""

    async def remove(
        self, removals: Sequence[LogRecord], keys: Sequence[IdempotencyKey | None] | None = None
    ) -> list[bool]:
        """Removes agents, one per record (its entity is the agent's id). Returns for each whether it existed. ``keys``, if
        given, are one per record: a repeat under a key returns True and removes nothing."""

    async def get(self, workspace: str, agent_id: str) -> Agent | None: ...

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Agent]:
        """Agents by (workspace, agent_id), in one round trip."""

    async def list(self, workspace: str, capability: str | None = None) -> list[Agent]: ...

    async def findings(self, workspace: str, agent_id: str) -> int:
        """How many entries the ``findings`` lists have in results of tasks that the agent completed."""


class AgentStore(WorkspaceAgents, Protocol):
    """What the parts of the system get, which serve all workspaces."""

    async def record_heartbeats(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        """Stores when agents were last heard, some time after it happened. Nothing is logged, and an older heartbeat
        changes nothing."""

    async def dedicated(self) -> builtins.list[DedicatedAgent]:
        """The dedicated agents of all workspaces, sorted by (workspace, agent_id)."""

    async def unschedulable(self, of: Collection[tuple[str, str]] | None = None) -> frozenset[tuple[str, str]]:
        """(workspace, agent_id) of the agents that get nothing new (``Agent.is_unschedulable``), among ``of`` or all."""

    async def deliberating(self, of: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Those of the agents (workspace, agent_id) that are named in the question or the panel of a deliberation that has not
        ended."""

    async def load(self) -> tuple[int, builtins.list[Agent]]:
        """(log cursor, all agents of all workspaces), read in one snapshot."""


class KnownAgents(Protocol):
    """A process's copy of the registry, as request handlers get it."""

    async def get(self, workspace: str, agent_id: str) -> Agent | None:
        """The agent, looked up in the store if the copy does not know it."""

    def known(self, workspace: str, agent_id: str) -> Agent | None:
        """The agent as the copy has it."""

    def note(self, agent: Agent) -> None:
        """Takes the state of an agent that has just been written or read."""

    def forget(self, workspace: str, agent_id: str) -> None:
        """Removes an agent from the copy."""

    def agents(self, workspace: str, capability: str = "") -> builtins.list[Agent]:
        """The agents of a workspace that have a capability."""
