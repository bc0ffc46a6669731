"""Routes of retention: what the workspace keeps, and a run that need not wait for the next pass.

A replica stores rules and requests. What removes is one part where the zone's primary is (``actors.retention``).
"""

from __future__ import annotations

import functools
from contextlib import aclosing
from typing import Any

from fastapi import Request

from actors.retention import removable
from cluster.domain.access.permissions import Permission
from cluster.domain.audit.retention import (
    DELIBERATIONS_REMOVED,
    RULE_SET,
    RUN_REQUESTED,
    RUNS_REMOVED,
    TASKS_REMOVED,
    RetentionRule,
)
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import Origin, record_for
from cluster.ports.retention import RetentionState
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.schemas.retention import RunRetention, SetRetention

router = GuardedRouter(tags=["retention"])

#: For so long a dry run counts.
COUNTS_S = 10.0
#: Tasks, deliberations or runs that a dry run reads at once.
COUNTED = 5000


def _rule(gate: Gateway, state: RetentionState) -> RetentionRule:
    return gate.settings.retention_rule().changed(state.rule or {})


def _wire(gate: Gateway, workspace: str, state: RetentionState) -> dict[str, Any]:
    last = state.last
    return {
        "workspace": workspace,
        **_rule(gate, state).to_json(),
        "is_default": state.rule is None,
        "run_requested": state.is_requested,
        "last_run": None
        if last is None
        else {
            "ended_at": last.ended_at,
            "tasks": last.tasks,
            "deliberations": last.deliberations,
            "workflow_runs": last.workflow_runs,
        },
    }


@router.get("/retention")
@requires(Permission.TASKS_READ)
async def show_retention(request: Request, asker: Asker) -> dict[str, Any]:
    """What the workspace keeps, and when this region went through it last. ``is_default``: it has set nothing itself."""
    gate = gateway(request)
    return _wire(gate, asker.workspace, await gate.retention.state(asker.workspace))


@router.put("/retention")
@requires(Permission.PAYLOADS_ERASE)
async def set_retention(request: Request, body: SetRetention, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Changes what the workspace keeps; fields that are left out stay as they are, and those that were never named are the
    deployment's. What it does not keep any more is removed
    with the next pass, within a quarter of an hour. 400 (`InvalidRequest`) without any field."""
    gate = gateway(request)
    given = body.model_dump(exclude_none=True)
    if not given:
        names = ", ".join(SetRetention.model_fields)
        raise InvalidRequest(f"Name at least one of {names}.")
    return await answered_once(gate, asker, "retention", key, given, functools.partial(_set, gate, asker, given))


async def _set(gate: Gateway, asker: Origin, given: dict[str, Any]) -> dict[str, Any]:
    # Only what was named: what the deployment says of the rest counts, also when that changes.
    rule = {**((await gate.retention.state(asker.workspace)).rule or {}), **given}
    record = record_for(asker, gate.clock.now(), RULE_SET, asker.workspace, rule)
    await gate.retention.set_rule(asker.workspace, rule, record)
    return _wire(gate, asker.workspace, await gate.retention.state(asker.workspace))


@router.post("/retention/run")
@requires(Permission.PAYLOADS_ERASE)
async def run_retention(request: Request, body: RunRetention, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Asks for a pass over the workspace now, which begins within seconds; ``GET /retention`` tells when it has ended. With
    ``dry_run`` it counts what a pass would remove, for at most some 10 s; ``complete`` is false if there is more."""
    gate = gateway(request)
    change = functools.partial(_run, gate, asker, body.dry_run)
    return await answered_once(gate, asker, "retention/run", key, body.model_dump(mode="json"), change)


async def _run(gate: Gateway, asker: Origin, dry_run: bool) -> dict[str, Any]:
    if not dry_run:
        now = gate.clock.now()
        record = record_for(asker, now, RUN_REQUESTED, asker.workspace)
        await gate.retention.request_run(asker.workspace, now, record)
        counted = dict.fromkeys(("tasks", "deliberations", "workflow_runs"))
        return {"dry_run": False, "run_requested": True, "complete": False, **counted}
    rule = _rule(gate, await gate.retention.state(asker.workspace))
    counts, complete = await _counted(gate, asker.workspace, rule)
    return {
        "dry_run": True,
        "run_requested": False,
        "complete": complete,
        "tasks": counts.get(TASKS_REMOVED, 0),
        "deliberations": counts.get(DELIBERATIONS_REMOVED, 0),
        "workflow_runs": counts.get(RUNS_REMOVED, 0),
    }


async def _counted(gate: Gateway, workspace: str, rule: RetentionRule) -> tuple[dict[str, int], bool]:
    """How many of each kind would go, and whether all were counted."""
    began, counts = gate.clock.now(), dict[str, int]()
    for kind, within in rule.bounds(began, gate.settings.idempotency_window).items():
        counts[kind] = 0
        async with aclosing(removable(gate.retention, workspace, kind, within, COUNTED)) as windows:
            async for ids in windows:
                counts[kind] += len(ids)
                if gate.clock.now() - began > COUNTS_S:
                    return counts, False
    return counts, True
