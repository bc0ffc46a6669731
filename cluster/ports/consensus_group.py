"""The group of regions: a small store on which all of them agree, with leases. Its calls are linearisable.

Swaps compare values, and a value says by itself how new it is: a store that was restored repeats its revisions. Whoever holds a
lease learns that it has ended from its **key** (`read`, `watch`), never from its own renewals, which may succeed at a store that
has dropped the key.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntry:
    """``revision`` grows with each change of any key. ``lease``: the entry goes when that ends."""

    value: str
    revision: int
    lease: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """All entries of a prefix at one revision of the store."""

    entries: Mapping[str, GroupEntry]
    revision: int

    def value(self, key: str) -> str | None:
        entry = self.entries.get(key)
        return None if entry is None else entry.value


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCompare:
    """``value`` None: there is no such key. ``revision`` None: any."""

    key: str
    value: str | None
    revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPut:
    key: str
    value: str
    lease: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLease:
    """``ttl_s`` is what was granted, which may be more than what was asked for."""

    id: str
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMembers:
    """Who keeps the store. ``leader``: the member without which the others have to elect anew before the store goes on; None if
    there is none."""

    names: frozenset[str] = frozenset()
    leader: str | None = None


class ConsensusGroup(Protocol):
    """Every call raises `StoreUnavailable` if the group does not answer in time. The outcome of a swap is then not known: it may
    still happen."""

    async def read(self, prefix: str) -> GroupView:
        """The entries whose keys begin with the prefix, as of now."""

    async def swap(
        self, compares: Sequence[KeyCompare], puts: Sequence[KeyPut] = (), deletes: Sequence[str] = ()
    ) -> bool:
        """Carries out all puts and deletes if every comparison holds, else nothing, and returns whether they held. A put under a
        lease that has ended does nothing either, and is False."""

    async def grant(self, ttl_s: float) -> GroupLease:
        """A lease that ends unless it is renewed within its time to live, which is at least ``ttl_s``."""

    async def renew(self, lease: str) -> float | None:
        """The time to live that begins anew now; None if the lease has ended."""

    async def revoke(self, lease: str) -> None:
        """Ends a lease, if there is one, and with it its keys."""

    def watch(self, prefix: str) -> AsyncGenerator[GroupView, None]:
        """The entries of a prefix now, and again after changes. Changes that come together may be one view; the last one always
        comes. While the group does not answer, nothing comes. Whoever leaves it closes it (``contextlib.aclosing``)."""

    async def members(self) -> GroupMembers:
        """The members of the store by name; nobody if it has none."""

    async def move_leader(self, name: str, avoid: Collection[str] = ()) -> None:
        """If the member of this name leads the store, makes another one its leader that is none to ``avoid``; it stays if there
        is none. Each lease may last for its whole time to live from then on."""
