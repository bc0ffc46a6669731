"""A process's copy of things that workspaces have few of, kept up to date by the log, so that a request costs no read of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.log import LogRow
from cluster.ports.log import LogFilter


class _Owned(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def workspace(self) -> str: ...


T = TypeVar("T", bound=_Owned)
T_co = TypeVar("T_co", covariant=True)


class _Store(Protocol[T_co]):
    async def all(self) -> Sequence[T_co]: ...

    async def named(self, ids: Sequence[str], /) -> Sequence[T_co]: ...


class WorkspaceCopies(Generic[T]):
    """All of a store's things by workspace. ``changes`` are the kinds of rows after which what they name is read anew."""

    def __init__(self, store: _Store[T], changes: tuple[str, ...]) -> None:
        self._store = store
        #: The rows that a follower has to read to keep the copy.
        self.rows = LogFilter(kinds=changes)
        #: Workspace (or ``*``) → id → thing. Only `refresh` and `load` change it.
        self._found: dict[str, dict[str, T]] = {}
        #: Held from a read until it is applied: of two reads at once, the older one must not be applied last.
        self._reading = asyncio.Lock()

    def of(self, workspace: str) -> Sequence[T]:
        """Those that are about a workspace: its own, and those of all workspaces."""
        found = [self._found[name] for name in (ALL_WORKSPACES, workspace) if name in self._found]
        return [each for by_id in found for each in by_id.values()] if found else ()

    async def load(self) -> None:
        """Reads everything. Raises: `StoreUnavailable`."""
        async with self._reading:
            found = await self._store.all()
            self._found.clear()
            self._put(found)

    async def apply(self, rows: Sequence[LogRow]) -> None:
        """Reads again what the rows name, so that a row that is applied twice does no harm. Raises: `StoreUnavailable`."""
        named = sorted({row.entity for row in rows if row.kind in self.rows.kinds})
        if named:
            await self.refresh(named)

    async def refresh(self, ids: Sequence[str]) -> None:
        """Reads again what is named. A process that has just changed it need not wait for the log.

        Raises: `StoreUnavailable`."""
        async with self._reading:
            found = await self._store.named(ids)
            for by_id in self._found.values():
                for each in ids:
                    by_id.pop(each, None)
            self._put(found)

    def _put(self, found: Sequence[T]) -> None:
        for each in found:
            self._found.setdefault(each.workspace, {})[each.id] = each
