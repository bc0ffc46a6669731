"""Composition root of the Serve application: the API's replicas, and the supervisor of the actors.

``serve_app.app:app`` is what ``serve deploy`` deploys. Importing it opens no connection and reads no setting.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from actors.composition.resources import Resources, load_process_settings, migrated
from actors.roles import desired_roles, fingerprint
from actors.runtime import RayActorBackend, resolve
from actors.supervisor import Supervisor
from cluster.process.clock import SystemClock
from cluster.process.haproxy import REPLACED
from cluster.process.loops import end_process
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
    return make_ingress(settings, resolve, end_process, replaced=_mark_of_haproxy())


def _mark_of_haproxy() -> Path:
    """Where `cluster.process.haproxy` says that this node's HAProxy was replaced: beside its configuration, which Serve keeps
    per node."""
    import ray
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_CONFIG_FILE_LOC

    return Path(RAY_SERVE_HAPROXY_CONFIG_FILE_LOC).parent / ray.get_runtime_context().get_node_id() / REPLACED


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
        settings = load_process_settings("supervisor")
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
)
@serve.ingress(_ingress)
class Api:
    """The HTTP and WebSocket API. ``supervisor`` is bound so that both are one application."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor


app = Api.bind(SupervisorDeployment.bind())  # type: ignore[attr-defined]
