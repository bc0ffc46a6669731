"""The whole control plane without Ray: the real application, the real actors and stores, in the test's own loop.

Each actor has what its process would have (a pool, a Redis client, its tasks) and can be killed at any moment: its
connections break off, its tasks end, calls in flight fail as they do when a Ray actor dies.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
from aragora_sdk import AragoraAsyncClient, AragoraClient

from actors.composition.making import make, report_of
from actors.composition.resources import Resources
from actors.process_report import ProcessReport
from actors.roles import (
    AGENT_HOST,
    DELIBERATION,
    HEALTH_MONITOR,
    REGION_LEADER,
    SCHEDULER,
    TELEMETRY,
    Role,
)
from cluster.domain.base.errors import ActorUnavailable
from cluster.domain.base.log import LogRow
from cluster.ports.actor_names import ActorNames
from cluster.ports.clock import Clock
from cluster.postgres.stores import Stores
from cluster.process.loops import OnFatal
from cluster.settings import Settings
from serve_app.gateway import Gateway
from serve_app.replica import make_ingress
from tests.support.documented import Witness
from tests.support.ends import ended
from tests.support.servers import PromptServer, serving_app
from tests.support.stores import StoreUrls, fresh_name

T = TypeVar("T")

CP = "/api/control-plane"
#: What `aragora-cp up` makes in its data directory.
SEALING_KEY = base64.b64encode(b"k" * 32).decode()
STARTED = (TELEMETRY, REGION_LEADER, SCHEDULER, AGENT_HOST, DELIBERATION)
_owner: contextvars.ContextVar[Process | None] = contextvars.ContextVar("owner", default=None)
_numbers = itertools.count(1)


class Process:
    """What would be one actor's process: everything that runs on its behalf ends with it."""

    def __init__(self, role: Role, resources: Resources) -> None:
        self.role = role
        self.resources = resources
        self.actor: Any = None
        self.report: ProcessReport
        self.tasks: set[asyncio.Task[Any]] = set()
        self.died = asyncio.Event()
        self.was_killed = False
        self._context = contextvars.copy_context()
        self._context.run(_owner.set, self)

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work, context=self._context)

    async def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        answer = self.run(self.report.call(self.actor, method, *args))
        died = asyncio.ensure_future(self.died.wait())
        try:
            await asyncio.wait({answer, died}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or answer.cancelled():
                raise ActorUnavailable("A part of the control plane is restarting; try again in a moment.")
            return answer.result()
        finally:
            answer.cancel()
            died.cancel()

    async def kill(self) -> None:
        """As kill -9: nothing is flushed or released, commits in flight have an unknown outcome.

        What its loops meet until they are cancelled happens to nobody: between two steps on a connection that was terminated,
        asyncpg raises an `AttributeError`."""
        self.was_killed = True
        self.died.set()
        self.resources.stores.pool._pool.terminate()
        await self._over(self._end_tasks(), "every task")
        await self._over(self._close(), "its clients")

    async def stop(self) -> None:
        self.died.set()
        await self._over(self.run(self.actor.stop()), "the actor")
        await self._over(self._end_tasks(), "every task")
        await self._over(self._close(), "its clients")

    async def _over(self, work: Awaitable[None], what: str) -> None:
        await ended(work, f"{self.role.key}: {what}")

    async def _end_tasks(self) -> None:
        while self.tasks:
            for task in list(self.tasks):
                task.cancel()
            await asyncio.wait(set(self.tasks), timeout=0.2)

    async def _close(self) -> None:
        """What the system closes when a process ends."""
        await self.resources.doorbell.close()
        if "transports" in vars(self.resources):
            await self.resources.transports.close()
        await self.resources.redis.aclose()
        await self.resources.stores.close()


@contextlib.contextmanager
def _owned_tasks() -> Iterator[None]:
    """Every task belongs to the process in whose context it was made."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def factory(loop: Any, work: Any, context: contextvars.Context | None = None) -> Any:
        task = asyncio.Task(work, loop=loop, context=context)
        owner = _owner.get() if context is None else context.get(_owner)
        if owner is not None:
            owner.tasks.add(task)
            task.add_done_callback(owner.tasks.discard)
        return task

    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(before)


class Api:
    """``client`` calls under the root (``CP`` is the API's prefix); ``stores`` are the test's own eyes. ``clock`` is
    everybody's, the machine's unless it is given."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        front_proof: str | None = None,
        replaced: Path | None = None,
        on_fatal: OnFatal | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self.processes: dict[str, Process] = {}
        self.superseded: list[Process] = []
        self.deaths: list[BaseException] = []
        self._on_fatal: OnFatal = on_fatal or self.deaths.append
        self.app = make_ingress(settings, self._resolve, self._on_fatal, clock, replaced, front_proof=front_proof)
        self.witness = Witness(self.app)
        self.url = ""
        self.client: httpx.AsyncClient
        self.resources: Resources
        self._server: PromptServer
        self._open_clients = contextlib.AsyncExitStack()

    @property
    def stores(self) -> Stores:
        return self.resources.stores

    @property
    def gateway(self) -> Gateway:
        return self.app.state.gateway

    @property
    def connections(self) -> int:
        """Of clients, as far as the server knows."""
        return len(self._server.server_state.connections)

    def sdk(self, **options: Any) -> AragoraClient:
        """The released client. It blocks: call it in a thread (``in_thread``)."""
        client = AragoraClient(base_url=self.url, **options)
        self._open_clients.callback(client.close)
        return client

    def async_sdk(self, **options: Any) -> AragoraAsyncClient:
        client = AragoraAsyncClient(base_url=self.url, **options)
        self._open_clients.push_async_callback(client.close)
        return client

    # --- actors --------------------------------------------------------------------------------------------------

    def _resolve(self, role: Role, names: ActorNames) -> Callable[..., Awaitable[Any]]:
        async def call(method: str, *args: Any, timeout_s: float | None = None) -> Any:
            process = self.processes.get(role.key)
            if process is None:
                raise ActorUnavailable(f"{role.title} is restarting; try again in a moment.")
            return await process.call(method, *args, timeout_s=timeout_s)

        return call

    async def start(self, kind: str, index: int = 0, clock: Clock | None = None) -> Any:
        """The started plain actor; whoever plays its role now is replaced, but not ended."""
        return await self.start_role(Role(kind=kind, index=index), clock)

    async def start_role(self, role: Role, clock: Clock | None = None) -> Any:
        owner = f"{role.key}:{next(_numbers)}"
        process = Process(role, await self._open(owner))
        process.resources.clock = clock or self._clock or process.resources.clock

        async def is_published() -> bool:
            return self.processes.get(role.key, process) is process

        def on_fatal(error: BaseException) -> None:
            if not process.was_killed:
                self._on_fatal(error)

        if role.kind != REGION_LEADER:
            await process.run(process.resources.open_gate(on_fatal))
        process.actor = make(
            process.resources,
            role,
            owner,
            is_published=is_published,
            on_fatal=on_fatal,
            resolve=self._resolve,
        )
        process.report = report_of(process.resources, self._resolve, role, owner)
        await process.run(process.actor.start())
        process.run(process.report.run())
        if role.key in self.processes:
            self.superseded.append(self.processes[role.key])
        self.processes[role.key] = process
        return process.actor

    async def _open(self, owner: str) -> Resources:
        # The metrics are read through the API; a port of their own is a matter of processes.
        portless = self.settings.model_copy(update={"enable_metrics": False})
        return await Resources.open(portless, owner, connections=4)

    async def kill(self, kind: str, index: int = 0) -> None:
        await self.kill_role(Role(kind=kind, index=index))

    async def kill_role(self, role: Role) -> None:
        await self.processes.pop(role.key).kill()

    def actor(self, kind: str, index: int = 0) -> Any:
        return self.processes[Role(kind=kind, index=index).key].actor

    async def start_scheduler(self) -> Any:
        return await self.start(SCHEDULER)

    async def kill_scheduler(self) -> None:
        await self.kill(SCHEDULER)

    async def start_health_monitor(self) -> Any:
        return await self.start(HEALTH_MONITOR)

    # --- calls ---------------------------------------------------------------------------------------------------

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """``path`` under the API's prefix."""
        return await self.client.request(method, CP + path, json=body, **options)

    async def get(self, path: str, **options: Any) -> Any:
        response = await self.call("GET", path, **options)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        response = await self.call("POST", path, body, **options)
        assert response.is_success, response.text
        return response.json()

    async def rows(self, entity: str | None = None) -> list[LogRow]:
        rows = await self.stores.log.read(0, 100_000)
        return [row for row in rows if entity is None or row.entity == entity]

    # --- life ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self, kinds: tuple[str, ...] = STARTED, port: int = 0) -> AsyncIterator[Api]:
        with _owned_tasks():
            self.resources = await Resources.open(self.settings, "test", connections=4)
            for kind in kinds:
                await self.start(kind)
            async with self._served(port), self._open_clients:
                # Plain HTTP: reading the certificates that the machine trusts would take a tenth of a test.
                self.client = httpx.AsyncClient(base_url=self.url, timeout=60, verify=False)
                await self._open_clients.enter_async_context(self.client)
                yield self
            for process in reversed([*self.superseded, *self.processes.values()]):
                await process.stop()
            await self.resources.doorbell.close()
            await self.resources.redis.aclose()
            await self.resources.stores.close()
        assert self.deaths == []
        unsaid = "\n".join(self.witness.differences[:10])
        assert not unsaid, f"the OpenAPI document does not say what was sent:\n{unsaid}"

    @contextlib.asynccontextmanager
    async def _served(self, port: int = 0) -> AsyncIterator[None]:
        # Longer than clients keep an idle connection: else both let go of it at once, and a call is cut for no fault of ours.
        async with serving_app(self.witness, port, timeout_keep_alive=60) as self._server:
            self.url = f"http://127.0.0.1:{self._server.port}"
            yield


async def in_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    return await asyncio.to_thread(function, *args, **options)


def api_settings(urls: StoreUrls, schema: str, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": urls.database,
        "redis_url": urls.redis,
        "database_schema": schema,
        "redis_prefix": fresh_name(),
        "region": "test-region",
        "embedded": True,
        "auth_enabled": False,
        "secrets_key": SEALING_KEY,
    }
    return Settings.model_validate(values | changes)
