"""Composition root of the Serve application: the API's replicas, and the supervisor of the actors.

``serve_app.app:app`` is what ``serve deploy`` deploys. Importing it opens no connection and reads no setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from ray import serve

from actors.composition import Parts, load_process_settings, urls
from actors.roles import SCHEDULER, TELEMETRY, Role, desired_roles, fingerprint
from actors.runtime import RayMachinery, RoleHandle
from actors.supervisor import Supervisor as ReconcileLoop
from cluster.clock import SystemClock
from cluster.directory import AgentDirectory
from cluster.domain.errors import ActorUnavailable, TryLater
from cluster.domain.log import LogRow
from cluster.exchange import ExchangeCall, ExchangeClient
from cluster.follower import LogFollower
from cluster.postgres.migrate import migrate
from cluster.redis.pool import ping
from cluster.settings import Settings
from cluster.telemetry import HttpObservations
from serve_app.gateway import Gateway
from serve_app.streams import StreamHub
from serve_app.web import add_middleware, make_app

_logger = logging.getLogger("serve_app")

#: Requests that one replica has in hand at once: as many as agents may wait for work at it, and some.
MAX_ONGOING_REQUESTS = 12_000
PUSH_S = 2.0
START_RETRY_S = 0.5
PROBE_TIMEOUT_S = 2.0


async def _migrated(settings: Settings) -> None:
    """Waits for the database; a schema that does not fit ends the process with its sentence."""
    while True:
        try:
            await migrate(urls(settings)[0], settings.database_schema)
            return
        except TryLater as error:
            _logger.warning("waiting for the database: %s", error)
            await asyncio.sleep(START_RETRY_S)


class _Replica:
    """Everything that one replica's routes work with, from its start to its end."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self.parts = parts
        self.observations = HttpObservations()
        self._unsent: list[Any] = []
        self._roles = {role.key: RoleHandle(role, parts.stores.names) for role in desired_roles(settings)}
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> Gateway:
        parts, settings = self.parts, self.settings
        directory = AgentDirectory(parts.stores.agents)
        cursor = await directory.load()
        hub = StreamHub(parts.stores.log)
        hub.start_at(cursor)

        async def apply(rows: list[LogRow]) -> None:
            await directory.apply(rows)
            await hub.apply(rows)

        follower = LogFollower(parts.stores.log, parts.doorbell, parts.clock, after=cursor, apply=apply)  # type: ignore[arg-type]

        async def catch_up() -> None:
            await follower.catch_up_to(await parts.stores.log.head())

        scheduler = ExchangeClient(
            f"{socket.gethostname()}:{os.getpid()}",
            self._exchange,
            clock=parts.clock,
            max_waiting=settings.agents_per_replica * 2,
            orphan=lambda request, answer: gateway.give_back(request, answer),
        )
        gateway = Gateway(
            settings=settings,
            clock=parts.clock,
            tasks=parts.stores.tasks,
            agents=parts.stores.agents,
            deliberations=parts.stores.deliberations,
            heartbeats=parts.heartbeats,
            doorbell=parts.doorbell,
            directory=directory,
            scheduler=scheduler,
            hub=hub,
            probes=self._probes(),
            metrics_text=self._metrics_text,
            started_at=parts.clock.now(),
            breakers=parts.stores.breakers,
            catch_up=catch_up,
        )
        self._loops = [asyncio.create_task(follower.run()), asyncio.create_task(self._push_forever())]
        return gateway

    async def _exchange(self, message: ExchangeCall) -> Any:
        return await self._roles[Role(kind=SCHEDULER).key].call("exchange", message)

    async def _metrics_text(self) -> str:
        await self._push()
        return str(await self._roles[Role(kind=TELEMETRY).key].call("render", timeout_s=10.0))

    def _probes(self) -> dict[str, Callable[[], Awaitable[None]]]:
        async def redis() -> None:
            await ping(self.parts.redis)

        probes: dict[str, Callable[[], Awaitable[None]]] = {"Database": self.parts.stores.pool.ping, "Redis": redis}
        for key, handle in self._roles.items():
            probes[_component(key)] = self._actor_probe(key, handle)
        return probes

    def _actor_probe(self, key: str, handle: RoleHandle) -> Callable[[], Awaitable[None]]:
        async def probe() -> None:
            method = "render" if key.startswith(TELEMETRY) else "status"
            if key.startswith("health-monitor"):
                method = "alive"
            await handle.call(method, timeout_s=PROBE_TIMEOUT_S)

        return probe

    async def _push_forever(self) -> None:
        while True:
            await asyncio.sleep(PUSH_S)
            with contextlib.suppress(TryLater):
                await self._push()

    async def _push(self) -> None:
        """What cannot be sent now is kept for the next time, up to a bound."""
        self._unsent = (self._unsent + self.observations.take())[-50_000:]
        if self._unsent:
            sending, self._unsent = self._unsent, []
            try:
                await self._roles[Role(kind=TELEMETRY).key].call("push", sending, timeout_s=5.0)
            except ActorUnavailable:
                self._unsent = sending + self._unsent
                raise

    async def stop(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.parts.doorbell.close()
        await self.parts.stores.close()
        await self.parts.redis.aclose()


def _component(key: str) -> str:
    return {"scheduler-0": "Scheduler", "region-leader-0": "Coordinator"}.get(key, key)


def _stay_on_loopback(settings: Settings) -> None:
    """Serve opens a gRPC server for calls between deployments on all interfaces, and has no option for it.

    On one machine nobody outside may reach it. Private API of the pinned Ray; a test lists the sockets.
    """
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server

    def on_loopback(server: Any, address: str) -> Any:
        return bind(server, address.replace("[::]:", "127.0.0.1:"))

    if settings.embedded and bind.__name__ != on_loopback.__name__:
        replica.add_port_to_grpc_server = on_loopback


def _ingress() -> FastAPI:
    """Built per replica, in its own loop: pools belong to the loop that they were made in."""
    settings = load_process_settings()
    _stay_on_loopback(settings)
    observations = HttpObservations()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await _migrated(settings)
        parts = await Parts.open(settings, "aragora-api", connections=16)
        replica = _Replica(settings, parts)
        replica.observations = observations
        app.state.gateway = await replica.start()
        app.state.workspace = settings.workspace
        yield
        await app.state.gateway.close()
        await replica.stop()

    app = make_app()
    app.router.lifespan_context = lifespan
    add_middleware(
        app, max_body_bytes=settings.max_body_bytes, cors_origins=settings.cors_origins, observations=observations
    )
    return app


@serve.deployment(
    name="Supervisor",
    num_replicas=1,
    ray_actor_options={"num_cpus": 0},
    health_check_period_s=10,
    graceful_shutdown_timeout_s=3,
)
class Supervisor:
    """Keeps every actor of the deployment existing, serving and of this version."""

    def __init__(self) -> None:
        settings = load_process_settings()
        _stay_on_loopback(settings)
        self._task = asyncio.get_running_loop().create_task(self._run(settings))

    async def _run(self, settings: Settings) -> None:
        await _migrated(settings)
        parts = await Parts.open(settings, "aragora-supervisor", connections=2)
        loop = ReconcileLoop(
            holder=f"{socket.gethostname()}:{os.getpid()}",
            roles=desired_roles(settings),
            machinery=RayMachinery(settings, fingerprint(settings)),
            names=parts.stores.names,
            leases=parts.stores.leases,
            clock=SystemClock(),
        )
        await loop.run()

    async def check_health(self) -> None:
        """Serve replaces a supervisor whose loop has ended."""
        if self._task.done():
            self._task.result()
            raise RuntimeError("the reconcile loop has ended")


@serve.deployment(
    name="Api",
    num_replicas=1,
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    ray_actor_options={"num_cpus": 0},
    health_check_period_s=10,
    graceful_shutdown_timeout_s=5,
)
@serve.ingress(_ingress)
class Api:
    """The HTTP and WebSocket API. ``supervisor`` is bound so that both are one application."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor


app = Api.bind(Supervisor.bind())  # type: ignore[attr-defined]
