"""What operators ask of a region's leader, for one of the zones that it keeps. Members are those of all zones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.domain.base.errors import InvalidRequest, TryLater
from cluster.domain.replication.quorum import DEFAULT_ZONE
from regions.control import Command
from regions.operator import RegionOperator

_COMMANDS = ("status", "failover", "failback", "take", "accept_loss", "set_mode", "join", "leave", "sums")


class ZoneOperators:
    """``operators``: by zone; the default zone is among them. What names no zone is for that one."""

    def __init__(self, operators: Mapping[str, RegionOperator]) -> None:
        self._operators = operators

    def commands(self) -> dict[str, Command]:
        """What operators may ask, by name."""
        return {name: getattr(self, name) for name in _COMMANDS}

    def of(self, zone: str) -> RegionOperator:
        """Raises: `InvalidRequest` (``unknown_zone``) if this region does not keep the zone."""
        found = self._operators.get(zone)
        if found is None:
            raise InvalidRequest(
                f"This region keeps no zone {zone} that has a primary of its own; name one of: {', '.join(self._operators)}.",
                "unknown_zone",
            )
        return found

    async def status(self, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """How a zone stands, and in a few words each other.

        Raises: `StoreUnavailable`; `InvalidRequest` as all that name a zone."""
        found = await self.of(zone).status()
        return {**found, "zones": [operator.summary() for operator in self._operators.values()]}

    async def failover(self, to: str, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """Raises: as `RegionOperator.failover`."""
        return await self.of(zone).failover(to)

    async def failback(self, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """Raises: as `RegionOperator.failback`."""
        return await self.of(zone).failback()

    async def take(self, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """Raises: as `RegionOperator.take`."""
        return await self.of(zone).take()

    async def accept_loss(self, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """Raises: as `RegionOperator.accept_loss`."""
        return await self.of(zone).accept_loss()

    async def set_mode(self, mode: str, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """Raises: as `RegionOperator.set_mode`."""
        return await self.of(zone).set_mode(mode)

    async def sums(self, after: int, upto: int, zone: str = DEFAULT_ZONE) -> dict[str, Any]:
        """Raises: as `RegionOperator.sums`."""
        return await self.of(zone).sums(after, upto)

    async def join(self) -> dict[str, Any]:
        """Makes this region a member, which follows each zone that it keeps.

        Raises: as `RegionOperator.join`."""
        found = [await operator.join() for operator in self._operators.values()]
        return found[0]

    async def leave(self) -> dict[str, Any]:
        """Takes this region out of the group, after it has left the in-sync set of each zone.

        Raises: as `RegionOperator.leave`; then it follows all zones as before."""
        operators = list(self._operators.values())
        for operator in operators:
            await operator.check_leaves()
        try:
            for operator in operators:
                await operator.leave_set()
        except TryLater:
            for operator in operators:
                operator.follow()
            raise
        return await operators[0].leave()
