"""Processes of three regions that keep two zones, on etcd and links over TLS: what operators see and do in each zone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.composition.region_process import region_process
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.replication.quorum import DEFAULT_ZONE
from cluster.embedded.ports import free_ports
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from cluster.rpc.control import ask_leader
from cluster.settings import load_settings
from regions.process import RegionProcess
from tests.support.etcd import etcd_members, needs_etcd
from tests.support.links import RegionIssuer
from tests.support.probes import eventually
from tests.support.shells import NAMES, Bell
from tests.support.stores import StoreUrls, fresh_name

pytestmark = needs_etcd
EU = "eu"
RESIDENCY = {"north": EU, "west": EU}


@dataclass
class Regions:
    processes: dict[str, RegionProcess]
    stores: dict[str, dict[str, Stores]]
    sockets: dict[str, Path]

    async def ask(self, name: str, command: str, **arguments: Any) -> Any:
        return await ask_leader(self.sockets[name], command, timeout_s=60.0, **arguments)

    async def stands(self, zone: str, primary: str, in_sync: set[str]) -> dict[str, Any]:
        """The status of a zone at its primary, as soon as it is that, with this set."""

        async def found() -> dict[str, Any] | None:
            status: dict[str, Any] = await self.ask(primary, "status", zone=zone)
            is_so = status["phase"] == "primary" and set(status.get("in_sync", ())) == in_sync
            return status if is_so else None

        status: dict[str, Any] = await eventually(found, 60.0, f"{primary} leads {zone}")
        return status


def _environment(
    name: str, ports: dict[str, int], endpoints: list[str], issuer: RegionIssuer, folder: Path
) -> dict[str, str]:
    files = issuer.files(name)
    others = [other for other in NAMES if other != name]
    zones = ",".join(f"{other}={RESIDENCY[other]}" for other in others if other in RESIDENCY)
    return {
        "ARAGORA_REGION": name,
        "ARAGORA_PRIMARY_REGION": "east",
        "ARAGORA_DATA_RESIDENCY": RESIDENCY.get(name, ""),
        "ARAGORA_REGION_ZONES": zones,
        "ARAGORA_REGION_PEERS": ",".join(f"{other}=127.0.0.1:{ports[other]}" for other in others),
        "ARAGORA_REGION_LISTEN": f"127.0.0.1:{ports[name]}",
        "ARAGORA_REGION_CERT_FILE": files.certificate,
        "ARAGORA_REGION_KEY_FILE": files.key,
        "ARAGORA_REGION_CA_FILE": files.authority,
        "ARAGORA_REGION_SOCKET": str(folder / f"{name}.c"),
        "ARAGORA_ETCD_ENDPOINTS": ",".join(endpoints),
        "ARAGORA_DATA_DIR": str(folder / name),
        "ARAGORA_LEADER_ELECTION_TIMEOUT": "6",
        "ARAGORA_STALE_LEADER_THRESHOLD": "24",
        "ARAGORA_SYNC_INTERVAL": "5",
        "ARAGORA_REGION_HEARTBEAT": "0.2",
    }


@asynccontextmanager
async def _running(urls: StoreUrls, folder: Path) -> AsyncIterator[Regions]:
    async with AsyncExitStack() as stack:
        members = stack.enter_context(etcd_members(NAMES))
        issuer = RegionIssuer(folder)
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        found = Regions({}, {}, {})
        for name in NAMES:
            environment = _environment(name, ports, [member.url for member in members], issuer, folder)
            settings = load_settings(environment)
            found.stores[name] = {}
            for zone in (DEFAULT_ZONE, EU):
                schema = fresh_name()
                await migrate(urls.database, schema)
                opened = await open_stores(urls.database, schema, zone, max_connections=4, alone=False)
                stack.push_async_callback(opened.close)
                found.stores[name][zone] = opened
            found.sockets[name] = folder / f"{name}.c"
            found.processes[name] = region_process(settings, found.stores[name], Bell(), SystemClock())
        for process in found.processes.values():
            await process.start()
            stack.push_async_callback(process.stop)
        yield found


@pytest.fixture
async def regions(store_urls: StoreUrls, tmp_path: Path) -> AsyncIterator[Regions]:
    async with _running(store_urls, tmp_path) as found:
        yield found


async def test_each_zone_is_founded_shown_and_handed_over_by_itself(regions: Regions) -> None:
    default = await regions.stands(DEFAULT_ZONE, "east", set(NAMES))
    eu = await regions.stands(EU, "north", {"north", "west"})
    assert (eu["zone"], eu["role"], eu["payload_copies"], eu["problem"]) == (EU, "primary", 2, None)
    here = await regions.ask("north", "status")
    assert (here["zone"], here["role"], here["payload_copies"]) == (DEFAULT_ZONE, "secondary", 3)
    assert [(zone["zone"], zone["phase"], zone["primary"]) for zone in here["zones"]] == [
        (DEFAULT_ZONE, "following", "east"),
        (EU, "primary", "north"),
    ]
    with pytest.raises(InvalidRequest) as unknown:
        await regions.ask("north", "status", zone="us")
    assert (unknown.value.code, "default, eu" in unknown.value.message) == ("unknown_zone", True)
    with pytest.raises(Conflict) as outside:
        await regions.ask("north", "failover", to="east", zone=EU)
    assert outside.value.code == "not_in_sync"
    with pytest.raises(Conflict) as elsewhere:
        await regions.ask("north", "failover", to="west")
    assert elsewhere.value.code == "not_primary", "without a zone it is for that of all regions"

    found = await regions.ask("north", "failover", to="west", zone=EU)
    assert (found["primary"], found["epoch"] > eu["epoch"]) == ("west", True)
    await regions.stands(EU, "west", {"north", "west"})
    assert (await regions.ask("east", "status"))["epoch"] == default["epoch"]
    back = await regions.ask("west", "failback", zone=EU)
    assert back["primary"] == "north", "the first by name that may lead the zone"
    kinds = await regions.stores["north"][EU].pool.rows(
        "select distinct kind, zone from log where kind like 'region.t%'"
    )
    assert [tuple(row) for row in kinds] == [("region.transfer_asked", EU)]


async def test_a_region_that_is_lost_costs_each_zone_what_it_was_there(regions: Regions) -> None:
    default = await regions.stands(DEFAULT_ZONE, "east", set(NAMES))
    eu = await regions.stands(EU, "north", {"north", "west"})
    await regions.processes["north"].stop()
    west = await regions.stands(EU, "west", {"west"})
    assert (west["epoch"] > eu["epoch"], west["no_writes"], west["payload_copies"]) == (True, "not_replicated", 1)
    east = await regions.ask("east", "status")
    assert (east["phase"], east["epoch"], east["no_writes"]) == ("primary", default["epoch"], None)
    with pytest.raises(Conflict) as primary:
        await regions.ask("west", "leave")
    assert (primary.value.code, "zone eu" in primary.value.message) == ("is_primary", True)
