"""Tasks: submits, decisions of the scheduler, and what readers ask for."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.domain.base.log import LogRow
from cluster.domain.tasks.task import (
    Decided,
    IdempotencyKey,
    NewTask,
    Submitted,
    Task,
    TaskDecision,
    TaskDetail,
    TaskHead,
    TaskStatus,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFence:
    shard: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitItem:
    task: NewTask
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """``before`` is the keyset cursor (created_at, id) of the last row seen; newest first. Times are of the submit,
    epoch seconds, from ``created_after`` on and before ``created_before``. A delayed task counts as queued from its
    ``run_at`` on, as of ``now``."""

    workspace: str
    statuses: tuple[TaskStatus, ...] = ()
    task_type: str | None = None
    agent_id: str | None = None
    details: tuple[TaskDetail, ...] = ()
    queue: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    limit: int = 100
    offset: int = 0
    before: tuple[float, str] | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class HeldLease:
    workspace: str
    agent_id: str
    task_id: str
    claim_id: str


class TaskStore(Protocol):
    async def submit(self, items: Sequence[SubmitItem], *, all_or_none: bool = False) -> list[Submitted]:
        """``all_or_none``: a conflicting idempotency key raises Conflict and nothing of the call is written."""

    async def decide(self, fence: ShardFence, decisions: Sequence[TaskDecision]) -> list[Decided]: ...

    async def take_generation(self, shard: str, owner: str) -> ShardFence:
        """A new, higher generation; decisions under older ones fail with ``Fenced`` from now on."""

    async def open_tasks(self, shard: str) -> tuple[int, AsyncIterator[Sequence[TaskHead]]]:
        """(log cursor, batches of all pending and running tasks), one snapshot: rows after the cursor are not in it."""

    async def get(self, workspace: str, task_id: str) -> Task | None: ...

    async def get_many(self, workspace: str, task_ids: Sequence[str]) -> dict[str, Task]: ...

    async def held_by(self, principal: str) -> builtins.list[HeldLease]:
        """The leases that a principal claimed, of all agents."""

    async def named(self, agents: Sequence[tuple[str, str]]) -> builtins.list[tuple[tuple[str, str], str]]:
        """Open tasks, pending or running, that name one of these agents (workspace, id): whom each names, and its id."""

    async def bodies(self, workspace: str, task_ids: Sequence[str]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
        """(payload, metadata) by id: all that whoever holds the leases does not know yet."""

    async def list(self, query: TaskQuery) -> tuple[list[Task], int]:
        """(page, true total for the filter)."""

    async def oldest(self, workspace: str, status: TaskStatus, limit: int) -> builtins.list[Task]:
        """Pending or running tasks, oldest first."""

    async def counts(self, workspace: str | None = None) -> Mapping[str, Any]:
        """``{by_status: {..}, by_priority: {..pending only..}, by_type: {..}, total}``."""

    async def forget_keys(self, before: float) -> None:
        """Drops idempotency keys that were written before ``before``."""

    async def events(self, workspace: str, task_id: str, after: int, limit: int) -> tuple[builtins.list[LogRow], int]:
        """(log rows of one task after its ``after``-th, how many it has). Their numbers are its own: 1, 2, 3, ..."""

    async def queue_metrics(self, workspace: str, now: float) -> Mapping[str, float]:
        """Fields of wire.md 1.2 row 17 and what row 24 needs."""
