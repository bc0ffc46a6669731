"""The group of a single region: its store is tables of the region's own Postgres, so that it needs no further process. The
functions are in the migration ``0012_regions.sql``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any, Protocol

from cluster.domain.base.errors import StoreUnavailable
from cluster.ports.clock import Clock
from cluster.ports.consensus_group import GroupEntry, GroupLease, GroupMembers, GroupView, KeyCompare, KeyPut

#: How often a watch reads. One region has nobody to be told by, so nothing waits for this.
POLL_S = 0.5


class Statements(Protocol):
    """What runs SQL: the region's pool of connections."""

    async def rows(self, sql: str, *args: Any) -> Sequence[Any]: ...

    async def value(self, sql: str, *args: Any) -> Any: ...


class GroupOfOne:
    def __init__(self, statements: Statements, clock: Clock, poll_s: float = POLL_S) -> None:
        self._sql = statements
        self._clock = clock
        self._poll_s = poll_s

    async def read(self, prefix: str) -> GroupView:
        rows = await self._sql.rows("select key, value, revision, lease from group_read($1)", prefix)
        (revision,) = [row["revision"] for row in rows if row["key"] is None]
        entries = {
            row["key"]: GroupEntry(
                value=row["value"],
                revision=row["revision"],
                lease=None if row["lease"] is None else str(row["lease"]),
            )
            for row in rows
            if row["key"] is not None
        }
        return GroupView(entries=entries, revision=revision)

    async def swap(
        self, compares: Sequence[KeyCompare], puts: Sequence[KeyPut] = (), deletes: Sequence[str] = ()
    ) -> bool:
        return bool(
            await self._sql.value(
                "select group_swap($1, $2, $3, $4, $5, $6, $7)",
                [compare.key for compare in compares],
                [compare.value for compare in compares],
                [compare.revision for compare in compares],
                [put.key for put in puts],
                [put.value for put in puts],
                [None if put.lease is None else int(put.lease) for put in puts],
                list(deletes),
            )
        )

    async def grant(self, ttl_s: float) -> GroupLease:
        return GroupLease(id=str(await self._sql.value("select group_grant($1)", ttl_s)), ttl_s=ttl_s)

    async def renew(self, lease: str) -> float | None:
        ttl_s = await self._sql.value("select group_renew($1)", int(lease))
        return None if ttl_s is None else float(ttl_s)

    async def revoke(self, lease: str) -> None:
        await self._sql.value("select group_revoke($1)", int(lease))

    async def members(self) -> GroupMembers:
        return GroupMembers()

    async def move_leader(self, name: str, avoid: Collection[str] = ()) -> None:
        """Nobody leads the store."""

    async def watch(self, prefix: str) -> AsyncGenerator[GroupView, None]:
        last = None
        while True:
            try:
                view = await self.read(prefix)
            except StoreUnavailable:
                view = None
            if view is not None and view.entries != last:
                last = view.entries
                yield view
            await self._clock.sleep(self._poll_s)
