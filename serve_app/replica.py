"""One replica of the API, from its start to its end, and the FastAPI application around it.

Knows actors only as something that can be reached, so that the same code serves on Ray and in a test.
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

from actors.composition import Parts, Reach, urls
from actors.roles import SCHEDULER, TELEMETRY, Role, desired_roles
from cluster.directory import AGENT_ROWS, AgentDirectory
from cluster.domain.errors import ActorUnavailable, TryLater
from cluster.exchange import ExchangeCall, ExchangeClient
from cluster.follower import LogFollower
from cluster.loops import Died, Loops
from cluster.ports import Clock, Ring
from cluster.postgres.migrate import migrate
from cluster.redis.pool import ping
from cluster.settings import Settings
from cluster.telemetry import HttpObservations
from serve_app.gateway import Gateway
from serve_app.signing import ReceiptSigner
from serve_app.signs import SignsIfThere
from serve_app.streams import StreamHub
from serve_app.web import add_middleware, make_app

_logger = logging.getLogger("serve_app")

#: Rows of a busy moment reach streams together.
APART_S = 0.02
PUSH_S = 2.0
START_RETRY_S = 0.5
PROBE_TIMEOUT_S = 2.0
CONNECTIONS = 16

#: Calls a method of a role's actor: (method, arguments, timeout_s=).
CallRole = Callable[..., Awaitable[Any]]


async def migrated(settings: Settings) -> None:
    """Waits for the database; a schema that does not fit ends the process with its sentence."""
    while True:
        try:
            await migrate(urls(settings)[0], settings.database_schema)
            return
        except TryLater as error:
            _logger.warning("waiting for the database: %s", error)
            await asyncio.sleep(START_RETRY_S)


class Replica:
    """Everything that one replica's routes work with, from its start to its end."""

    def __init__(
        self, settings: Settings, parts: Parts, reach: Reach, observations: HttpObservations, died: Died
    ) -> None:
        self.settings = settings
        self.parts = parts
        self.observations = observations
        self._unsent: list[Any] = []
        self._roles: dict[str, CallRole] = {
            role.key: reach(role, parts.stores.names) for role in desired_roles(settings)
        }
        self._loops = Loops(died)

    async def start(self) -> Gateway:
        parts, settings = self.parts, self.settings
        directory = AgentDirectory(parts.stores.agents)
        cursor = await directory.load()
        follower = LogFollower(
            parts.stores.log,
            parts.doorbell,
            parts.clock,
            after=cursor,
            apply=directory.apply,
            only=AGENT_ROWS,
            rings=(Ring.AGENTS,),
            apart_s=APART_S,
        )

        hub = StreamHub(parts.stores.log, parts.doorbell, parts.clock)

        async def catch_up() -> None:
            await follower.catch_up_to(await parts.stores.log.head())

        scheduler = ExchangeClient(
            f"{socket.gethostname()}:{os.getpid()}",
            self._exchange,
            clock=parts.clock,
            max_waiting=settings.agents_per_replica * 2,
            orphan=lambda answer: gateway.give_back(answer),
        )
        gateway = Gateway(
            settings=settings,
            clock=parts.clock,
            tasks=parts.stores.tasks,
            dead_letters=parts.stores.dead_letters,
            controls=parts.stores.controls,
            answers=parts.stores.answers,
            agents=parts.stores.agents,
            deliberations=parts.stores.deliberations,
            outcomes=parts.stores.outcomes,
            signing=ReceiptSigner(parts.stores.signing_keys, settings.receipt_signing_key),
            heartbeats=SignsIfThere(parts.heartbeats),
            doorbell=parts.doorbell,
            directory=directory,
            scheduler=scheduler,
            hub=hub,
            probes=self._probes(),
            metrics_text=self._metrics_text,
            started_at=parts.clock.now(),
            breakers=parts.stores.breakers,
            database=lambda: parts.stores.pool.breaker,
            leases=parts.stores.leases,
            catch_up=catch_up,
        )
        self._loops.start(follower.run(), hub.run(), gateway.attend_forever(), self._push_forever())
        return gateway

    async def _exchange(self, message: ExchangeCall) -> Any:
        return await self._roles[Role(kind=SCHEDULER).key]("exchange", message)

    async def _metrics_text(self) -> str:
        await self._push()
        return str(await self._roles[Role(kind=TELEMETRY).key]("render", timeout_s=10.0))

    def _probes(self) -> dict[str, Callable[[], Awaitable[None]]]:
        async def redis() -> None:
            await ping(self.parts.redis)

        probes: dict[str, Callable[[], Awaitable[None]]] = {"Database": self.parts.stores.pool.ping, "Redis": redis}
        for key, call in self._roles.items():
            probes[_component(key)] = self._actor_probe(key, call)
        return probes

    def _actor_probe(self, key: str, call: CallRole) -> Callable[[], Awaitable[None]]:
        async def probe() -> None:
            method = "alive" if key.startswith("health-monitor") else "status"
            await call(method, timeout_s=PROBE_TIMEOUT_S)

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
                await self._roles[Role(kind=TELEMETRY).key]("push", sending, timeout_s=5.0)
            except ActorUnavailable:
                self._unsent = sending + self._unsent
                raise

    async def stop(self) -> None:
        await self._loops.stop()
        await self.parts.doorbell.close()
        await self.parts.stores.close()
        await self.parts.redis.aclose()


def _component(key: str) -> str:
    return {"scheduler-0": "Scheduler", "region-leader-0": "Coordinator"}.get(key, key)


def make_ingress(settings: Settings, reach: Reach, died: Died, clock: Clock | None = None) -> FastAPI:
    """The application with the replica as its lifespan: pools belong to the loop that they were made in."""
    observations = HttpObservations()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await migrated(settings)
        parts = await Parts.open(settings, "aragora-api", connections=CONNECTIONS)
        parts.clock = clock or parts.clock
        replica = Replica(settings, parts, reach, observations, died)
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
