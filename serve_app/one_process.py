"""The API and the actors of one system in one process, without Ray: ``python -m serve_app.one_process``.

`aragora-cp up --without-ray` starts it, for machines that have no room for Ray: several regions on one machine, each of them
whole. What Ray does elsewhere is lacking: nothing runs on other nodes, dedicated agents do not start, and an actor that fails
takes the API with it. ``up`` starts the process again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import uvicorn

from actors.composition.making import make, report_of
from actors.composition.resources import Resources, load_process_settings, migrated
from actors.process_report import ProcessReport
from actors.roles import REGION_LEADER, Role, desired_roles
from cluster.domain.base.errors import ActorUnavailable, ControlPlaneError
from cluster.ports.actor_names import ActorNames
from cluster.process.loops import Loops, OnFatal, end_process
from cluster.settings import Settings
from cluster.telemetry.log_files import API
from serve_app.replica import make_ingress

_logger = logging.getLogger(__name__)
#: How long open calls may take when the process is told to end.
GRACE_S = 1
CONNECTIONS = 4


class OneProcess:
    """The actors of all roles, each with stores of its own, as if it had a process. ``on_fatal`` ends them all."""

    def __init__(self, settings: Settings, on_fatal: OnFatal) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._actors: dict[str, tuple[ProcessReport, Any]] = {}
        self._loops = Loops(on_fatal)
        self._open = AsyncExitStack()

    async def start(self) -> None:
        """Starts the actors, the leader first. With peers, the others wait until the region has a log: at the first copy they
        would end, to read everything anew, and the leader with them.

        Raises: `StoreUnavailable` if the database does not answer."""
        leads = Role(kind=REGION_LEADER)
        resources = await self._start(leads)
        if self._settings.has_peers:
            from actors.composition.region_process import has_a_log  # only a region of several pays for these

            await has_a_log(resources)
        for role in desired_roles(self._settings):
            if role != leads:
                await self._start(role)

    async def stop(self) -> None:
        """Ends the actors, the last one first."""
        await self._loops.stop()
        await self._open.aclose()

    async def _start(self, role: Role) -> Resources:
        resources = await Resources.open(self._settings, role.key, connections=CONNECTIONS)
        if role.kind != REGION_LEADER:
            await resources.open_gate(self._on_fatal)
        owner = f"{role.key}:{os.getpid()}"
        actor = make(resources, role, owner, is_published=_alone, on_fatal=self._on_fatal, resolve=self.resolve)
        await actor.start()
        self._open.push_async_callback(_stopped, actor)
        report = report_of(resources, self.resolve, role, owner)
        self._loops.start(report.run())
        self._actors[role.key] = report, actor
        return resources

    def resolve(self, role: Role, names: ActorNames) -> Callable[..., Awaitable[Any]]:
        """How an actor of this process is called; ``names`` say where one is elsewhere."""

        async def call(method: str, *args: Any, timeout_s: float | None = None) -> Any:
            found = self._actors.get(role.key)
            if found is None:
                raise ActorUnavailable(f"{role.title} does not run here; try again in a moment.")
            report, actor = found
            try:
                async with asyncio.timeout(timeout_s):
                    return await report.call(actor, method, *args)
            except TimeoutError:
                raise ActorUnavailable(f"{role.title} has not answered in time; try again in a moment.") from None

        return call


async def serve(settings: Settings, on_fatal: OnFatal = end_process) -> None:
    """Runs until it is told to end.

    Raises: `StoreUnavailable` if the database goes away during the start."""
    await migrated(settings)
    actors = OneProcess(settings, on_fatal)
    try:
        await actors.start()
        app = make_ingress(settings, actors.resolve, on_fatal)
        config = uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=75,  # as Serve's own
        )
        await uvicorn.Server(config).serve()
    finally:
        await actors.stop()


async def _alone() -> bool:
    """No supervisor replaces an actor here, so each is the one of its role."""
    return True


async def _stopped(actor: Any) -> None:
    """What an actor wants to write at its end may be refused."""
    try:
        await actor.stop()
    except ControlPlaneError as error:
        _logger.info("%s", error)


if __name__ == "__main__":
    asyncio.run(serve(load_process_settings("api", log=API)))
