"""A whole control plane on the stand's stores, started as ``aragora-cp up`` does and shared by the benches that need Ray."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import psutil
from pydantic import SecretStr

from bench.stand import ROOT, Part, Stand, cpu_seconds
from cluster.cli import system as product
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.ports import free_ports
from cluster.embedded.processes import session_members
from cluster.settings import Settings

START_TRIES = 3
APPLICATION = "bench.serve_noop:app"


@dataclass(slots=True)
class Running:
    """A running control plane. A process with ``environment`` can join it, as a Ray driver or through the settings file."""

    system: product.System
    settings: Settings
    environment: Mapping[str, str]
    schema: str

    @property
    def api_url(self) -> str:
        return self.system.api_url

    def roles(self) -> dict[str, list[psutil.Process]]:
        """The cluster's processes by role: proxy, replica, shard, and ``Ray`` for all others."""
        assert self.system.ray is not None
        assert self.system.ray.process is not None
        owner: str = self.rows("select owner from shards limit 1")[0]["owner"]
        shard = int(owner.rsplit(":", 1)[1])
        found: dict[str, list[psutil.Process]] = {"proxy": [], "replica": [], "shard": [], "Ray": []}
        for member in session_members(self.system.ray.process):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(member.pid)
                found[_role(process, shard)].append(process)
        return found

    def rows(self, sql: str, *args: Any) -> Sequence[Mapping[str, Any]]:
        """Rows of a query on the system's tables."""
        return asyncio.run(_rows(self.settings, self.schema, sql, args))

    def actors(self, kind: str) -> dict[str, psutil.Process]:
        """Processes of the living actors of a kind by their Ray names, as Ray's dashboard has them."""
        ray = self.system.ray
        assert ray is not None
        response = httpx.get(
            f"{ray.dashboard_url}/api/v0/actors",
            params={"detail": "1", "limit": "1000"},
            headers={"Authorization": f"Bearer {ray.token}"},
            timeout=10,
        )
        found = {}
        for row in response.raise_for_status().json()["data"]["result"]["result"]:
            if row["state"] == "ALIVE" and f"-{kind}-" in (row["name"] or ""):
                with suppress(psutil.NoSuchProcess):
                    found[row["name"]] = psutil.Process(row["pid"])
        return found

    def cpu(self, stand: Stand, *parts: Part) -> Callable[[], dict[str, float]]:
        """Starts counting; the returned function gives the CPU seconds since then, by role. ``client`` is the given parts,
        ``all`` the sum."""
        roles = self.roles()
        before = {role: sum(map(cpu_seconds, processes)) for role, processes in roles.items()}
        rest = stand.cpu(*parts)
        stores = stand.cpu()

        def spent() -> dict[str, float]:
            used = {role: sum(map(cpu_seconds, processes)) - before[role] for role, processes in roles.items()}
            used["stores"] = stores()
            used["client"] = rest() - used["stores"]
            used["all"] = sum(used.values())
            return used

        return spent


def _role(process: psutil.Process, shard: int) -> str:
    if process.pid == shard:
        return "shard"
    name = " ".join(process.cmdline()[:1])
    if name.startswith("ray::ServeReplica") and ":Api" in name:
        return "replica"
    return "proxy" if "haproxy" in name else "Ray"


async def _rows(settings: Settings, schema: str, sql: str, args: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    assert settings.database_url is not None
    connection = await asyncpg.connect(
        settings.database_url.get_secret_value(), server_settings={"search_path": schema}
    )
    try:
        return [dict(row) for row in await connection.fetch(sql, *args)]
    finally:
        await connection.close()


@contextmanager
def started(stand: Stand, **changes: Any) -> Iterator[Running]:
    """A running control plane, stopped at the end. ``changes`` are settings that differ from the defaults."""
    http, prometheus = free_ports(2)
    name = stand.name()
    data_dir = stand.base / name  # short, because Ray's sockets are below it and a socket's path has at most 107 bytes
    settings = Settings(
        database_url=SecretStr(stand.database_url),
        redis_url=SecretStr(stand.redis_url),
        database_schema=name,
        redis_prefix=name,
        data_dir=data_dir,
        http_port=http,
        prometheus_port=prometheus,
        http_host="127.0.0.1",
        embedded=True,
        auth_enabled=False,
        **changes,
    )
    assert importlib.util.find_spec(APPLICATION.split(":")[0]) is not None
    layout = Layout.of(data_dir)
    layout.create()
    ordinary, product.serve_config = product.serve_config, _with_noops
    python_path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    system = product.System(settings, layout, lambda stage, seconds: None)
    try:
        system.start()
        assert system.ray is not None
        environment = {
            **system.ray.environment,
            "RAY_ADDRESS": system.ray.address,
            "ARAGORA_CONFIG_FILE": str(layout.config_file),
        }
        yield Running(system, settings, environment, settings.database_schema)
    finally:
        system.stop()
        product.serve_config = ordinary
        if python_path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = python_path


_ordinary = product.serve_config


def _with_noops(settings: Settings) -> dict[str, Any]:
    """The committed configuration with three no-op routes in the application."""
    config = _ordinary(settings)
    config["applications"][0]["import_path"] = APPLICATION
    return config


def shared(stand: Stand) -> Running:
    """The shared system. It starts at the first use and is stopped with the stand, or before a system for one bench."""
    if stand.system is None:
        stand.system = _start(stand, stand.systems)
    running: Running = stand.system
    return running


@contextmanager
def alone(stand: Stand, **changes: Any) -> Iterator[Running]:
    """A new system for one bench. The shared system is stopped first, because the CPU that it uses at rest would be in the
    figures; the next bench that needs it starts another."""
    stand.system = None
    stand.systems.close()
    with ExitStack() as stack:
        yield _start(stand, stack, **changes)


def _start(stand: Stand, stack: ExitStack, **changes: Any) -> Running:
    """Starts a system, with repeats: Ray's start may time out on a machine that is still busy."""
    for left in reversed(range(START_TRIES)):
        try:
            return stack.enter_context(started(stand, **changes))
        except EmbeddedError:
            if left == 0:
                raise
    raise AssertionError("unreachable")
