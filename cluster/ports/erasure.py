"""Erasure: choosing what is to go, and the commits that delete it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord

#: (time, id) of the last row of a window.
Position = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """``ids`` are those chosen of some tasks, deliberations or violations, the oldest first. ``last``: where the next window
    begins; None if this one is empty."""

    ids: Sequence[str]
    last: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Tasks by id: those that have not ended, and those to erase."""

    open: Sequence[str]
    ended: Sequence[str]


class Erasures(Protocol):
    """Every method works in the workspace that it is given. Every one raises `StoreUnavailable`; those that erase also `Fenced`.

    Those that erase leave alone what has not ended and what was erased before, so they can be repeated."""

    async def open_work(self, workspace: str, subject: str | None, limit: int) -> list[str]:
        """Some tasks and deliberations that have not ended, of a subject or (None) of anybody."""

    async def task_family(self, workspace: str, task_id: str) -> Chosen | None:
        """A task with those that it replays and that replay it; None if there is no such task."""

    async def pull_calls(self, workspace: str, request_id: str, since: float, until: float) -> Chosen:
        """The tasks that asked agents for a deliberation, submitted between two times (epoch seconds)."""

    async def tasks(self, workspace: str, subject: str | None, after: Position, until: float, limit: int) -> Window:
        """A window of at most ``limit`` tasks submitted up to a time; chosen are those to erase."""

    async def deliberations(
        self, workspace: str, subject: str | None, after: Position, until: float, limit: int
    ) -> Window:
        """The same of deliberations."""

    async def outcomes(self, workspace: str, after: str, limit: int) -> list[str]:
        """Some outcomes with ids after ``after``."""

    async def rules(self, workspace: str, limit: int) -> list[tuple[str, str]]:
        """Some of the policies, rules and channels of notifications, and credentials: (kind of the row that says that it is gone,
        its entity), what names others before them."""

    async def violations(self, workspace: str, after: Position, limit: int) -> Window:
        """A window of violations of policies; chosen are those that say something."""

    async def told(self, workspace: str) -> int:
        """How many notifications are kept."""

    async def log_words(self, workspace: str, after: int, through: int) -> int:
        """How many rows of the log with numbers after ``after`` and up to ``through`` have words."""

    async def log_end(self, workspace: str) -> tuple[int, bool]:
        """The last row of the log, and whether the log begins with rows of the first form."""

    async def erase_tasks(self, workspace: str, records: Sequence[LogRecord]) -> int:
        """Erases the tasks that the records name, and returns how many that were."""

    async def erase_deliberation(
        self, workspace: str, contract: str, events: Sequence[tuple[int, str]], records: Sequence[LogRecord]
    ) -> bool:
        """Erases the deliberation of the first record and, with a row of the second, its outcome. ``contract`` and ``events``
        are what is left, as JSON; an event by its number. False if there was nothing to erase."""

    async def erase_outcomes(self, workspace: str, records: Sequence[LogRecord]) -> int:
        """Deletes the outcomes that the records name, and returns how many that were."""

    async def erase_rules(self, workspace: str, records: Sequence[LogRecord]) -> Sequence[bool]:
        """Deletes what the records name, policies with all their versions, and returns of which there was something."""

    async def erase_violations(self, workspace: str, record: LogRecord) -> int:
        """Deletes what is written of the violations that the record lists, and returns of how many there was something."""

    async def erase_told(self, workspace: str, limit: int) -> int:
        """Deletes some notifications, whatever their state, and returns how many that were."""

    async def erase_log_words(self, workspace: str, after: int, through: int, record: LogRecord) -> int:
        """Deletes the words of rows with numbers after ``after`` and up to ``through``. Returns how many had some."""

    async def forget_rest(self, workspace: str) -> None:
        """Deletes remembered answers, but for those that are ids, and error texts of probes."""

    async def note(self, workspace: str, record: LogRecord) -> None:
        """Appends a row that says what is erased."""
