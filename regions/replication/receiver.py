"""The receiving end: it asks its database where it is, takes what follows, and wakes the followers of this region's log.

Between two batches it remembers where its database is, which nothing else moves. Whatever interrupts it, also within a
transaction, the next one begins where the database is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cluster.domain.replication.batch import START, CopyProgress, Refusal, ReplicaState, ReplicationRefused
from cluster.ports.replication import Replica, ReplicationLink
from cluster.ports.wake_ups import OF_REGIONS, Doorbell, WakeTopic
from cluster.process.loops import ended

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
        after = await self._taken(before)
        if after.head.seq > before.head.seq:
            await self._doorbell.notify(*_OF_ROWS)
        return after.head.seq - before.head.seq

    async def follow(self, goes_on: Callable[[], bool]) -> None:
        """Takes one batch after the other, for as long as ``goes_on`` says so after one. What a batch brought is confirmed by the
        question for the next one, which does not wait for the doorbell.

        Raises: `ReplicationRefused` as `advance` does."""
        state = await self._replica.state()
        notifying: set[asyncio.Task[None]] = set()
        try:
            while True:
                before, state = state, await self._taken(state)
                if state.head.seq > before.head.seq:
                    task = asyncio.create_task(self._doorbell.notify(*_OF_ROWS))
                    notifying.add(task)
                    task.add_done_callback(notifying.discard)
                if not goes_on():
                    return
        finally:
            await ended(*notifying)

    async def _taken(self, state: ReplicaState) -> ReplicaState:
        if state.copying is not None or state.head == START:
            await self.copy(state.copying)
            return await self._replica.state()
        # One without rows too: it may bring a later epoch, or be refused.
        return await self._replica.apply(await self._link.batch(state.as_follower))

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
