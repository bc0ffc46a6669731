"""Three regions on one machine, for `aragora-cp regions demo`. Each is an `up --without-ray` with a data directory, stores
and a member of etcd of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cluster.cli.system import STOP_S, stop_other
from cluster.embedded.etcd import EtcdMember, etcd_members_in
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.ports import free_window
from cluster.embedded.processes import ProcessId, end, session_members, spawn, tail
from cluster.embedded.run_file import read_run_file
from cluster.embedded.secrets import write_private
from cluster.rpc.control import ask_leader

NAMES: Final = ("us-east-1", "us-west-2", "eu-west-1")
#: Says which processes belong to the regions of a folder: by it `aragora-cp down` ends what a killed demo has left.
GROUP_FILE: Final = "regions.json"
#: Variables that the regions take over from whoever starts them. All others are the demo's own, and those of one region
#: (a database's URL) would make three regions share it.
TAKEN_OVER: Final = (
    "ARAGORA_LEADER_ELECTION_TIMEOUT",
    "ARAGORA_STALE_LEADER_THRESHOLD",
    "ARAGORA_SYNC_INTERVAL",
    "ARAGORA_REGION_HEARTBEAT",
    "ARAGORA_LOG_LEVEL",
    "ARAGORA_LOG_MAX_BYTES",
)
TRUST_DOMAIN: Final = "aragora"
LIFE: Final = timedelta(days=30)
STATUS_S: Final = 5.0


@dataclass
class Region:
    """One region. ``etcd``: its member."""

    name: str
    folder: Path
    url: str
    environment: dict[str, str]
    etcd: EtcdMember
    process: ProcessId | None = None

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.name}.log")

    @property
    def layout(self) -> Layout:
        return Layout.of(self.folder)

    def processes(self) -> dict[str, ProcessId]:
        """Its processes by name, without etcd. Empty before it has started its stores."""
        running = read_run_file(self.layout)
        found = {} if running is None else {name: running.process(name) for name in running.processes}
        return {name: process for name, process in found.items() if process is not None and process.alive()}

    def pids(self) -> dict[str, int]:
        """The pid of each of its processes, by name."""
        pids = {name: process.pid for name, process in self.processes().items()}
        return pids | ({"etcd": self.etcd.process.pid} if self.etcd.process is not None else {})

    def kill(self) -> None:
        """Kills all of the region at once, with its member of etcd: nothing is flushed or released."""
        own = self.processes()
        up = own.pop("up", None)
        # First who would start the others again.
        end([process for process in (up, self.process) if process is not None], first=signal.SIGKILL)
        members = [member for process in own.values() for member in session_members(process) or [process]]
        end(members, first=signal.SIGKILL)
        self.etcd.kill()

    async def status(self) -> dict[str, Any]:
        """What its leader says. Raises: `TryLater` if it does not answer."""
        found: dict[str, Any] = await ask_leader(self.layout.region_socket, "status", timeout_s=STATUS_S)
        return found

    def check(self) -> None:
        """Raises: `EmbeddedError` if its command has ended."""
        if self.process is not None and not self.process.alive():
            raise EmbeddedError(f"Region {self.name} has ended: {tail(self.log)} (log: {self.log}).")


@dataclass
class RegionGroup:
    """The regions of a folder; the first founds the zone."""

    folder: Path
    #: Bound on the logs that are kept of each region.
    most_log_bytes: int
    regions: list[Region] = field(default_factory=list)

    def begin(self, etcd_binary: str) -> None:
        """Starts all processes, and does not wait until they answer.

        Raises: `EmbeddedError` if the folder is not empty, or a process ends at once."""
        # Those of an earlier demo may run still. If not, their etcd knows its members under ports that others may have now.
        if self.folder.exists() and any(self.folder.iterdir()):
            raise EmbeddedError(
                f"{self.folder} is not empty; choose another folder. If it has regions of an earlier demo, "
                f"`aragora-cp down --data-dir {self.folder} --delete-data` ends and deletes them."
            )
        self.regions = regions_in(self.folder, etcd_binary)
        for region in self.regions:
            self.start(region)

    def start(self, region: Region) -> None:
        """A new life of a region that does not run. Raises: `EmbeddedError` if a process ends at once."""
        region.etcd.start()
        self._note()
        command = [sys.executable, "-m", "cluster.cli.main", "up", "--without-ray"]
        region.process = spawn(command, log=region.log, env=region.environment, cwd=region.folder)
        self._note()

    def _note(self) -> None:
        """Writes down what runs, as soon as it does."""
        own = ProcessId.of(os.getpid())
        assert own is not None
        found = {
            "demo": own.to_json(),
            "regions": [region.name for region in self.regions],
            "processes": [
                process.to_json()
                for region in self.regions
                for process in (region.process, region.etcd.process)
                if process is not None
            ],
        }
        write_private(self.folder / GROUP_FILE, json.dumps(found, indent=2))

    def stop(self) -> None:
        """Ends what ``begin`` has started. Raises: `EmbeddedError` if a process does not end."""
        if self.regions:
            _stop(self.folder, self.most_log_bytes)


def stop_regions(folder: Path, most_log_bytes: int) -> bool:
    """Ends the demo that runs in a folder, or what a killed one has left there; False if there is none.

    Raises: `EmbeddedError` if a process does not end."""
    file = folder / GROUP_FILE
    if not file.exists():
        return False
    demo = ProcessId.from_json(json.loads(file.read_text())["demo"])
    if demo.pid != os.getpid():
        end([demo], first=signal.SIGKILL)  # what it would do is done here
    _stop(folder, most_log_bytes)
    return True


def _stop(folder: Path, most_log_bytes: int) -> None:
    file = folder / GROUP_FILE
    if not file.exists():
        return  # nothing was started
    found = json.loads(file.read_text())
    processes = [ProcessId.from_json(each) for each in found["processes"]]
    end(processes, grace_s=STOP_S)  # each command ends its region, all at the same time
    for name in found["regions"]:
        stop_other(Layout.of(folder / name), most_log_bytes)  # what a command that was killed has left
    file.unlink(missing_ok=True)


def regions_in(folder: Path, etcd_binary: str) -> list[Region]:
    """The regions of a folder, with certificates and ports of their own, not started.

    Raises: `EmbeddedError` if there are no free ports."""
    from cluster.embedded.authority import DevelopmentAuthority  # loads cryptography

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    count, first = len(NAMES), free_window(4 * len(NAMES))
    ports = range(first, first + 4 * count)
    apis, links = dict(zip(NAMES, ports, strict=False)), dict(zip(NAMES, ports[count:], strict=False))
    etcd = folder / "etcd"
    etcd.mkdir(mode=0o700, exist_ok=True)
    members = etcd_members_in(etcd, etcd_binary, NAMES, ports[2 * count :])
    authority, now = DevelopmentAuthority(folder / "ca"), datetime.now(UTC)
    if not authority.file.exists():
        authority.create(now)
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - a child inherits it
        if name in TAKEN_OVER or not name.startswith(("ARAGORA_", "RAY_"))
    }
    regions = []
    for name, member in zip(NAMES, members, strict=True):
        files = authority.issue_region(name, TRUST_DOMAIN, now, LIFE)
        own = folder / name
        own.mkdir(mode=0o700, exist_ok=True)
        environment = kept | {
            "ARAGORA_DATA_DIR": str(own),
            "ARAGORA_HTTP_PORT": str(apis[name]),
            "ARAGORA_ENABLE_METRICS": "false",
            "ARAGORA_REGION": name,
            "ARAGORA_PRIMARY_REGION": NAMES[0],
            "ARAGORA_REGION_PEERS": ",".join(f"{other}=127.0.0.1:{links[other]}" for other in NAMES if other != name),
            "ARAGORA_REGION_LISTEN": f"127.0.0.1:{links[name]}",
            "ARAGORA_REGION_CERT_FILE": str(files.certificate),
            "ARAGORA_REGION_KEY_FILE": str(files.key),
            "ARAGORA_REGION_CA_FILE": str(authority.file),
            "ARAGORA_REGION_URLS": ",".join(f"{other}=http://127.0.0.1:{port}" for other, port in apis.items()),
            "ARAGORA_TLS_TRUST_DOMAIN": TRUST_DOMAIN,
            "ARAGORA_ETCD_ENDPOINTS": ",".join(each.url for each in members),
        }
        regions.append(Region(name, own, f"http://127.0.0.1:{apis[name]}", environment, member))
    return regions
