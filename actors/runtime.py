"""The only actor code that knows Ray: names, options, handles, restarts. It decides nothing.

An actor process holds one ``ActorHost``. That builds the plain actor from the process's own settings at the first call. So
its constructor arguments are names only, and a restart needs nothing from the process that created it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util import list_named_actors

from actors.process_report import MEMORY, ProcessReport
from actors.roles import NAMESPACE, Role, actor_name, kind_prefix, role_prefix
from cluster.domain.agents.agent import Dedicated
from cluster.domain.base.errors import ActorUnavailable, ControlPlaneError
from cluster.ports.actor_names import ActorNames
from cluster.process.loops import Loops, end_process
from cluster.process.memory import settle_memory
from cluster.rpc.channel import Address, Channel, ChannelServer
from cluster.settings import Settings

CONTROL_PLANE_RESOURCE = "control_plane"
#: Calls that one actor process works on at once: the open calls of exchanges with replicas and workers, and short ones.
MAX_CONCURRENCY = 1000
#: If a channel cannot be opened (a firewall between the nodes), calls go through Ray for so long before it is tried again.
CHANNEL_RETRY_S = 30.0

_logger = logging.getLogger(__name__)


class PlainActor(Protocol):
    """What every actor in ``actors/`` is: a plain class that a test can construct without Ray."""

    async def start(self) -> None:
        """Reads its state and begins to serve."""

    async def stop(self) -> None:
        """Ends its loops."""


class _Process:
    """The plain actor and its channel. Not part of ``ActorHost``, because Ray wraps every method of an actor's class for its
    tracing, which calls over the channel would pay for."""

    def __init__(self, role: Role, name: str) -> None:
        self._role = role
        self._name = name
        # None until it has started.
        self._actor: PlainActor | None = None
        # Set with the actor.
        self._report: ProcessReport
        self._loops = Loops(end_process)
        # The start that runs, has succeeded or has failed. A failed one is replaced at the next call.
        self._starting: asyncio.Future[PlainActor] | None = None
        # Where the channel takes calls. None before the start, and always if Ray encrypts its own connections.
        self.address: Address | None = None

    async def started(self) -> PlainActor:
        """The actor when it serves. All callers wait for one start; one that hangs up does not cancel it."""
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = asyncio.ensure_future(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> PlainActor:
        from actors.composition.making import build  # here, so that only the actor's process pays for its imports

        actor, self._report = await build(self._role, self._name, on_fatal=end_process, resolve=resolve)
        self._loops.start(self._report.run())
        settle_memory()
        if not _ray_encrypts():
            self.address = await ChannelServer(self.call).start(ray.util.get_node_ip_address())
        self._actor = actor
        return self._actor

    async def call(self, method: str, *args: Any) -> Any:
        actor = self._actor or await self.started()
        return await self._report.call(actor, method, *args)


class ActorHost:
    """The Ray actor, one per process. Ray restarts it, and the plain actor in it reads its state from the stores again."""

    def __init__(self, role: Role, name: str, fingerprint: str) -> None:
        self._process = _Process(role, name)
        self._fingerprint = fingerprint

    async def ready(self) -> str:
        """Returns when the actor serves, with the fingerprint of the settings that it was built from."""
        await self._process.started()
        return self._fingerprint

    async def called_at(self) -> Address | None:
        """Where the channel takes calls, None if there is none. Only who may call the actor through Ray gets to know it."""
        await self._process.started()
        return self._process.address

    async def call(self, method: str, *args: Any) -> Any:
        """Calls a method of the plain actor, which is started first if need be."""
        return await self._process.call(method, *args)


def _ray_encrypts() -> bool:
    """Whether Ray encrypts its connections. Calls then go through Ray, because the channel is not encrypted."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")  # noqa: TID251 - Ray's own name


def join(address: str) -> None:
    """Makes this process a quiet driver of a running cluster."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")


def create(settings: Settings, role: Role, fingerprint: str) -> ActorHandle:
    """A handle to the role's actor of this version, which is created if there is none.

    Raises: Ray's errors, or `ValueError`, if Ray refuses it."""
    name = actor_name(settings, role)
    options = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": MAX_CONCURRENCY,
        **_resources(role.needs),
    }
    remote = ray.remote(ActorHost)
    return remote.options(**options).remote(role, name, fingerprint)


