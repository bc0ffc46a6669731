"""Serve's HAProxy with the configuration that the pinned Ray writes, started by our program."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ray.serve._private import haproxy as rays
from ray.serve.config import HTTPOptions

from cluster.embedded.ports import free_ports
from cluster.process import haproxy, stopgap
from cluster.process.front import FrontTls

#: What the front says to replicas to prove itself.
PROOF = "5e" * 32


@dataclass
class Front:
    """One HAProxy as Ray starts it: the configuration is Ray's, the program is ours."""

    directory: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    tls: FrontTls | None = None
    origins: tuple[str, ...] = ()
    head_s: int = haproxy.HEAD_S
    silent_s: int = haproxy.SILENT_S
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def write(self, replica: int | None, log: str = "127.0.0.1:514", health: str = "/-/healthz") -> None:
        """``health`` is the path at which HAProxy looks for the replica; a replica of Ray has that of the default."""
        metrics, stats = free_ports(2)
        api = rays.HAProxyApi(
            cfg=rays.HAProxyConfig(
                log_target=log,
                http_options=HTTPOptions(host="0.0.0.0", port=self.port, keep_alive_timeout_s=75),
                is_head=True,
                socket_path=str(self.directory / "a.sock"),
                server_state_base=str(self.directory),
                server_state_file=str(self.directory / "server-state"),
                metrics_socket_path=str(self.directory / "m.sock"),
                metrics_port=metrics,
                stats_port=stats,
                # HAProxy waits for a second before each, and its default is three. What we say afterwards is the same.
                retries=1,
            ),
            config_file_path=str(self.directory / "haproxy.cfg"),
        )
        if replica is not None:
            servers = [rays.ServerConfig(name="one", host="127.0.0.1", port=replica)]
            api.set_backend_configs(
                {"app": rays.BackendConfig(name="app", path_prefix="/", servers=servers, http_health_check_path=health)}
            )
        api._generate_config_file_internal()

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        program = (
            f"import sys; sys.path.insert(0, {str(Path(haproxy.__file__).parents[2])!r})\n"
            "from cluster.process.front import FrontTls\n"
            "from cluster.process import haproxy\n"
            f"haproxy.HEAD_S, haproxy.SILENT_S = {self.head_s}, {self.silent_s}\n"
            f"tls = {None if self.tls is None else tuple(self.tls)!r}\n"
            f"haproxy.run({str(haproxy.bundled_haproxy())!r}, sys.argv[1:], '127.0.0.1', {self.port}, tls and FrontTls(*tls), "
            f"{PROOF!r}, {self.origins!r})"
        )
        arguments = ["-db", "-f", str(self.directory / "haproxy.cfg"), "-dR", *more]
        command = [sys.executable, "-S", "-c", program, *arguments]
        with (self.directory / "words").open("ab") as words:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=words)
        self.processes.append(process)
        return process

    def pids(self) -> set[int]:
        """Every process that was started for this configuration, guards and stopgaps included."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if os.fsencode(self.directory) in words:
                    found.add(int(entry.name))
        return found

    def close(self) -> None:
        (self.directory / stopgap.CURRENT).unlink(missing_ok=True)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # it ended with one that was killed before
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(10)
