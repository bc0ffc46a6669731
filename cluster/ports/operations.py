"""What operators do: the dead-letter queue, and controls over queues (pauses, limits)."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.task import (
    NewTask,
    Task,
    TaskDetail,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterQuery:
    """Tasks that were given up on, newest first; ``before`` is (completed_at, id) of the last row seen. ``reason`` is
    their status detail. Entries that were replayed are shown on request, purged ones never."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A dead task submitted again as ``task``; ``record`` is the log row of the old one."""

    of: str
    task: NewTask
    record: LogRecord
    new_payload: bool


class DeadLetterStore(Protocol):
    async def list(self, query: DeadLetterQuery) -> tuple[list[Task], int]:
        """(page, true total for the filter)"""

    async def replay(self, replays: Sequence[Replay]) -> builtins.list[str | None]:
        """Id of the task that each was replayed as, also when that happened before; None where it is not there."""

    async def purge(self, workspace: str, task_ids: Sequence[str], records: Sequence[LogRecord]) -> int:
        """Takes entries off the list for good and throws their payloads away; their history stays. How many."""


class ControlStore(Protocol):
    """Settings of queues, task types and tenants."""

    async def put(self, control: Control, record: LogRecord) -> Control:
        """As stored, with the ``seq`` of its log row; nothing is written when it is so already."""

    async def get(self, workspace: str, kind: ControlKind, name: str) -> Control | None: ...

    async def list(self, workspace: str) -> builtins.list[Control]: ...

    async def load(self) -> builtins.list[Control]:
        """Of all workspaces."""
