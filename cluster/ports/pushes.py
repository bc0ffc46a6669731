"""Pushes of A2A: the URLs that clients want to be called at, and what is to be told to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.notifications.pushes import KnownPush, NewPush, Push, StateChange


class WorkspacePushes(Protocol):
    """What request handlers get: every method works in one workspace, which it is given or which its object names.

    Every method raises `StoreUnavailable`; those that write also `Fenced`."""

    async def put(self, push: NewPush, record: LogRecord) -> None:
        """Makes a push, or replaces the one of this id.

        Raises: `Conflict` (``too_many_pushes``, ``no_secrets_key``)."""

    async def remove(self, record: LogRecord) -> bool:
        """Deletes the push that the record names; returns whether there was one."""

    async def of_task(self, workspace: str, task_id: str) -> list[KnownPush]:
        """By id."""

    async def tell(self, workspace: str, push_id: str, state: tuple[str, float], now: float) -> None:
        """Lets a push that has told nothing tell of a state, and since when."""


class Pushes(WorkspacePushes, Protocol):
    """What sends them gets, of all workspaces."""

    async def changes(self, after: int, until: int) -> list[StateChange]:
        """The changes of tasks with a push, of the rows behind ``after`` up to ``until``."""

    async def missed(self, until: int) -> list[StateChange]:
        """The newest change of each task with a push that does not know of it, of the rows up to ``until``."""

    async def claim(self, now: float, until: float, limit: int, busy: Sequence[tuple[str, str]]) -> list[Push]:
        """Pushes that are due, but for those of ``busy`` (workspace, origin), each with an attempt begun. They are due again at
        ``until`` if nobody settles them."""

    async def settle(self, pushes: Sequence[Push]) -> Sequence[None]:
        """Stores what came of attempts; of one that was replaced or claimed again meanwhile nothing."""

    async def forget(self, silent_since: float, limit: int) -> int:
        """Deletes some whose task has been silent since (epoch seconds), and returns how many that were."""
