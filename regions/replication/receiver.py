"""The receiving end: it asks its database where it is, takes what follows, and wakes the followers of this region's log.

It remembers nothing itself. Whatever interrupts it, also within a transaction, the next step begins where the database is.
"""

from __future__ import annotations

from cluster.domain.replication.batch import START, CopyProgress, Refusal, ReplicationRefused
from cluster.ports.replication import Replica, ReplicationLink
from cluster.ports.wake_ups import OF_REGIONS, Doorbell, WakeTopic

#: Of a piece: the copy that it belongs to cannot be ended, and another one can be begun.
_BEGIN_ANEW = (Refusal.FORK, Refusal.LOST, Refusal.EPOCH)
#: What rows may have changed. The other topics are between a region's own processes and its leader.
_OF_ROWS = tuple(topic for topic in WakeTopic if topic not in OF_REGIONS)


class ReplicationReceiver:
    def __init__(self, replica: Replica, link: ReplicationLink, doorbell: Doorbell) -> None:
        self._replica = replica
        self._link = link
        self._doorbell = doorbell

    async def advance(self) -> int:
        """Takes one batch, or ends a copy that was interrupted or never made. Returns the number of rows of the log that are new.

        Raises: `ReplicationRefused` if the link's end or this database refuses; nothing was applied then."""
        before = await self._replica.state()
        if before.copying is not None or before.head == START:
            await self.copy(before.copying)
            return (await self._replica.state()).head.seq
        batch = await self._link.batch(before.as_follower)
        # One without rows too: it may bring a later epoch, or be refused.
        head = await self._replica.apply(batch)
        if head.seq > before.head.seq:
            await self._doorbell.notify(*_OF_ROWS)
        return head.seq - before.head.seq

    async def catch_up(self) -> None:
        """Takes batches until there is nothing left to take.

        Raises: `ReplicationRefused` as `advance` does."""
        while await self.advance():
            pass

    async def copy(self, progress: CopyProgress | None = None) -> None:
        """Copies the whole region, from ``progress`` on if it is given. Rows that came meanwhile are left to ``advance``.

        Raises: `ReplicationRefused` if the link's end is not the primary, or this database not a secondary."""
        if progress is not None:
            try:
                await self._copy_from(progress)
            except ReplicationRefused as refused:
                if refused.refusal not in _BEGIN_ANEW:
                    raise
            else:
                return
        await self._replica.begin_copy(await self._link.tail())
        begun = (await self._replica.state()).copying
        if begun is not None:
            await self._copy_from(begun)

    async def _copy_from(self, progress: CopyProgress) -> None:
        left: CopyProgress | None = progress
        while left is not None:
            left = await self._replica.apply_piece(await self._link.piece(left))
        await self._doorbell.notify(*_OF_ROWS)
