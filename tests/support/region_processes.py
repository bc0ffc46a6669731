"""Three regions on one machine, each a process and a PostgreSQL server of its own, with one etcd that has a member in
each."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.embedded.ports import free_ports
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import ProcessId, end, spawn
from cluster.rpc.control import ask_leader
from tests.support.etcd import EtcdMember, etcd_members
from tests.support.links import FaultProxy, RegionIssuer
from tests.support.probes import eventually
from tests.support.reaper import after_us_end
from tests.support.region_process import work_socket
from tests.support.stores import own_stores

NAMES = ("east", "north", "west")
ROOT = Path(__file__).parents[2]
#: What a region's process is: its leader alone, which commits by the commit function, or with the real actors and API.
LEADERS = "tests.support.region_process"
WHOLE = "tests.support.region_api"
#: The fast profile: etcd grants no shorter lease.
FAST = {
    "ARAGORA_LEADER_ELECTION_TIMEOUT": "2",
    "ARAGORA_STALE_LEADER_THRESHOLD": "6",
    "ARAGORA_SYNC_INTERVAL": "1",
    "ARAGORA_REGION_HEARTBEAT": "0.2",
}


@dataclass
class RegionOnMachine:
    name: str
    environment: dict[str, str]
    folder: Path
    postgres: EmbeddedPostgres
    module: str
    process: ProcessId | None = None

    @property
    def url(self) -> str:
        """Of its API, if its process has one."""
        return f"http://127.0.0.1:{self.environment['ARAGORA_HTTP_PORT']}/api/control-plane"

    @property
    def socket(self) -> Path:
        return self.folder / "c"

    def start(self) -> None:
        """A new life of its process."""
        command = [sys.executable, "-m", self.module]
        self.process = spawn(command, log=self.folder / "log", env={**os.environ, **self.environment}, cwd=ROOT)
        after_us_end("session", self.process.to_json())

    def kill(self) -> None:
        assert self.process is not None
        end([self.process], first=signal.SIGKILL)

    def freeze(self, *, go_on: bool = False) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGCONT if go_on else signal.SIGSTOP)

    async def ask(self, command: str, timeout_s: float = 60.0, **arguments: Any) -> Any:
        return await ask_leader(self.socket, command, timeout_s=timeout_s, **arguments)

    async def command(self, *words: str, **variables: str) -> tuple[int, str]:
        """The exit code of ``aragora-cp region`` on this machine, and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cluster.cli.main", "region", *words),
            env={**os.environ, **self.environment, **variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def work(self, command: str, timeout_s: float = 30.0, **arguments: Any) -> Any:
        return await ask_leader(work_socket(self.socket), command, timeout_s=timeout_s, **arguments)


@dataclass
class RegionBench:
    """``links``: by who asks and who answers; ``etcd_links``: by the region, and the one whose member of etcd it asks. They are
    empty if nothing stands between."""

    regions: dict[str, RegionOnMachine]
    etcd: Sequence[EtcdMember]
    links: dict[tuple[str, str], FaultProxy] = field(default_factory=dict)
    etcd_links: dict[tuple[str, str], FaultProxy] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    asked: int = 0

    async def write(self, among: Iterable[str] = NAMES) -> str:
        """One task, at whichever region takes it, and its answer. What nobody answered has an unknown outcome, so each try is
        another task."""

        async def acked() -> str | None:
            for name in among:
                self.asked += 1
                task = f"t{self.asked}"
                try:
                    await self.regions[name].work("submit", ids=[task])
                except ControlPlaneError:
                    continue
                self.acknowledged.append(task)
                return name
            return None

        region: str = await eventually(acked, 60.0, "a write is answered")
        return region

    async def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.regions[name].ask("status", 5.0)
        return found

    async def primary(self, among: Sequence[str] = NAMES, in_sync: Sequence[str] | None = None) -> str:
        """The primary, as soon as it writes with all of ``in_sync`` (those of ``among``) in its set."""
        wanted = set(among if in_sync is None else in_sync)

        async def found() -> str | None:
            for name in among:
                try:
                    status = await self.status(name)
                except TryLater:
                    continue
                if status["phase"] == "primary" and wanted <= set(status.get("in_sync", ())):
                    return name
            return None

        name: str = await eventually(found, 60.0, f"a primary with {wanted}")
        return name

    async def lost(self, at: str) -> set[str]:
        """The acknowledged tasks that a region has not got."""
        return set(self.acknowledged) - set(await self.regions[at].work("tasks"))

    def etcd_of(self, name: str) -> EtcdMember:
        """The member of etcd in a region."""
        return self.etcd[NAMES.index(name)]

    async def killed(self, name: str, *, with_etcd: bool = False) -> float:
        """Kills the process of the primary; returns the seconds from then to the first answer to a write."""
        began = time.monotonic()
        self.regions[name].kill()
        if with_etcd:
            self.etcd_of(name).kill()
        await self.write([other for other in NAMES if other != name])
        return time.monotonic() - began


@asynccontextmanager
async def region_bench(module: str = LEADERS, *, proxied: bool = False, **changes: str) -> AsyncIterator[RegionBench]:
    """Regions that have started; ``east`` founds the zone. ``module``: what the process of each is. ``proxied``: a proxy stands
    in each link, and between each region and each member of etcd. ``changes``: variables of all of them."""
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aragora-regions-")))
        members = stack.enter_context(etcd_members(NAMES))
        issuer = RegionIssuer(base)
        numbers = free_ports(2 * len(NAMES))
        ports, apis = (dict(zip(NAMES, some, strict=True)) for some in (numbers[:3], numbers[3:]))
        links, etcd_links = {}, {}
        if proxied:
            for pair in itertools.permutations(NAMES, 2):
                links[pair] = await stack.enter_async_context(FaultProxy(ports[pair[1]]).running())
            for pair in itertools.product(NAMES, NAMES):
                target = int(members[NAMES.index(pair[1])].url.rpartition(":")[2])
                etcd_links[pair] = await stack.enter_async_context(FaultProxy(target).running())
        regions = {}
        for name in NAMES:
            folder = base / name
            folder.mkdir()
            files = issuer.files(name)
            postgres, redis = stack.enter_context(own_stores())
            peers = {other: links[name, other].port if proxied else ports[other] for other in NAMES if other != name}
            endpoints = [member.url for member in members]
            if proxied:
                endpoints = [f"http://127.0.0.1:{etcd_links[name, other].port}" for other in NAMES]
            environment = {
                "ARAGORA_REGION": name,
                "ARAGORA_PRIMARY_REGION": "east",
                "ARAGORA_REGION_PEERS": ",".join(f"{other}=127.0.0.1:{port}" for other, port in peers.items()),
                "ARAGORA_REGION_LISTEN": f"127.0.0.1:{ports[name]}",
                "ARAGORA_REGION_CERT_FILE": files.certificate,
                "ARAGORA_REGION_KEY_FILE": files.key,
                "ARAGORA_REGION_CA_FILE": files.authority,
                "ARAGORA_REGION_SOCKET": str(folder / "c"),
                "ARAGORA_ETCD_ENDPOINTS": ",".join(endpoints),
                "ARAGORA_DATABASE_URL": postgres.url,
                "ARAGORA_REDIS_URL": redis.url,
                "ARAGORA_HTTP_PORT": str(apis[name]),
                "ARAGORA_REGION_URLS": ",".join(f"{other}=http://127.0.0.1:{port}" for other, port in apis.items()),
                "ARAGORA_ENABLE_METRICS": "false",
                "ARAGORA_DATA_DIR": str(folder),
            }
            regions[name] = RegionOnMachine(name, environment | FAST | changes, folder, postgres, module)
        stack.enter_context(_ended(regions.values()))
        for region in regions.values():
            region.start()
        yield RegionBench(regions, members, links, etcd_links)


@contextmanager
def _ended(regions: Iterable[RegionOnMachine]) -> Any:
    try:
        yield
    finally:
        end([region.process for region in regions if region.process is not None], first=signal.SIGKILL)