def _resources(needs: Dedicated | None) -> dict[str, Any]:
    """What an actor declares to Ray. A dedicated agent's declares its needs; all others need nothing, and run on nodes that have
    the control plane's resource if there are such nodes."""
    if needs is None:
        here = CONTROL_PLANE_RESOURCE in ray.cluster_resources()
        return {"num_cpus": 0, "resources": {CONTROL_PLANE_RESOURCE: 0.001} if here else None}
    return {
        "num_cpus": needs.num_cpus,
        "num_gpus": needs.num_gpus or None,
        "memory": needs.memory or None,
        "resources": {name: amount for name, amount in needs.resources.items() if amount} or None,
    }


def names_of(prefix: str) -> list[str]:
    """The Ray names that begin with a prefix, of the actors that exist."""
    return [
        entry["name"]
        for entry in list_named_actors(all_namespaces=True)
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(prefix)
    ]


def kill(name: str) -> None:
    """Ends an actor; does nothing if there is none of that name."""
    with contextlib.suppress(ValueError, RayActorError):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))


def restart(name: str) -> None:
    """Ends an actor's process, and lets Ray start it again; does nothing if there is no actor of that name."""
    with contextlib.suppress(ValueError, RayActorError):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)


async def ready(handle: ActorHandle, timeout_s: float) -> str:
    """The actor's fingerprint when it serves. Raises: `ActorUnavailable` if it does not serve in time."""
    return str(await _await(handle.ready.remote(), timeout_s))


async def _await(reference: Any, timeout_s: float | None) -> Any:
    """The result of a call through Ray. Ray's errors become ours, and an error of ours that the actor raised is raised here."""
    try:
        async with asyncio.timeout(timeout_s):
            return await reference
    except (RayActorError, GetTimeoutError, TimeoutError) as error:
        raise ActorUnavailable("A part of the control plane is restarting; try again in a moment.") from error
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ControlPlaneError):
            raise cause from None
        raise
    except RayError as error:
        raise ActorUnavailable("The Ray cluster does not answer; try again in a moment.") from error


class _OverRay:
    """Carries calls through Ray. It is ``stale`` after ``good_for_s``, and a channel is then tried again."""

    def __init__(self, handle: ActorHandle, good_for_s: float = math.inf) -> None:
        self._handle = handle
        self._until = time.monotonic() + good_for_s

    @property
    def stale(self) -> bool:
        return time.monotonic() > self._until

    async def call(self, method: str, *args: Any) -> Any:
        return await _await(self._handle.call.remote(method, *args), None)

    def retire(self) -> None:
        """Nothing to release, unlike a channel."""


