"""Composition root of the Serve application: the API's replicas, and the supervisor of the actors.

``serve_app.app:app`` is what ``serve deploy`` deploys. Importing it opens no connection and reads no setting.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from fastapi import FastAPI
from ray import serve

from actors.composition.resources import Resources, load_process_settings, migrated
from actors.roles import desired_roles, fingerprint
from actors.runtime import RayActorBackend, resolve
from actors.supervisor import Supervisor
from cluster.process.clock import SystemClock
from cluster.process.loops import end_process
from cluster.process.waits import REPLICA_GRACE_S
from cluster.settings import Settings
from serve_app.replica import make_ingress

#: Requests that one replica has in hand at once: as many as agents may wait for work at it, and some.
MAX_ONGOING_REQUESTS = 12_000


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
    """Built per replica, in its own loop."""
    settings = load_process_settings()
    _stay_on_loopback(settings)
    return make_ingress(settings, resolve, end_process)


@serve.deployment(
    name="Supervisor",
    num_replicas=1,
    ray_actor_options={"num_cpus": 0},
    health_check_period_s=10,
    graceful_shutdown_timeout_s=3,
)
class SupervisorDeployment:
    """Keeps every actor of the deployment existing, serving and of this version."""

    def __init__(self) -> None:
        settings = load_process_settings()
        _stay_on_loopback(settings)
        self._task = asyncio.get_running_loop().create_task(self._run(settings))

    async def _run(self, settings: Settings) -> None:
        await migrated(settings)
        resources = await Resources.open(settings, "aragora-supervisor", connections=2)
        supervisor = Supervisor(
            holder=f"{socket.gethostname()}:{os.getpid()}",
            roles=desired_roles(settings),
            backend=RayActorBackend(settings, fingerprint(settings)),
            agents=resources.stores.agents,
            names=resources.stores.names,
            leases=resources.stores.leases,
            clock=SystemClock(),
        )
        await supervisor.run()

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
    # A killed replica is replaced no sooner than Serve looks at it; one look costs one empty call.
    health_check_period_s=2,
    # A replica that leaves lets the calls end that it has in hand, also a claim that it took last.
    graceful_shutdown_timeout_s=REPLICA_GRACE_S,
)
@serve.ingress(_ingress)
class Api:
    """The HTTP and WebSocket API. ``supervisor`` is bound so that both are one application."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor


app = Api.bind(SupervisorDeployment.bind())  # type: ignore[attr-defined]
