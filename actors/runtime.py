"""The only actor code that knows Ray: names, options, handles, restarts. No decisions.

An actor process holds one ``ActorHost``: a shell that builds the real, plain actor from the process's own settings on
the first call, so that a constructor argument is never more than a name and a restart needs nothing from its creator.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
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

from actors.roles import NAMESPACE, Role, actor_name, kind_prefix, role_prefix
from cluster.domain.agents.agent import Dedicated
from cluster.domain.base.errors import ActorUnavailable, ControlPlaneError
from cluster.ports.actor_names import ActorNames
from cluster.process.loops import end_process
from cluster.rpc.channel import Address, Channel, ChannelServer
from cluster.settings import Settings

CONTROL_PLANE_RESOURCE = "control_plane"
#: Calls that one actor process takes on at once: standing exchanges of replicas and workers, and short ones.
MAX_CONCURRENCY = 1000
#: After a channel could not be opened (a firewall between the nodes), Ray carries the calls for so long.
CHANNEL_RETRY_S = 30.0
#: New objects after which the youngest of them are collected; Python's own is 700.
GC_THRESHOLD = 10_000

_logger = logging.getLogger(__name__)


class PlainActor(Protocol):
    """What every actor in ``actors/`` is: a plain class that a test can construct without Ray."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class _Process:
    """What ``ActorHost`` holds. Apart from it because Ray wraps every method of an actor's class for its tracing, and
    what comes over the channel would pay for that."""

    def __init__(self, role: Role, name: str) -> None:
        self._role = role
        self._name = name
        self._actor: PlainActor | None = None
        self._starting: asyncio.Future[PlainActor] | None = None
        self.address: Address | None = None

    async def started(self) -> PlainActor:
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = asyncio.ensure_future(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> PlainActor:
        from actors.composition.making import build  # its imports are paid in the actor's process only

        self._actor = await build(self._role, self._name, on_fatal=end_process, resolve=resolve)
        _settle_memory()
        if not _ray_encrypts():
            self.address = await ChannelServer(self.call).start(ray.util.get_node_ip_address())
        return self._actor

    async def call(self, method: str, *args: Any) -> Any:
        actor = self._actor or await self.started()
        return await getattr(actor, method)(*args)


class ActorHost:
    """The process of one actor. Ray restarts it; it rebuilds itself from the stores."""

    def __init__(self, role: Role, name: str, fingerprint: str) -> None:
        self._process = _Process(role, name)
        self._fingerprint = fingerprint

    async def ready(self) -> str:
        """Started and serving; answers the fingerprint of the settings it was built from."""
        await self._process.started()
        return self._fingerprint

    async def called_at(self) -> Address | None:
        """Where calls are taken past Ray. Ray hands it out only to those who may call."""
        await self._process.started()
        return self._process.address

    async def call(self, method: str, *args: Any) -> Any:
        return await self._process.call(method, *args)


def _settle_memory() -> None:
    """What an actor starts with stays: it is not looked through again by every collection, and bursts of thousands of
    tasks do not set off hundreds of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _ray_encrypts() -> bool:
    """Then nothing of ours goes over the network in clear either."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def join(address: str) -> None:
    """Makes this process a quiet driver of a running cluster."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")


def create(settings: Settings, role: Role, fingerprint: str) -> ActorHandle:
    """The role's actor of this version, created if there is none."""
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
    """What an agent's own actor declares; the others stay on the nodes of the control plane and take nothing."""
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
    """Ray names of the living actors that begin so, of whatever version."""
    return [
        entry["name"]
        for entry in list_named_actors(all_namespaces=True)
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(prefix)
    ]


def kill(name: str) -> None:
    with contextlib.suppress(ValueError, RayActorError):
        ray.kill(ray.get_actor(name, namespace=NAMESPACE))


async def ready(handle: ActorHandle, timeout_s: float) -> str:
    return str(await _await(handle.ready.remote(), timeout_s))


async def _await(reference: Any, timeout_s: float | None) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            return await reference
    except (RayActorError, GetTimeoutError, TimeoutError) as error:
        raise ActorUnavailable("An actor of the control plane is restarting; try again in a moment.") from error
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ControlPlaneError):
            raise cause from None
        raise
    except RayError as error:
        raise ActorUnavailable("The Ray cluster does not answer; try again in a moment.") from error


class _OverRay:
    """Calls as Ray carries them, for ``good_for_s``."""

    def __init__(self, handle: ActorHandle, good_for_s: float = math.inf) -> None:
        self._handle = handle
        self._until = time.monotonic() + good_for_s

    @property
    def stale(self) -> bool:
        return time.monotonic() > self._until

    async def call(self, method: str, *args: Any) -> Any:
        return await _await(self._handle.call.remote(method, *args), None)

    def retire(self) -> None:
        """Nothing is held."""


class RoleHandle:
    """Calls to whoever plays a role now. Resolved through the published names, and again after every failure.

    Ray says where the actor is, and a channel carries the calls; where none can be opened, Ray does.
    """

    def __init__(self, role: Role, names: ActorNames, *, direct: bool = True) -> None:
        self._role = role
        self._names = names
        self._direct = direct
        self._way: Channel | _OverRay | None = None
        self._resolving = asyncio.Lock()

    async def call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                way = await self._resolve()
                try:
                    return await way.call(method, *args)
                except ActorUnavailable:
                    self._forget(way)
                    raise
        except TimeoutError as error:
            raise ActorUnavailable(f"The {self._role.key} actor does not answer; try again in a moment.") from error

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
            raise ActorUnavailable(f"The {self._role.key} actor has not been started yet; try again in a moment.")
        try:
            return await asyncio.to_thread(ray.get_actor, published.name, namespace=NAMESPACE)
        except (ValueError, RayError) as error:
            raise ActorUnavailable(f"The {self._role.key} actor is being restarted; try again.") from error

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
    """Calls of one role's methods, for composition roots that do not know Ray."""
    return RoleHandle(role, names).call


class RayActorBackend:
    """The Ray side of reconciling."""

    READY_TIMEOUT_S = 60.0

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        self._settings = settings
        self._fingerprint = fingerprint
        self._handles: dict[str, ActorHandle] = {}

    def desired_name(self, role: Role) -> str:
        return actor_name(self._settings, role)

    async def ensure(self, role: Role) -> str:
        name = self.desired_name(role)
        handle = self._handles.pop(name, None)
        try:
            if handle is None:
                handle = await asyncio.to_thread(create, self._settings, role, self._fingerprint)
        except (RayError, ValueError) as error:
            raise ActorUnavailable(f"{role.key} cannot be created yet: {error}") from error
        fingerprint = await ready(handle, self.READY_TIMEOUT_S)
        self._handles[name] = handle  # until it does not answer
        return fingerprint

    async def existing(self) -> list[str]:
        return await asyncio.to_thread(names_of, f"{self._settings.deployment_id}-")

    def plays(self, name: str, role: Role) -> bool:
        return name.startswith(role_prefix(self._settings, role))

    def is_of(self, name: str, kind: str) -> bool:
        return name.startswith(kind_prefix(self._settings, kind))

    async def kill(self, name: str) -> None:
        self._handles.pop(name, None)
        await asyncio.to_thread(kill, name)
