"""Deliberations: admission, the journal, and who works on one."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.stored import (
    Admitted,
    Deliberation,
    JournalAppend,
    JournalEvent,
    NewDeliberation,
    TakenDeliberation,
)


class DeliberationStore(Protocol):
    async def admit(self, items: Sequence[NewDeliberation]) -> builtins.list[Admitted]:
        """Journal and row in one commit; log row ``deliberation.admitted``. An existing request_id of the same
        workspace with the same contract digest is a replay, with another one a conflict."""

    async def take(self, request_ids: Sequence[str], owner: str) -> builtins.list[TakenDeliberation | None]:
        """Raises the deliberations' fences and makes ``owner`` their worker; None where unknown or terminal."""

    async def open(self) -> builtins.list[tuple[str, str | None]]:
        """(request_id, owner) of every deliberation without a terminal, oldest first."""

    async def append(self, items: Sequence[JournalAppend]) -> builtins.list[bool]:
        """False where the fence was replaced (nothing of that item is written)."""

    async def journal(self, request_id: str, after: int = 0) -> builtins.list[JournalEvent]: ...

    async def get(self, workspace: str, request_id: str) -> Deliberation | None: ...

    async def get_any(self, request_id: str) -> Deliberation | None:
        """For workers, that serve all workspaces."""

    async def list(
        self, workspace: str, limit: int = 100, offset: int = 0
    ) -> tuple[builtins.list[Deliberation], int]: ...

    async def cancel(self, workspace: str, request_id: str, record: LogRecord) -> bool:
        """Asks for it: sets ``cancel_requested`` and logs ``deliberation.cancel_requested``; False if unknown or over."""
