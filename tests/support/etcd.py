"""Real etcd members on loopback, where etcd is installed (`.ci/run` does; elsewhere: `apt-get install etcd-server`)."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.base.errors import StoreUnavailable
from cluster.embedded.ports import free_ports
from cluster.embedded.processes import ProcessId, end, spawn
from cluster.process.clock import SystemClock
from regions.consensus.etcd import EtcdGroup
from tests.support.probes import eventually
from tests.support.reaper import after_us_end

ETCD = shutil.which("etcd")
#: For each test that needs etcd.
needs_etcd = pytest.mark.skipif(ETCD is None, reason="etcd is not on this machine (apt-get install etcd-server)")


@dataclass(slots=True)
class EtcdMember:
    name: str
    url: str
    command: list[str]
    log: Path
    process: ProcessId

    def kill(self) -> None:
        end([self.process], first=signal.SIGKILL)

    def start(self) -> None:
        self.process = spawn(self.command, log=self.log)
        after_us_end("session", self.process.to_json())


@contextmanager
def etcd_members(
    count: int = 1, client_options: Sequence[str] = (), scheme: str = "http"
) -> Iterator[list[EtcdMember]]:
    """A cluster whose members have started; ``client_options`` are etcd's for the clients' side."""
    assert ETCD is not None
    ports = free_ports(2 * count)
    clients, peers = ports[:count], ports[count:]
    cluster = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
    members: list[EtcdMember] = []
    with tempfile.TemporaryDirectory(prefix="aragora-etcd-") as folder:
        try:
            for number in range(count):
                url, peer = f"{scheme}://127.0.0.1:{clients[number]}", f"http://127.0.0.1:{peers[number]}"
                command = [
                    *(ETCD, "--name", f"m{number}", "--data-dir", f"{folder}/m{number}", "--log-level", "error"),
                    *("--listen-client-urls", url, "--advertise-client-urls", url),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", cluster, "--heartbeat-interval", "100", "--election-timeout", "1000"),
                    *client_options,
                ]
                log = Path(folder) / f"m{number}.log"
                process = spawn(command, log=log)
                after_us_end("session", process.to_json())
                members.append(EtcdMember(f"m{number}", url, command, log, process))
            yield members
        finally:
            end([member.process for member in members], first=signal.SIGKILL)


@asynccontextmanager
async def etcd_group(members: Sequence[EtcdMember], **options: Any) -> AsyncIterator[EtcdGroup]:
    """A client of members that answer; ``options`` are those of `EtcdGroup`."""
    group = EtcdGroup([member.url for member in members], SystemClock(), **options)
    try:
        await answering(group)
        yield group
    finally:
        await group.close()


async def answering(group: EtcdGroup) -> None:
    async def answers() -> bool:
        try:
            await group.read("")
        except StoreUnavailable:
            return False
        return True

    await eventually(answers, what="etcd answers")
