"""Deliberations: admission, the journal, and which worker has one."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.audit.retention import Stub
from cluster.domain.base.conditions import Search
from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.stored import (
    Admitted,
    Deliberation,
    JournalAppend,
    JournalEvent,
    NewDeliberation,
    TakenDeliberation,
)
from cluster.ports.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliberationQuery:
    """What a search asks for. ``states``: phases and ends, of which one has to be the deliberation's; None: any. ``before``:
    (time of admission, id) after which the page begins."""

    workspace: str
    search: Search
    states: Collection[str] | None = None
    limit: int = 50
    before: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class DeliberationPage:
    """A page of a search. ``following`` is the ``before`` of the next one, None if this is the last. A search reads a bounded
    number of deliberations for each page, so a page may be short, or empty, and not be the last."""

    deliberations: Sequence[Deliberation]
    following: tuple[float, str] | None


class WorkspaceDeliberations(Protocol):
    """What request handlers get: every method works in the workspace that it is given (of a new deliberation, its origin's)."""

    async def admit(self, items: Sequence[NewDeliberation]) -> builtins.list[Admitted]:
        """Stores new deliberations, with a log row ``deliberation.admitted`` each. If the request_id exists in the same
        workspace, it is a replay if the contract's digest is the same, and a conflict if not."""

    async def journal(self, workspace: str, request_id: str, after: int = 0) -> builtins.list[JournalEvent]:
        """The journal's events after the ``after``-th, in order; none of a deliberation of another workspace."""

    async def get(self, workspace: str, request_id: str) -> Deliberation | None: ...

    async def stub(self, workspace: str, request_id: str) -> Stub | None:
        """What is left of a deliberation that retention has removed."""

    async def list(
        self, workspace: str, limit: int = 100, offset: int = 0
    ) -> tuple[builtins.list[Deliberation], Total]:
        """(page, newest first; how many there are)."""

    async def last_changed(
        self, workspace: str, limit: int, before: tuple[float, str] | None = None
    ) -> tuple[builtins.list[Deliberation], Total]:
        """(page, those that ended or were admitted last first; how many there are). ``before``: (``changed_at``, id) of the last
        one seen."""

    async def search(self, query: DeliberationQuery) -> DeliberationPage:
        """What matches, newest first."""

    async def cancel(self, workspace: str, request_id: str, record: LogRecord) -> bool:
        """Asks the worker to stop: sets ``cancel_requested`` and writes the log row. False if it is unknown or has ended."""


class DeliberationStore(WorkspaceDeliberations, Protocol):
    """What the parts of the system get, which serve all workspaces."""

    async def take(self, request_ids: Sequence[str], owner: str) -> builtins.list[TakenDeliberation | None]:
        """Raises the deliberations' fences and makes ``owner`` their worker. None for one that is unknown or has ended."""

    async def open(self) -> builtins.list[tuple[str, str | None]]:
        """(request_id, owner) of every deliberation that has not ended, oldest first."""

    async def append(self, items: Sequence[JournalAppend]) -> builtins.list[bool]:
        """Appends to journals. Nothing is written of an item, and its outcome is False, if its fence was replaced, if it does
        not continue its journal, or if its deliberation has ended."""

    async def get_any(self, request_id: str) -> Deliberation | None:
        """As `get`, for workers, which serve all workspaces."""
