"""What an operator asks of a region's leader: how the zone stands, to hand it over, to take it with a loss, to come and to go.

It works on the group and on this region's own database, so that it works when the rest of the deployment does not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from cluster.domain.base.errors import Conflict, InvalidRequest, TryLater
from cluster.domain.replication.batch import LogRange, PeerReport
from cluster.domain.replication.quorum import ReplicationMode
from cluster.ports.consensus_group import KeyCompare, KeyPut
from cluster.ports.replication import LinkLost, LinkRefused
from regions.domain.group import MEMBERS_KEY, RegionGroup, RegionMember, ZoneRecord, founded
from regions.domain.leadership import Leadership, RegionPhase
from regions.domain.transactions import AcceptLoss, SetMode, changed
from regions.shell.group_access import found_zone
from regions.shell.region_shell import RegionShell, ShellParts

_logger = logging.getLogger(__name__)
#: How many election timeouts a change of the primary may take before the operator is told that it has not ended.
_ELECTIONS = 4
#: Stores a row of the log: its kind, and its data.
Audit = Callable[[str, Mapping[str, Any]], Awaitable[None]]


class RegionOperator:
    """Of one zone. ``members`` is what this region's settings say of the group, ``first_primary`` the region that founds the
    zone; None if none may lead it."""

    def __init__(
        self,
        region: str,
        zone: str,
        shell: RegionShell,
        parts: ShellParts,
        members: RegionGroup,
        first_primary: str | None,
        mode: ReplicationMode,
        audit: Audit,
    ) -> None:
        self._region = region
        self._record_key = ZoneRecord(zone=zone).key
        self._zone = zone
        self._shell = shell
        self._parts = parts
        self._members = members
        self._first_primary = first_primary
        self._mode = mode
        self._audit = audit

    # --- the group ----------------------------------------------------------------------------------------------------

    async def found(self) -> str | None:
        """Founds the zone if this region is to. Returns why it cannot be, in a sentence; None if it is, or is another's to found.

        Raises: `StoreUnavailable`."""
        view = await self._parts.group.read("")
        if self._region != self._first_primary or view.value(self._record_key) is not None:
            return None
        members = view.value(MEMBERS_KEY)
        if members is not None and not RegionGroup.decode(members).may_lead(self._zone, self._region):
            return (
                f"By the members of the group {self._region} may not be primary of zone {self._zone}; make it one: "
                "aragora-cp region join."
            )
        reports = {self._region: await self._parts.database.report(), **await self._reports()}
        told = sorted(region for region, report in reports.items() if report.version > 0)
        if told:
            # Whoever was told of a record may hold rows that were answered, and this region may not.
            return (
                f"The group has no record of zone {self._zone}, but the database of {told[0]} was told of one, so etcd has lost "
                "its data; restore etcd from a snapshot."
            )
        epoch = max(max(report.epoch, report.position.epoch) for report in reports.values())
        record = replace(founded(self._zone, self._region, (), self._mode), epoch=epoch)
        await found_zone(self._parts.group, self._members, record)
        return None

    async def _reports(self) -> dict[str, PeerReport]:
        """What the databases of the peers say that answer."""

        async def asked(region: str) -> tuple[str, PeerReport] | None:
            try:
                return region, await self._parts.links[region].report()
            except (LinkLost, LinkRefused):
                return None

        return dict(filter(None, await asyncio.gather(*map(asked, self._parts.links))))

    async def _read(self) -> tuple[str, RegionGroup, str, ZoneRecord]:
        """Members and record, each also as its text, which a swap compares."""
        view = await self._parts.group.read("")
        members, record = view.value(MEMBERS_KEY), view.value(self._record_key)
        if members is None or record is None:
            raise TryLater(f"Zone {self._zone} is not founded yet; {self._first_primary} does it when it starts.")
        return members, RegionGroup.decode(members), record, ZoneRecord.decode(record)

    async def _swap_members(self, before: str, after: RegionGroup) -> None:
        compares = [KeyCompare(key=MEMBERS_KEY, value=before)]
        if not await self._parts.group.swap(compares, [KeyPut(key=MEMBERS_KEY, value=after.encode())]):
            raise TryLater("The members of the group have changed meanwhile; try again.")

    async def join(self) -> dict[str, Any]:
        """Makes this region a member. It returns when it is one; the primary takes it into the in-sync set when it has caught up.

        Raises: `TryLater` if the group does not answer, or is changed by somebody else."""
        text, group, _, _ = await self._read()
        if group.member(self._region) is None:
            own = self._members.member(self._region)
            assert own is not None, "settings name the region itself"
            await self._swap_members(text, replace(group, members=(*group.members, own)))
            await self._done("region.joined", region=self._region)
        self._shell.follow(True)
        return {"region": self._region, "member": True}

    async def leave(self) -> dict[str, Any]:
        """Takes this region out of the group: first it stops following, so that it leaves the in-sync set, and nothing that
        was answered rests on it.

        Raises: `Conflict` if it is the primary; `TryLater` if it is in the set still, or the group does not answer."""
        _, group, _, _ = await self._read()
        if group.member(self._region) is None:
            return {"region": self._region, "member": False}
        await self.check_leaves()
        await self.leave_set()
        text, group, _, _ = await self._read()
        left = tuple(member for member in group.members if member.region != self._region)
        await self._swap_members(text, replace(group, members=left))
        await self._done("region.left", region=self._region)
        return {"region": self._region, "member": False}

    async def check_leaves(self) -> None:
        """Raises: `Conflict` if this region is the zone's primary; `TryLater` if the group does not answer."""
        _, _, _, record = await self._read()
        if record.primary == self._region:
            raise Conflict(
                f"This region is the primary of zone {self._zone}; hand the zone over first: aragora-cp region failover --to.",
                "is_primary",
            )

    def follow(self) -> None:
        """From now on this region takes again what the primary sends."""
        self._shell.follow(True)

    async def leave_set(self) -> None:
        """Stops following, and returns when this region has left the in-sync set.

        Raises: `TryLater` if it is in the set still; then it follows as before."""
        self._shell.follow(False)
        timers = self._shell.state.timers
        out = await self._shell.until(
            lambda state: state.record is not None and self._region not in state.record.in_sync,
            2 * timers.sync_s + timers.election_s,
        )
        _, _, _, record = await self._read()
        if not out or self._region in record.in_sync:
            self._shell.follow(True)
            raise TryLater("The primary counts this region in the in-sync set still; write something, or try again.")

    # --- who is primary -----------------------------------------------------------------------------------------------

    async def failover(self, to: str) -> dict[str, Any]:
        """A planned transfer to ``to``, which catches up first: nothing is lost.

        Raises: `Conflict` if it cannot be made; `TryLater` if it cannot be made yet, or has not ended in time."""
        await self._asked("region.transfer_asked", heir=to)
        self._shell.transfer(to)
        return await self._ended(lambda state: state.record is not None and state.record.primary == to)

    async def failback(self) -> dict[str, Any]:
        """A planned transfer to the region that was the primary at first.

        Raises: as `failover`."""
        if self._first_primary is None:
            raise Conflict(f"No region may be primary of zone {self._zone}.", "not_eligible")
        return await self.failover(self._first_primary)

    async def take(self) -> dict[str, Any]:
        """A planned transfer to this region, for which it asks the primary.

        Raises: `Conflict` if this region has no link to it; else as `failover`."""
        record = self._shell.state.record
        if record is None or record.primary is None or record.primary == self._region:
            raise Conflict("No other region is the zone's primary, so none can hand the zone over.", "is_primary")
        await self._parts.links[record.primary].hand_over()
        found = await self._ended(lambda state: state.phase is RegionPhase.PRIMARY)
        return {**found, "audited": await self._done("region.transfer_asked", heir=self._region)}

    async def sums(self, after: int, upto: int) -> dict[str, Any]:
        """By region, a range of its log as `LogSums`, or the code of what kept it from answering.

        Raises: `StoreUnavailable` if this region's own database does not answer."""
        of = LogRange(after=after, upto=upto)

        async def asked(region: str) -> dict[str, Any]:
            try:
                return asdict(await self._parts.links[region].sums(of))
            except (LinkLost, LinkRefused) as error:
                return {"problem": error.code}

        others = await asyncio.gather(*map(asked, self._parts.links))
        return {
            self._region: asdict(await self._shell.peers.sums(self._region, of)),
            **dict(zip(self._parts.links, others, strict=True)),
        }

    async def accept_loss(self) -> dict[str, Any]:
        """Makes this region primary although it may lack rows that were answered.

        Raises: `Conflict` if it is not whole or may not lead; `TryLater` if the group does not answer, or it has not ended."""
        _, group, text, record = await self._read()
        own = await self._parts.database.report()
        if not own.is_whole:
            raise Conflict(
                "This region has a part of a copy only, or lacks what is resident in a zone that it is not in; choose one that "
                "is whole.",
                "copy_incomplete",
            )
        reports = [own, *(await self._reports()).values()]
        change = AcceptLoss(
            candidate=self._region,
            epochs=tuple(report.epoch for report in reports),
            versions=tuple(report.version for report in reports),
        )
        after = changed(record, group, change)
        _logger.warning("an operator makes this region primary, and accepts that acknowledged rows may be lost")
        await self._swap_record(text, after)
        found = await self._ended(lambda state: state.phase is RegionPhase.PRIMARY)
        return {**found, "audited": await self._done("region.loss_accepted", heir=self._region)}

    async def set_mode(self, mode: str) -> dict[str, Any]:
        """Whether answers wait for the in-sync set (``sync``) or for nobody (``async``). In either direction the set is the
        primary alone at first; under ``sync`` the others return when they have caught up, and until then writes are refused.

        Only at the primary: without one, ``async`` would let a region be elected that lacks acknowledged rows.

        Raises: `InvalidRequest` if there is no such mode; `Conflict` if this region is not the primary; `TryLater` if the group
        does not answer, or the record was changed meanwhile."""
        if mode not in tuple(ReplicationMode):
            raise InvalidRequest(f"There is no replication mode {mode}; give sync or async.")
        replication_mode = ReplicationMode(mode)
        _, group, text, record = await self._read()
        if self._shell.state.phase is not RegionPhase.PRIMARY or record.primary != self._region:
            raise Conflict("This region is not the zone's primary; give the command at the primary.", "not_primary")
        audited = True
        if record.mode is not replication_mode:
            await self._swap_record(text, changed(record, group, SetMode(mode=replication_mode)))
            found = await self._ended(lambda state: state.record is not None and state.record.mode is replication_mode)
            audited = await self._done("region.mode_set", mode=mode)
        else:
            found = {"primary": record.primary, "epoch": record.epoch, "in_sync": sorted(record.in_sync)}
        return {**found, "mode": mode, "audited": audited}

    async def _swap_record(self, before: str, after: ZoneRecord) -> None:
        compares = [KeyCompare(key=self._record_key, value=before)]
        if not await self._parts.group.swap(compares, [KeyPut(key=self._record_key, value=after.encode())]):
            raise TryLater(
                "The zone's record has changed meanwhile; look at `aragora-cp region status`, and try again."
            )

    async def _ended(self, condition: Callable[[Leadership], bool]) -> dict[str, Any]:
        if not await self._shell.until(condition, _ELECTIONS * self._shell.state.timers.election_s):
            raise TryLater(
                "The change of the primary has not ended yet; `aragora-cp region status` shows how it goes on."
            )
        record = self._shell.state.record
        assert record is not None
        return {"primary": record.primary, "epoch": record.epoch, "in_sync": sorted(record.in_sync)}

    async def _asked(self, kind: str, **data: str) -> None:
        """Who is no primary cannot write rows; its own log says it then.

        Raises: `TryLater` if the row cannot be stored; then nothing is to be done."""
        _logger.warning("an operator asks: %s %s", kind, data)
        if self._shell.state.phase is RegionPhase.PRIMARY:
            await self._audit(kind, data)

    async def _done(self, kind: str, **data: str) -> bool:
        """As `_asked`, for a change that has been made: it is no failure if its row cannot be stored at once, as when the
        database is trusted again only after the next renewal. Returns whether there is a row."""
        _logger.warning("an operator has changed the group: %s %s", kind, data)
        timers = self._shell.state.timers
        with suppress(TimeoutError):
            async with asyncio.timeout(_ELECTIONS * timers.election_s):
                while self._shell.state.phase is RegionPhase.PRIMARY:
                    try:
                        await self._audit(kind, data)
                    except TryLater as error:
                        _logger.warning("the row %s is not stored yet: %s", kind, error.message)
                    else:
                        return True
                    await self._parts.clock.sleep(timers.heartbeat_s)
        return False

    # --- status -------------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """How the zone stands, as this region knows it.

        Raises: `StoreUnavailable` if the region's own database does not answer."""
        state, parts = self._shell.state, self._parts
        own, writes = await parts.database.report(), await parts.database.zone_role()
        surplus = [] if parts.surplus is None else [asdict(file) for file in parts.surplus.files()]
        found: dict[str, Any] = {
            "region": self._region,
            "zone": self._zone,
            "phase": state.phase.value,
            "role": writes.role,
            "epoch": writes.epoch,
            "trusted_until": writes.trusted_until,
            "head": own.position.seq,
            "whole": own.is_whole,
            "problem": None if self._shell.problem is None else self._shell.problem.value,
            "surplus": surplus,
            "lag": self._lag(state),
            "etcd_leader": None if self._shell.group_members is None else self._shell.group_members.leader,
            "contradictions": [*self._contradictions(state), *self._unnamed()],
        }
        if state.record is not None and state.group is not None:
            found |= {
                "primary": state.record.primary,
                "in_sync": sorted(state.record.in_sync),
                "mode": state.record.mode.value,
                "payload_copies": state.group.payload_copies(state.record),
                "members": [asdict(member) for member in state.group.members],
                "no_automatic_failover": state.group.why_not_automatic(),
            }
        refused = self._shell.why_not_write()
        return {**found, "no_writes": None if refused is None else refused.code}

    def summary(self) -> dict[str, Any]:
        """How the zone stands, in a few words; without its record if that is not known yet."""
        state = self._shell.state
        found: dict[str, Any] = {"zone": self._zone, "phase": state.phase.value}
        if state.record is not None and state.group is not None:
            found |= {
                "primary": state.record.primary,
                "epoch": state.record.epoch,
                "in_sync": sorted(state.record.in_sync),
                "payload_copies": state.group.payload_copies(state.record),
            }
        return found

    def _unnamed(self) -> list[str]:
        """Whether a member of etcd can be told to be this region's: it has the region's name."""
        found = self._shell.group_members
        if found is None or not found.names or self._region in found.names:
            return []
        return [
            f"No member of etcd has the name {self._region}, so etcd's leader is not moved out of this region while it is "
            "primary; start the region's member with that --name."
        ]

    def _lag(self, state: Leadership) -> dict[str, Any]:
        """At the primary, for each other data region: how many rows it has not confirmed. Elsewhere: since when nothing was
        heard of the primary, in seconds; None if nothing ever was."""
        if state.term is not None and state.group is not None:
            others = (region for region in state.group.data_regions() if region != self._region)
            return {region: {"rows": state.term.head - state.term.persisted.get(region, 0)} for region in others}
        silent_s = asyncio.get_running_loop().time() - state.heard_at
        heard = state.heard_at != float("-inf")
        stale = not heard or silent_s > state.timers.stale_s
        return {self._region: {"silent_s": round(silent_s, 3) if heard else None, "stale": stale}}

    def _contradictions(self, state: Leadership) -> list[str]:
        """Where this region's settings say something else than the group."""
        if state.group is None:
            return []
        theirs, ours = _by_name(state.group), _by_name(self._members)
        found = [
            f"The settings of {self._region} do not name {name}, a member."
            for name in sorted(theirs.keys() - ours.keys())
        ]
        found += [
            f"{name} is no member; give `aragora-cp region join` there." for name in sorted(ours.keys() - theirs.keys())
        ]
        both = sorted(ours.keys() & theirs.keys())
        found += [
            f"{name} is in the zone {ours[name].residency} by the settings of {self._region}, and in {theirs[name].residency} by "
            "the group."
            for name in both
            if ours[name].residency != theirs[name].residency
        ]
        return found + [
            f"{name} holds data in the one and is a witness in the other: the settings of {self._region}, the group."
            for name in both
            if ours[name].data != theirs[name].data
        ]


def _by_name(group: RegionGroup) -> dict[str, RegionMember]:
    return {member.region: member for member in group.members}
