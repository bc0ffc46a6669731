"""Routes of quotas: how much of the system the workspace may use.

A replica writes quotas itself. The scheduler's shard, which keeps the one on running tasks, and other replicas follow the log."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import Origin
from cluster.domain.quotas.quotas import QuotaKind
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.schemas.quotas import SetQuotas, quotas_wire

router = GuardedRouter(tags=["quotas"])

#: What is used is counted up to this, or up to the highest quota if that is more.
COUNTED: Final = 100_000


@router.get("/quotas")
@requires(Permission.QUOTAS_READ)
async def show_quotas(request: Request, asker: Asker) -> dict[str, Any]:
    """The workspace's quotas, null where it has none, and how many agents, tasks that wait and tasks that run it has. These are
    counted up to 100,000, or up to the highest quota if that is more."""
    return await _shown(gateway(request), asker.workspace)


@router.put("/quotas")
@requires(Permission.QUOTAS_WRITE)
async def set_quotas(request: Request, body: SetQuotas, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Sets quotas of the workspace; null removes one, and what is left out stays. At this replica they count from now on, at
    others within a second. What is beyond a quota already stays: nothing is stopped. 400 (`InvalidRequest`) without any field,
    409 (`Conflict`) if somebody else changes them at the same moment."""
    gate = gateway(request)
    given = body.given()
    if not given:
        raise InvalidRequest(f"Name at least one of {', '.join(QuotaKind)}.")

    async def change() -> dict[str, Any]:
        return await _set(gate, asker, given)

    return await answered_once(gate, asker, "quotas", key, body.model_dump(mode="json", exclude_unset=True), change)


async def _set(gate: Gateway, asker: Origin, given: dict[QuotaKind, int | None]) -> dict[str, Any]:
    quotas = await gate.quotas.get(asker.workspace)
    if any(quotas.of(kind) != value for kind, value in given.items()):
        after = quotas.changed(given, asker.principal, gate.clock.now())
        await gate.quotas.put(after, after.record(asker))
    await gate.quota_view.refresh([asker.workspace])
    gate.notify(WakeTopic.ACCESS, WakeTopic.CONTROLS)
    return await _shown(gate, asker.workspace)


async def _shown(gate: Gateway, workspace: str) -> dict[str, Any]:
    quotas = await gate.quotas.get(workspace)
    most = max(COUNTED, *(quotas.of(kind) or 0 for kind in QuotaKind))
    return quotas_wire(quotas, await gate.quotas.used(workspace, most))
