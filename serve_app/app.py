"""Composition root of the Serve application: the API's replicas, and the supervisor of the actors.

``serve_app.app:app`` is what ``serve deploy`` deploys. Importing it opens no connection and reads no setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from actors.composition.memory_keeper import memory_keeper
from actors.composition.resources import Resources, load_process_settings, migrated
from actors.roles import desired_roles, fingerprint
from actors.runtime import RayActorBackend, resolve
from actors.supervisor import Supervisor
from cluster.domain.base.errors import TryLater
from cluster.process.clock import SystemClock
from cluster.process.front import proof_of
from cluster.process.haproxy import REPLACED
from cluster.process.loops import end_process, ended
from cluster.process.memory import settle_memory
from cluster.process.waits import REPLICA_GRACE_S
from cluster.settings import Settings
from cluster.telemetry.log_files import API
from serve_app.replica import make_ingress

#: Requests that one replica handles at once: the 10,000 claims that may wait there by default, and 2,000 others.
MAX_ONGOING_REQUESTS = 12_000


def _stay_on_loopback(settings: Settings) -> None:
    """Binds Serve's gRPC server to loopback if the system runs on one machine.

    Serve opens that server, for calls between deployments, on all interfaces and has no option to change this. So a
    private function of the pinned Ray is replaced; a test lists the sockets.
    """
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server

    def on_loopback(server: Any, address: str) -> Any:
        return bind(server, address.replace("[::]:", "127.0.0.1:"))

    if settings.embedded and bind.__name__ != on_loopback.__name__:
        replica.add_port_to_grpc_server = on_loopback


def _ingress() -> FastAPI:
    """The application of one replica. Serve calls this in the replica's process and event loop."""
    settings = load_process_settings("api", log=API)
    _stay_on_loopback(settings)
    app = make_ingress(
        settings,
        resolve,
        end_process,
        replaced=_mark_of_haproxy(),
        hard_stop_s=_hard_stop_s(),
        front_proof=_front_proof(),
    )
    settle_memory()
    return app


def _front_proof() -> str | None:
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_CONFIG_FILE_LOC

    return proof_of(os.environ, Path(RAY_SERVE_HAPROXY_CONFIG_FILE_LOC).parent)  # noqa: TID251 - a root of a process


def _mark_of_haproxy() -> Path:
    """Where `cluster.process.haproxy` says that this node's HAProxy was replaced: beside its configuration, which Serve keeps
    per node."""
    import ray
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_CONFIG_FILE_LOC

    node_id: str = ray.get_runtime_context().get_node_id()
    return Path(RAY_SERVE_HAPROXY_CONFIG_FILE_LOC).parent / node_id / REPLACED


def _hard_stop_s() -> int | None:
    """After what time an HAProxy that was replaced ends its open calls; None without HAProxy."""
    from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY, RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S

    return RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S if RAY_SERVE_ENABLE_HA_PROXY else None


@serve.deployment(
    name="Supervisor",
    num_replicas=1,
    ray_actor_options={"num_cpus": 0},
    health_check_period_s=10,
    # Serve looks every two seconds whether calls are open, and then lets the replica release its lease.
    graceful_shutdown_timeout_s=8,
)
class SupervisorDeployment:
    """Keeps every actor of the deployment existing, serving and of this version."""

    def __init__(self) -> None:
        settings = load_process_settings("supervisor")
        _stay_on_loopback(settings)
        self._supervisor: Supervisor | None = None
        self._task = asyncio.get_running_loop().create_task(self._run(settings))

    async def _run(self, settings: Settings) -> None:
        await migrated(settings)
        resources = await Resources.open(settings, "aragora-supervisor", connections=2)
        backend = RayActorBackend(settings, fingerprint(settings))
        self._supervisor = Supervisor(
            holder=f"{socket.gethostname()}:{os.getpid()}",
            roles=desired_roles(settings),
            backend=backend,
            agents=resources.stores.agents,
            names=resources.stores.names,
            leases=resources.stores.leases,
            clock=SystemClock(),
            memory=memory_keeper(resources, backend, resolve),
        )
        await self._supervisor.run()

    async def __del__(self) -> None:
        """Serve calls and awaits this when the replica leaves: its successor then need not wait until the lease has expired."""
        await ended(self._task)
        if self._supervisor is not None:
            with contextlib.suppress(TryLater):
                await self._supervisor.stop()

    async def check_health(self) -> None:
        """Serve replaces this replica if the check fails.

        Raises: `RuntimeError` if the reconcile loop has ended, or the error that ended it.
        """
        if self._task.done():
            self._task.result()
            raise RuntimeError("the reconcile loop has ended")


@serve.deployment(
    name="Api",
    num_replicas=1,
    max_ongoing_requests=MAX_ONGOING_REQUESTS,
    ray_actor_options={"num_cpus": 0},
    # Serve notices a killed replica at its next health check, which costs one empty call.
    health_check_period_s=2,
    # A replica that is told to leave may finish its open calls, including a claim that it accepted last.
    graceful_shutdown_timeout_s=REPLICA_GRACE_S,
    # A new version's replica serves before an old one leaves. By default Serve ends an old one first, and where it is the
    # only one, all calls wait until the next has started. One at a time up to five replicas: the share is rounded up.
    max_surge_percent=20,
)
@serve.ingress(_ingress)
class Api:
    """The HTTP and WebSocket API. ``supervisor`` is bound so that both are one application."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor

    async def check_health(self) -> None:
        """Serve lets this replica finish its calls and replaces it if the check fails.

        Raises: `RuntimeError` if it uses too much memory.
        """
        memory = getattr(self.app.state, "memory", None)  # type: ignore[attr-defined]
        if memory is not None:
            memory.check()


app = Api.bind(SupervisorDeployment.bind())  # type: ignore[attr-defined]
