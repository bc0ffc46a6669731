"""Members of an etcd on loopback: what several regions of one machine share. The binary is the machine's own."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.processes import ProcessId, end, spawn


def etcd_binary() -> str | None:
    """Where etcd is on this machine; None if it is not installed."""
    return shutil.which("etcd")


@dataclass(slots=True)
class EtcdMember:
    """One member. ``url``: where clients reach it."""

    name: str
    url: str
    command: list[str]
    log: Path
    process: ProcessId | None = None

    def start(self) -> ProcessId:
        """A new life of the member, with the data that it has."""
        self.process = spawn(self.command, log=self.log)
        return self.process

    def kill(self) -> None:
        """Ends it without notice, as a crash would: its data is on disk."""
        if self.process is not None:
            end([self.process], first=signal.SIGKILL)


def etcd_members_in(
    folder: Path,
    binary: str,
    names: Sequence[str],
    ports: Sequence[int],
    options: Sequence[str] = (),
    scheme: str = "http",
) -> list[EtcdMember]:
    """The members of one cluster, not started. ``ports``: one for clients for each, then one for peers for each. ``options`` are
    etcd's own; ``scheme`` is that of the clients' side."""
    clients, peers = ports[: len(names)], ports[len(names) :]
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, peers, strict=True))
    members = []
    for name, client, port in zip(names, clients, peers, strict=True):
        url, peer = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{port}"
        command = [
            *(binary, "--name", name, "--data-dir", str(folder / name), "--log-level", "error"),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", cluster, "--heartbeat-interval", "100", "--election-timeout", "1000"),
            *options,
        ]
        members.append(EtcdMember(name, url, command, folder / f"{name}.log"))
    return members