class RoleHandle:
    """Calls the actor that plays a role now. It is found by its published name, and found again after every failure.

    A channel carries the calls, whose address the actor gives through Ray. If none can be opened, Ray carries the calls.
    """

    def __init__(self, role: Role, names: ActorNames, *, direct: bool = True) -> None:
        self._role = role
        self._names = names
        # False: Ray carries all calls.
        self._direct = direct
        # What carries the calls now. ``_resolve`` sets it; ``_forget`` clears it when a call finds the actor away.
        self._way: Channel | _OverRay | None = None
        # Lets one caller resolve while the others wait for what it finds.
        self._resolving = asyncio.Lock()

    async def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Calls a method of the role's actor.

        Raises: `ActorUnavailable` if the actor is not published, is restarting or does not answer within ``timeout_s``; else
        what the method raises."""
        try:
            async with asyncio.timeout(timeout_s):
                way = await self._resolve()
                try:
                    return await way.call(method, *args)
                except ActorUnavailable:
                    self._forget(way)
                    raise
        except TimeoutError as error:
            raise ActorUnavailable(f"{self._role.title} does not answer; try again in a moment.") from error

    def _forget(self, way: Channel | _OverRay) -> None:
        if self._way is way:
            self._way = None
            way.retire()

    async def _resolve(self) -> Channel | _OverRay:
        way = self._way
        if way is not None and not way.stale:
            return way
        async with self._resolving:
            if self._way is None or self._way.stale:
                self._way = await self._open(await self._find())
            return self._way

    async def _find(self) -> ActorHandle:
        published = await self._names.current(self._role.key)
        if published is None:
            raise ActorUnavailable(f"{self._role.title} has not been started yet; try again in a moment.")
        try:
            return await asyncio.to_thread(ray.get_actor, published.name, namespace=NAMESPACE)
        except (ValueError, RayError) as error:
            raise ActorUnavailable(f"{self._role.title} is restarting; try again in a moment.") from error

    async def _open(self, handle: ActorHandle) -> Channel | _OverRay:
        if not self._direct:
            return _OverRay(handle)
        address: Address | None = await _await(handle.called_at.remote(), None)
        try:
            if address is not None:
                return await Channel.open(address)
        except OSError as error:
            why = str(error) or "no answer"
            _logger.warning("%s is called through Ray, which costs more: %s", self._role.key, why)
            return _OverRay(handle, CHANNEL_RETRY_S)
        return _OverRay(handle)


def resolve(role: Role, names: ActorNames) -> Callable[..., Awaitable[Any]]:
    """A function that calls the methods of a role's actor, for composition roots, which must not know Ray."""
    return RoleHandle(role, names).call


class RayActorBackend:
    """Ray for the supervisor (``actors.supervisor.ActorBackend``)."""

    READY_TIMEOUT_S = 60.0
    MEMORY_TIMEOUT_S = 5.0

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        self._settings = settings
        self._fingerprint = fingerprint
        # Actor name → handle of an actor that served when it was last asked, so that a steady pass creates no handles. ``ensure``
        # adds; a failed ``ensure`` and ``kill`` remove.
        self._handles: dict[str, ActorHandle] = {}

    def desired_name(self, role: Role) -> str:
        """The name of the role's actor of this version."""
        return actor_name(self._settings, role)

    async def ensure(self, role: Role) -> str:
        """Creates the role's actor of this version if there is none, waits until it serves and returns its fingerprint.

        Raises: `ActorUnavailable` if Ray refuses to create it, or it does not serve in time."""
        name = self.desired_name(role)
        handle = self._handles.pop(name, None)
        try:
            if handle is None:
                handle = await asyncio.to_thread(create, self._settings, role, self._fingerprint)
        except (RayError, ValueError) as error:
            raise ActorUnavailable(f"{role.key} cannot be created yet: {error}") from error
        fingerprint = await ready(handle, self.READY_TIMEOUT_S)
        self._handles[name] = handle
        return fingerprint

    async def existing(self) -> list[str]:
        """Names of the deployment's actors, of any version."""
        return await asyncio.to_thread(names_of, f"{self._settings.deployment_id}-")

    def plays(self, name: str, role: Role) -> bool:
        """Whether an actor of that name plays the role, in any version."""
        return name.startswith(role_prefix(self._settings, role))

    def is_of(self, name: str, kind: str) -> bool:
        """Whether an actor of that name plays a role of the kind."""
        return name.startswith(kind_prefix(self._settings, kind))

    async def kill(self, name: str) -> None:
        """Ends an actor; does nothing if there is none of that name."""
        self._handles.pop(name, None)
        await asyncio.to_thread(kill, name)

    async def memory(self, name: str, notice: str) -> tuple[int, int]:
        """The id and the resident memory of an actor's process, whose status says ``notice`` from now on.

        Raises: `ActorUnavailable` if it was not found to serve by ``ensure``, or does not answer."""
        handle = self._handles.get(name)
        if handle is None:
            raise ActorUnavailable(f"{name} does not serve yet; try again in a moment.")
        pid, resident = await _await(handle.call.remote(MEMORY, notice), self.MEMORY_TIMEOUT_S)
        return int(pid), int(resident)

    async def restart(self, name: str) -> None:
        """Ends an actor's process, and lets Ray start it again."""
        await asyncio.to_thread(restart, name)
