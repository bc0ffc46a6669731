"""What operators do: the dead letter, and controls of queues (pauses, rates, weights)."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.task import (
    ALL_BODIES,
    Body,
    NewTask,
    Task,
    TaskDetail,
)
from cluster.ports.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterQuery:
    """Selects tasks that failed for good, newest first. ``before`` is (completed_at, id) of the last row seen, ``reason`` the
    status detail. Replayed entries are shown on request, purged ones never. ``bodies``: as in `TaskQuery`."""

    workspace: str
    ids: tuple[str, ...] = ()
    task_type: str | None = None
    queue: str | None = None
    reason: TaskDetail | None = None
    error_contains: str | None = None
    ended_after: float | None = None
    ended_before: float | None = None
    with_replayed: bool = False
    limit: int = 100
    before: tuple[float, str] | None = None
    bodies: Collection[Body] = ALL_BODIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A task of the dead letter that is submitted again as ``task``; ``record`` is the log row of the old task."""

    of: str
    task: NewTask
    record: LogRecord
    new_payload: bool


class DeadLetterStore(Protocol):
    async def list(self, query: DeadLetterQuery) -> tuple[list[Task], Total]:
        """(page, how many match in all)."""

    async def replay(self, replays: Sequence[Replay]) -> builtins.list[str | None]:
        """Submits tasks again, once each. Returns the id of each new task, also if it was replayed before; None for a task
        that is not in the dead letter."""

    async def purge(self, workspace: str, task_ids: Sequence[str], records: Sequence[LogRecord]) -> int:
        """Removes entries for good and deletes their payloads; their history stays. Returns how many were removed."""


class WorkspaceControls(Protocol):
    """Controls: what operators set for queues, task types and tenants. Every method works in the workspace that it is given, by
    the control too."""

    async def put(self, control: Control, record: LogRecord) -> Control:
        """Stores a control and returns it with the ``seq`` of its log row. Writes nothing if it is set so already."""

    async def get(self, workspace: str, kind: ControlKind, name: str) -> Control | None: ...

    async def list(self, workspace: str) -> builtins.list[Control]: ...


class ControlStore(WorkspaceControls, Protocol):
    """What the parts of the system get, which serve all workspaces."""

    async def load(self) -> builtins.list[Control]:
        """The controls of all workspaces."""
