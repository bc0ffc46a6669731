"""Keeps the leader of the group's store out of the regions that are primary of a zone."""

from __future__ import annotations

import logging

from cluster.domain.base.errors import StoreUnavailable
from cluster.ports.consensus_group import ConsensusGroup, GroupMembers
from regions.domain.group import ZONE_PREFIX
from regions.domain.leadership import Leadership, PrimaryTerm, RegionPhase
from regions.domain.zones import primaries_of, records_of
from regions.shell.machine_runner import MachineRunner

_logger = logging.getLogger(__name__)


class StoreLeader:
    """While this region is primary, its member does not lead the group's store: whoever loses the region would wait for the
    store's election as well before that of the zone begins.

    This is no effect of the machine: no decision rests on who leads the store, and what a change of it does to the leases is a
    fault of the simulation. ``members``: who keeps the store, as of the last look; None if that found nobody."""

    def __init__(self, runner: MachineRunner, group: ConsensusGroup) -> None:
        self._runner = runner
        self._group = group
        self.members: GroupMembers | None = None

    async def run(self) -> None:
        """Looks after each election, and every few renewals."""
        logged = ""
        while True:
            term = self._runner.state.term
            why = await self._led_elsewhere()
            if why not in ("", logged):
                _logger.warning("the leader of etcd is not moved out of the primary's region: %s", why)
            logged = why

            def is_elected(state: Leadership, before: PrimaryTerm | None = term) -> bool:
                return state.term is not None and (before is None or state.term.epoch != before.epoch)

            await self._runner.until(is_elected, self._runner.state.timers.election_s)

    async def _led_elsewhere(self) -> str:
        """Looks, and moves the store's leader if it has to be. Returns why that cannot be done; empty if it is."""
        region = self._runner.state.region
        try:
            self.members = await self._group.members()
            if self._runner.state.phase is RegionPhase.PRIMARY and self.members.leader == region:
                view = await self._group.read(ZONE_PREFIX)
                records = records_of({key: entry.value for key, entry in view.entries.items()})
                # To the primary of another zone it would be moved on from there, and each move may start the leases anew.
                await self._group.move_leader(region, primaries_of(records))
                self.members = await self._group.members()
        except StoreUnavailable as error:
            self.members = None
            return error.message
        return ""
