"""PostgreSQL and Redis as the deployment guide's compose file starts them: with its user and password, Redis without one."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster.embedded.ports import free_ports
from cluster.embedded.postgres import _unprivileged
from cluster.embedded.processes import wait_until
from tests.support.reaper import after_us_end
from tests.support.stores import StoreUrls
from tests.support.tls_stores import installed, running_server


@contextmanager
def guide_stores() -> Iterator[StoreUrls]:
    """Both, started, on ports of loopback that the names ``postgres`` and ``redis`` stand for in the guide."""
    binaries, redis = installed()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aragora-guide-")))
        after_us_end("stores", str(base))
        database_port, redis_port = free_ports(2)
        stack.enter_context(_postgres(binaries, base, database_port))
        words = ["--port", str(redis_port), "--bind", "127.0.0.1", "--appendonly", "yes", "--dir", str(base)]
        stack.enter_context(running_server([redis, *words], base / "redis.log"))
        yield StoreUrls(f"postgresql://user:pass@127.0.0.1:{database_port}/aragora", f"redis://127.0.0.1:{redis_port}")


@contextmanager
def _postgres(binaries: Path, base: Path, port: int) -> Iterator[None]:
    data, run, password = base / "postgres", _unprivileged(), base / "password"
    password.write_text("pass")
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "user", "--auth=scram-sha-256", f"--pwfile={password}"]
    subprocess.run([*run, *command, "--encoding=UTF8", "--locale=C"], check=True, capture_output=True)
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(base)}
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with running_server([*run, str(binaries / "postgres"), "-D", str(data), *words], base / "postgres.log"):
        url = f"postgresql://user:pass@127.0.0.1:{port}/postgres"
        assert wait_until(lambda: _done([str(binaries / "psql"), url, "-c", "create database aragora"]), 30)
        yield


def _done(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
