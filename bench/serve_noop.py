"""The product's Serve application with three routes that do nothing: the upper bound for calls over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray import serve

from cluster.domain.access.permissions import Permission
from serve_app import app as product
from serve_app.auth.admission import requires
from serve_app.auth.routing import GuardedRouter

router = GuardedRouter(prefix="/bench")


@router.post("/submit", status_code=201)
@requires(Permission.PUBLIC)
async def submit() -> dict[str, Any]:
    return {"task_id": "task_00000000000000000000000000"}


@router.post("/claim")
@requires(Permission.PUBLIC)
async def claim() -> dict[str, Any]:
    return {"task": {"id": "task_00000000000000000000000000"}}


@router.post("/complete")
@requires(Permission.PUBLIC)
async def complete() -> dict[str, Any]:
    return {"completed": True}


def _ingress() -> FastAPI:
    app = product._ingress()
    app.include_router(router)
    return app


@serve.deployment(
    name="Api",
    num_replicas=1,
    max_ongoing_requests=product.MAX_ONGOING_REQUESTS,
    ray_actor_options={"num_cpus": 0},
    health_check_period_s=10,
    graceful_shutdown_timeout_s=5,
)
@serve.ingress(_ingress)
class NoopApi:
    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor


app = NoopApi.bind(product.SupervisorDeployment.bind())  # type: ignore[attr-defined]
