"""Routes of violations: what was submitted against policies, and what people made of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.policies.violations import CHANGED, Violation, ViolationStatus, ViolationType
from cluster.ports.policies import ViolationQuery
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Filter, Limit
from serve_app.schemas.fields import Offset
from serve_app.schemas.policies import UpdateViolation, violation_wire

router = GuardedRouter(tags=["policies"])


@router.get("/policies/violations")
@requires(Permission.VIOLATIONS_READ)
async def list_violations(
    request: Request,
    asker: Asker,
    policy_id: Filter = None,
    violation_type: Annotated[ViolationType | None, Query()] = None,
    status: Annotated[ViolationStatus | None, Query()] = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Violations of the workspace's policies, newest first. ``total`` counts all that match, not those of the page."""
    query = ViolationQuery(
        workspace=asker.workspace,
        policy_id=policy_id,
        violation_type=violation_type,
        status=status,
        limit=limit,
        offset=offset,
    )
    found, total = await gateway(request).policies.violations(query)
    return {
        "violations": [violation_wire(violation) for violation in found],
        "total": total,
        "limit": limit,
        "offset": offset,
    }


@router.get("/policies/violations/stats")
@requires(Permission.VIOLATIONS_READ)
async def get_violation_stats(request: Request, asker: Asker) -> dict[str, Any]:
    """How many violations there are, by status and by type. ``resolved`` counts those that were resolved, and no others."""
    counts = await gateway(request).policies.counts(asker.workspace)
    by_status = dict.fromkeys(ViolationStatus, 0)
    by_type = dict.fromkeys(ViolationType, 0)
    open_by_type = dict.fromkeys(ViolationType, 0)
    for (kind, status), count in counts.items():
        by_status[status] += count
        by_type[kind] += count
        open_by_type[kind] += count if status is ViolationStatus.OPEN else 0
    return {
        "total": sum(by_status.values()),
        **{status.value: count for status, count in by_status.items()},
        "by_type": {kind.value: count for kind, count in by_type.items()},
        "open_by_type": {kind.value: count for kind, count in open_by_type.items()},
    }


async def _known(gate: Gateway, asker: Origin, violation_id: str) -> Violation:
    found = await gate.policies.violation(asker.workspace, check_id(violation_id, "violation_id"))
    if found is None:
        raise NotFound(f"There is no violation {violation_id}.", "violation_not_found")
    return found


@router.get("/policies/violations/{violation_id}")
@requires(Permission.VIOLATIONS_READ)
async def get_violation(request: Request, violation_id: str, asker: Asker) -> dict[str, Any]:
    """One violation. 404 (`NotFound`) if there is none of that id."""
    return {"violation": violation_wire(await _known(gateway(request), asker, violation_id))}


@router.patch("/policies/violations/{violation_id}")
@requires(Permission.VIOLATIONS_UPDATE)
async def update_violation(
    request: Request, violation_id: str, body: UpdateViolation, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Says what people made of a violation. Who resolved it and when is kept until it is opened again; notes that are left out
    stay. 404 (`NotFound`) if there is no such violation, 409 (`Conflict`) if somebody else changes it at the same moment."""
    gate = gateway(request)

    async def update() -> dict[str, Any]:
        violation = await _known(gate, asker, violation_id)
        now = gate.clock.now()
        after = violation.changed(body.status, body.resolution_notes, asker.principal, now)
        await gate.policies.change_violation(after, after.record(asker, CHANGED, now))
        return {
            "updated": True,
            "violation_id": violation_id,
            "status": after.status.value,
            "message": f"The violation is {after.status.value} now.",
        }

    given = body.model_dump(mode="json", exclude_unset=True)
    return await answered_once(gate, asker, f"violations/update/{violation_id}", key, given, update)
