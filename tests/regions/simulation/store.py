"""The group's store in memory, with time as an argument. It does what etcd does to its callers: a lease is granted for at least
two seconds and ends up to half a second late, a new leader of the store starts every lease anew, a lease may be revoked
although it is renewed, and a restored store revives leases and repeats revisions."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from cluster.ports.clock import Clock
from cluster.ports.consensus_group import GroupEntry, GroupLease, GroupMembers, GroupView, KeyCompare, KeyPut

LEAST_TTL_S = 2.0


@dataclass(slots=True)
class _StoredLease:
    ttl_s: float
    ends_at: float


@dataclass(slots=True)
class MemoryGroup:
    """``late_s``: how long after its end a lease's keys go. ``down``: nobody reaches it."""

    late_s: float = 0.0
    least_ttl_s: float = LEAST_TTL_S
    revision: int = 0
    entries: dict[str, GroupEntry] = field(default_factory=dict)
    leases: dict[str, _StoredLease] = field(default_factory=dict)
    granted: int = 0
    down: bool = False
    #: Called after each change of an entry.
    on_change: Callable[[], None] = lambda: None

    def expire(self, now: float) -> None:
        for lease in [name for name, held in self.leases.items() if now > held.ends_at + self.late_s]:
            self.revoke(lease)

    def read(self, prefix: str, now: float) -> GroupView:
        self.expire(now)
        found = {key: entry for key, entry in self.entries.items() if key.startswith(prefix)}
        return GroupView(entries=found, revision=self.revision)

    def swap(self, compares: Sequence[KeyCompare], puts: Sequence[KeyPut], deletes: Sequence[str], now: float) -> bool:
        self.expire(now)
        if not all(self._holds(compare) for compare in compares):
            return False
        if any(put.lease is not None and put.lease not in self.leases for put in puts):
            return False
        self.revision += 1
        for put in puts:
            self.entries[put.key] = GroupEntry(value=put.value, revision=self.revision, lease=put.lease)
        for key in deletes:
            self.entries.pop(key, None)
        self.on_change()
        return True

    def _holds(self, compare: KeyCompare) -> bool:
        entry = self.entries.get(compare.key)
        if compare.value != (None if entry is None else entry.value):
            return False
        return compare.revision in (None, 0 if entry is None else entry.revision)

    def grant(self, ttl_s: float, now: float) -> GroupLease:
        self.granted += 1
        ttl_s = max(ttl_s, self.least_ttl_s)
        lease = GroupLease(id=str(self.granted), ttl_s=ttl_s)
        self.leases[lease.id] = _StoredLease(ttl_s=ttl_s, ends_at=now + ttl_s)
        return lease

    def renew(self, lease: str, now: float) -> float | None:
        self.expire(now)
        held = self.leases.get(lease)
        if held is None:
            return None
        held.ends_at = now + held.ttl_s
        return held.ttl_s

    def revoke(self, lease: str) -> None:
        if self.leases.pop(lease, None) is None:
            return
        keys = [key for key, entry in self.entries.items() if entry.lease == lease]
        self.revision += 1
        for key in keys:
            del self.entries[key]
        if keys:
            self.on_change()

    def change_leader(self, now: float) -> None:
        for held in self.leases.values():
            held.ends_at = now + held.ttl_s

    def snapshot(self) -> MemoryGroup:
        return replace(self, entries=dict(self.entries), leases=copy.deepcopy(self.leases), on_change=lambda: None)

    def restore(self, snapshot: MemoryGroup, now: float) -> None:
        """Every lease of the snapshot lives again, with its whole time."""
        self.revision = snapshot.revision
        self.entries = dict(snapshot.entries)
        self.leases = {lease: _StoredLease(held.ttl_s, now + held.ttl_s) for lease, held in snapshot.leases.items()}


class SimulatedGroup:
    """The store as an adapter of the port, so that the suite of all adapters proves that it behaves like them."""

    def __init__(self, store: MemoryGroup, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def read(self, prefix: str) -> GroupView:
        return self._store.read(prefix, self._clock.now())

    async def swap(
        self, compares: Sequence[KeyCompare], puts: Sequence[KeyPut] = (), deletes: Sequence[str] = ()
    ) -> bool:
        return self._store.swap(compares, puts, deletes, self._clock.now())

    async def grant(self, ttl_s: float) -> GroupLease:
        return self._store.grant(ttl_s, self._clock.now())

    async def renew(self, lease: str) -> float | None:
        return self._store.renew(lease, self._clock.now())

    async def revoke(self, lease: str) -> None:
        self._store.revoke(lease)

    async def members(self) -> GroupMembers:
        return GroupMembers()

    async def move_leader(self, name: str, avoid: Collection[str] = ()) -> None:
        """Nobody leads the store."""

    async def watch(self, prefix: str) -> AsyncGenerator[GroupView, None]:
        last = None
        while True:
            view = await self.read(prefix)
            if view.entries != last:
                last = view.entries
                yield view
            await self._clock.sleep(0.02)
