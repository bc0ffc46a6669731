"""All that one region's process of several has: the group, and per zone the links, the shell that drives the region, and what
operators ask.

It knows neither Ray nor a driver of a database: who composes it hands the adapters over. A region alone never imports this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.domain.base.errors import InvalidRequest, StoreUnavailable
from cluster.domain.replication.quorum import DEFAULT_ZONE, ReplicationMode
from cluster.http.etcd_tls import EtcdTls
from cluster.ports.clock import Clock
from cluster.ports.replication import RegionDatabase, Replica, ReplicationReads, ReplicationStatuses
from cluster.ports.wake_ups import Doorbell
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.settings import Settings
from cluster.version import VERSION
from regions.consensus.etcd import EtcdGroup
from regions.control import Command, ControlSocket
from regions.domain.group import RegionGroup, RegionMember
from regions.domain.zones import first_primary
from regions.links.identity import PeerFiles
from regions.links.link import TlsLink
from regions.links.messages import NEWEST_PROTOCOL, OLDEST_PROTOCOL, Greeting
from regions.links.server import LinkServer
from regions.operator import Audit, RegionOperator
from regions.replication.source import ReplicationSource
from regions.replication.surplus import SurplusFiles
from regions.shell.region_shell import RegionShell, ShellParts
from regions.zone_operators import ZoneOperators

_logger = logging.getLogger(__name__)
#: The zone that all regions keep.
ZONE = DEFAULT_ZONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStores:
    """The region's own database of one zone, and its bell."""

    database: RegionDatabase
    replica: Replica
    reads: ReplicationReads
    doorbell: Doorbell
    audit: Audit
    statuses: ReplicationStatuses


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePart:
    """What the process has for one zone: the shell that drives the region there, its links, and what operators ask."""

    shell: RegionShell
    links: Mapping[str, TlsLink]
    operator: RegionOperator


class RegionProcess:
    """``stores``: by zone that the region keeps, the default zone among them; each zone has a schema of its own. ``key`` is
    different for each life of the process. ``socket``: where operators reach it; ``surplus``: the directory of the files of
    surplus rows."""

    def __init__(
        self,
        settings: Settings,
        stores: Mapping[str, RegionStores],
        clock: Clock,
        *,
        key: str,
        socket: Path,
        surplus: Path,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_fatal = on_fatal
        self._loops = Loops(on_fatal)
        self._open = AsyncExitStack()
        self._group = etcd_group(settings, clock)
        self._files = peer_files(settings)
        self._key = key
        self._surplus = surplus
        self.zones = {zone: self._part(zone, of_zone) for zone, of_zone in stores.items()}
        #: Of the default zone.
        self.shell = self.zones[ZONE].shell
        ends = {zone: part.shell.peers for zone, part in self.zones.items()}
        peers = settings.peer_addresses()
        self._server = LinkServer(ends, self._greeting(ZONE), peers, self._files, clock, on_fatal=on_fatal)
        self._operators = ZoneOperators({zone: part.operator for zone, part in self.zones.items()})
        self._control = ControlSocket(socket, self.commands())

    def _greeting(self, zone: str) -> Greeting:
        return Greeting(
            region=self._settings.region, zone=zone, release=VERSION, oldest=OLDEST_PROTOCOL, newest=NEWEST_PROTOCOL
        )

    def _part(self, zone: str, stores: RegionStores) -> ZonePart:
        settings, region = self._settings, self._settings.region
        greeting, members = self._greeting(zone), members_of(settings)
        links = {
            peer: TlsLink(peer, address, greeting, self._files) for peer, address in settings.peer_addresses().items()
        }
        surplus = self._surplus if zone == ZONE else self._surplus / zone
        parts = ShellParts(
            group=self._group,
            database=stores.database,
            replica=stores.replica,
            source=ReplicationSource(stores.reads, zone),
            links=links,
            doorbell=stores.doorbell,
            clock=self._clock,
            surplus=SurplusFiles(surplus, region, zone, stores.reads),
            statuses=stores.statuses,
            zones=settings.zones().zones,
        )
        shell = RegionShell(region, zone, self._key, settings.region_timers(), parts, self._on_fatal)
        operator = RegionOperator(
            region,
            zone,
            shell,
            parts,
            members,
            first_primary(members, zone, settings.first_primary),
            settings.replication_mode or ReplicationMode.SYNC,
            stores.audit,
        )
        return ZonePart(shell=shell, links=links, operator=operator)

    def commands(self) -> dict[str, Command]:
        """What operators may ask, by name."""
        return self._operators.commands()

    async def start(self) -> None:
        """Raises: `StoreUnavailable` if the region's database does not answer; `Conflict` if the schema of a zone keeps another;
        `OSError` if an address is taken, or a file of certificates cannot be used."""
        self._open.push_async_callback(self._group.close)
        for part in self.zones.values():
            for link in part.links.values():
                self._open.push_async_callback(link.close)
        try:
            await self._server.start(*self._settings.listen_address())
            self._open.push_async_callback(self._server.stop)
            await self._control.start()
            self._open.push_async_callback(self._control.stop)
            for part in self.zones.values():
                self._open.push_async_callback(part.shell.stop)
                await part.shell.start()
        except BaseException:
            await self._open.aclose()
            raise
        self._loops.start(*(self._found(zone, part) for zone, part in self.zones.items()))
        self._open.push_async_callback(self._loops.stop)

    async def stop(self) -> None:
        """Ends all work where it is; the leases end by themselves."""
        await self._open.aclose()

    async def status(self) -> dict[str, object]:
        """What operators see."""
        return await self._operators.status()

    async def _found(self, zone: str, part: ZonePart) -> None:
        """Until the zone is founded: etcd may come later than this process, and a peer has to."""
        logged = ""
        while part.shell.state.record is None:
            try:
                why = await part.operator.found() or ""
            except StoreUnavailable as error:
                why = error.message
            if why != logged and why:
                _logger.warning("the zone %s is not founded yet: %s", zone, why)
            logged = why
            await self._clock.sleep(self._settings.region_heartbeat)


def members_of(settings: Settings) -> RegionGroup:
    """The group that the settings name."""
    data = (settings.region, *settings.peer_addresses())
    residency = settings.zones().zones
    members = [RegionMember(region=name, residency=residency.get(name)) for name in sorted(data)]
    members += [RegionMember(region=name, data=False) for name in sorted(settings.region_witnesses)]
    return RegionGroup(members=tuple(members), automatic_failover=settings.automatic_failover)


def peer_files(settings: Settings) -> PeerFiles:
    """The certificates of the links."""
    return PeerFiles(
        certificate=str(settings.region_cert_file),
        key=str(settings.region_key_file),
        authority=str(settings.region_ca_file),
        trust_domain=settings.tls_trust_domain,
    )


def _line_of(file: Path) -> str:
    return file.read_text().strip()


def etcd_group(settings: Settings, clock: Clock) -> EtcdGroup:
    """The client of the regions' etcd.

    Raises: `InvalidRequest` if a file that the settings name cannot be used."""
    tls = None
    if any(endpoint.startswith("https://") for endpoint in settings.etcd_endpoints):
        tls = EtcdTls(settings.etcd_ca_file, settings.etcd_cert_file, settings.etcd_key_file)
    file = settings.etcd_password_file
    password = None if file is None else partial(_line_of, file)
    try:
        if password is not None:
            password()
    except OSError as error:
        raise InvalidRequest(f"ARAGORA_ETCD_PASSWORD_FILE cannot be read; mend it: {error}.") from error
    return EtcdGroup(settings.etcd_endpoints, clock, tls=tls, user=settings.etcd_user, password=password)
