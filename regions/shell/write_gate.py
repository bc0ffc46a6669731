"""Opens and closes the region's own database to writes, as the machine decides, and tells the machine how its log stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cluster.domain.base.errors import Fenced, StoreUnavailable
from cluster.ports.clock import Clock
from cluster.ports.replication import RegionDatabase, Replica
from regions.domain.leadership import (
    CloseWrites,
    DatabaseRefused,
    MoveTrust,
    OpenWrites,
    RegionPhase,
    RememberVersion,
    Tick,
    WritesClosed,
    WritesOpened,
)
from regions.shell.group_access import region_report
from regions.shell.machine_runner import Carried, MachineRunner

_logger = logging.getLogger(__name__)


class WriteGate:
    """The role of the region's database changes here only, one change at a time."""

    def __init__(self, runner: MachineRunner, database: RegionDatabase, replica: Replica, clock: Clock) -> None:
        self._runner = runner
        self._database = database
        self._replica = replica
        self._clock = clock
        self._lock = asyncio.Lock()
        #: Whether a close has failed: the next heartbeat tries again. ``_close`` alone changes it.
        self._must_close = False

    def carried(self) -> Carried:
        """The effects that are carried out here."""
        return {
            OpenWrites: self._open,
            CloseWrites: self._close,
            MoveTrust: self._move_trust,
            RememberVersion: self._remember_version,
        }

    async def close_earlier(self) -> None:
        """A process that starts knows no term, so what an earlier one left open is closed first.

        Raises: `Conflict` if the database keeps another zone; `StoreUnavailable` if it does not answer."""
        await self._database.keep()
        await self._database.remember_version(0)
        await self._database.close_writes()

    async def tick_forever(self) -> None:
        """The machine's heartbeat, with how the database stands."""
        while True:
            report = self._runner.state.own
            try:
                if self._must_close:
                    await self._close(CloseWrites())
                report = region_report(await self._database.report())
            except StoreUnavailable:
                _logger.warning("the region's database does not answer its leader")
            self._runner.take(Tick(own=report))
            await self._clock.sleep(self._runner.state.timers.heartbeat_s)

    async def become_secondary(self, still: Callable[[], bool]) -> bool:
        """Makes the database take a primary's rows, if it does not. False if it cannot, or it is not to be ``still``."""
        found = await self._replica.state()
        if found.role == "secondary":
            return True
        async with self._lock:
            # With its own epoch: a later one is the primary's to tell, and an election that was won meanwhile is not undone.
            return still() and await self._replica.set_role("secondary", found.epoch or 0, None)

    async def _open(self, effect: OpenWrites) -> None:
        async with self._lock:
            try:
                head = await self._database.open_writes(effect.epoch, effect.trusted_until)
            except (Fenced, StoreUnavailable):
                head = None
            if head is None:
                self._runner.take(DatabaseRefused())
                return
            if self._runner.state.phase is RegionPhase.OPENING:
                self._runner.take(WritesOpened(epoch=effect.epoch, head=head))
                return
        await self._close(CloseWrites())  # the machine has given up meanwhile

    async def _close(self, effect: CloseWrites) -> None:
        async with self._lock:
            try:
                head = await self._database.close_writes()
            except StoreUnavailable:
                self._must_close = True  # trust ends by itself, and the next heartbeat tries again
                return
            self._must_close = False
        self._runner.take(WritesClosed(head=head))

    async def _move_trust(self, effect: MoveTrust) -> None:
        try:
            await self._database.move_trust(effect.epoch, effect.trusted_until)
        except StoreUnavailable:
            return

    async def _remember_version(self, effect: RememberVersion) -> None:
        try:
            await self._database.remember_version(effect.version)
        except StoreUnavailable:
            return
