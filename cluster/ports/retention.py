"""Retention: the rules of workspaces, what may go by them, and the commits that remove it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.domain.audit.retention import Bounds
from cluster.domain.base.log import LogRecord
from cluster.ports.erasure import Position, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A pass over a workspace that has ended. Times are epoch seconds; ``requested_at``: of the request that it answered."""

    ended_at: float
    requested_at: float | None
    tasks: int
    deliberations: int
    workflow_runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionState:
    """What is stored about a workspace: the fields of its rule that it has set, None if it has none of its own."""

    rule: Mapping[str, Any] | None = None
    requested_at: float | None = None
    last: Pass | None = None

    @property
    def is_requested(self) -> bool:
        """Whether somebody waits for a pass."""
        return self.requested_at is not None and (self.last is None or self.last.requested_at != self.requested_at)


class WorkspaceRetention(Protocol):
    """What request handlers get: every method works in the workspace that it is given, and raises `StoreUnavailable`."""

    async def state(self, workspace: str) -> RetentionState: ...

    async def set_rule(self, workspace: str, rule: Mapping[str, Any], record: LogRecord) -> None: ...

    async def request_run(self, workspace: str, at: float, record: LogRecord) -> None: ...

    async def oldest_kept(self, workspace: str, kind: str, bounds: Bounds) -> Position | None:
        """(time of the submit, id) of the newest one that is one too many; None if there are not too many, or any number may be.
        ``kind`` is that of the row that removes."""

    async def window(
        self, workspace: str, kind: str, bounds: Bounds, too_many: Position | None, after: Position, limit: int
    ) -> Window:
        """A window of at most ``limit`` tasks, deliberations or runs, the oldest submit first. Chosen are those that may go: not
        what is open, and no agent's call of a deliberation that is."""

    async def referred(self, workspace: str, kind: str, ids: Sequence[str]) -> Collection[str]:
        """Those of them that open tasks come after, schedules name or open runs refer to, which stay."""


class RetentionStore(WorkspaceRetention, Protocol):
    """What the part that removes gets, which serves all workspaces."""

    async def workspaces(self) -> list[str]:
        """Those that have tasks, deliberations, runs or a request."""

    async def requested(self) -> list[str]:
        """Those for which somebody waits for a pass."""

    async def remove(self, kind: str, record: LogRecord) -> int:
        """Removes what the record lists and has ended, and returns how many that were.

        Raises: `Fenced` if this region is not the primary any more."""

    async def passed(self, workspace: str, last: Pass) -> None:
        """Stores that a pass has ended."""
