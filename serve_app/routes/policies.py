"""Routes of policies: what a workspace allows of tasks and of the agents that have them.

A replica writes policies itself and judges each submit by its copy of them (`serve_app.under_policies`). Other replicas follow
the log, so a policy counts there within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.errors import InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.policies.conflicts import conflicts
from cluster.domain.policies.evaluation import Decision, Submit, agent_bounds, evaluate, is_about
from cluster.domain.policies.policy import CREATED, DELETED, UPDATED, Policy, checked
from cluster.domain.tasks.task import Body, IdempotencyKey, Task
from cluster.ports.tasks import TaskQuery
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Limit
from serve_app.routes.made_before import still_there
from serve_app.schemas.fields import Offset
from serve_app.schemas.policies import DryRun, PolicyFields, Rollback, policy_wire

router = GuardedRouter(tags=["policies"])

#: Tasks that a dry run names; it counts all.
NAMED = 20
#: For how long a dry run reads what somebody wrote of tasks.
DRY_RUN_S = 5.0


@router.get("/policies")
@requires(Permission.POLICIES_READ)
async def list_policies(request: Request, asker: Asker) -> dict[str, Any]:
    """All policies that are about the workspace, those of all workspaces too: the highest priority first."""
    found = await gateway(request).policies.list(asker.workspace)
    return {"policies": [policy_wire(policy) for policy in found], "total": len(found)}


@router.post("/policies", status_code=201)
@requires(Permission.POLICIES_WRITE)
async def create_policy(request: Request, body: PolicyFields, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a policy. It counts for submits that begin after the answer: at this replica at once, at others within a second.
    ``conflicts`` names policies that contradict it: a task that both are about could be had by no agent. With
    ``all_workspaces`` it takes the permission to change policies of all workspaces. 400 (`InvalidRequest`) if it demands
    nothing or contradicts itself, 409 (`Conflict`) if the key was used with another body or for a policy that has been deleted
    since, or there are 200 policies."""
    gate = gateway(request)
    if body.all_workspaces:
        await admit(request, Permission.POLICIES_GLOBAL)
    policy = _new(gate, asker, body)
    idem = None
    if key is not None:
        digest = body_digest(body.model_dump(mode="json", exclude_unset=True))
        idem = IdempotencyKey(route="policies/create", key=key, body_digest=digest)
    policy_id = await gate.policies.create(policy, policy.record(asker, policy.created_at, CREATED), idem)
    await _published(gate, policy_id)
    return await _answer(gate, asker, await still_there(_known(gate, asker, policy_id), "policy"))


def _new(gate: Gateway, asker: Origin, body: PolicyFields) -> Policy:
    """The policy of a body. Raises: `InvalidRequest` if it makes no sense."""
    if body.name is None:
        raise InvalidRequest("name is required.")
    now = gate.clock.now()
    return checked(
        Policy(
            **{"id": gate.new_id("policy"), **body.content()},
            workspace=ALL_WORKSPACES if body.all_workspaces else asker.workspace,
            created_at=now,
            created_by=asker.principal,
            changed_at=now,
            changed_by=asker.principal,
        )
    )


async def _published(gate: Gateway, policy_id: str) -> None:
    """Returns when this replica's copy has the change; the others are told."""
    await gate.policy_view.refresh([policy_id])
    gate.notify(WakeTopic.ACCESS)


async def _known(gate: Gateway, asker: Origin, policy_id: str) -> Policy:
    found = await gate.policies.get(asker.workspace, check_id(policy_id, "policy_id"))
    if found is None:
        raise NotFound(f"There is no policy {policy_id}.", "policy_not_found")
    return found


async def _answer(gate: Gateway, asker: Origin, policy: Policy) -> dict[str, Any]:
    against = conflicts(policy, await gate.policies.list(asker.workspace))
    found = [{"policy_id": conflict.policy_id, "reason": conflict.reason} for conflict in against]
    return policy_wire(policy) | {"conflicts": found}


@router.post("/policies/dry-run")
@requires(Permission.POLICIES_WRITE)
async def dry_run_policy(request: Request, body: DryRun, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """What a policy would have done to the newest tasks of the workspace, at most 1,000. Nothing is stored. ``denied`` and
    ``warned`` count submits, ``agent_refused`` those of the others whose agent it would not have allowed, ``not_judged`` those
    whose payload or metadata a condition reads and which are too large to be read here, were erased, or come when it has read for
    5 s. Such a condition takes the permission to read payloads. 400 (`InvalidRequest`) as when it is made."""
    gate = gateway(request)
    policy = replace(_new(gate, asker, body), workspace=asker.workspace, enabled=True)
    condition = policy.condition()
    bodies = tuple(part for part in (Body.PAYLOAD, Body.METADATA) if condition and part.value in condition.names)
    if bodies:
        await admit(request, Permission.PAYLOADS_READ)
    query = TaskQuery(workspace=asker.workspace, limit=body.limit, bodies=bodies)
    tasks, _ = await gate.tasks.list(query)
    until = gate.clock.now() + DRY_RUN_S
    # A thread: others are served meanwhile.
    tried = await asyncio.to_thread(_tried, policy, tasks, bodies, lambda: gate.clock.now() < until)
    return tried | await _conflicts_only(gate, asker, policy)


async def _conflicts_only(gate: Gateway, asker: Origin, policy: Policy) -> dict[str, Any]:
    return {"conflicts": (await _answer(gate, asker, policy))["conflicts"]}


def _tried(
    policy: Policy, tasks: Sequence[Task], bodies: Sequence[Body], has_time: Callable[[], bool]
) -> dict[str, Any]:
    counts = {"matched": 0, "not_judged": 0, "denied": 0, "warned": 0, "agent_refused": 0}
    named: list[dict[str, Any]] = []
    bounds = agent_bounds(policy)
    for task in tasks:
        submit = Submit.of(task)
        if not is_about(policy, submit):
            continue
        counts["matched"] += 1
        if bodies and (task.erased_at is not None or set(bodies) & set(task.left_out) or not has_time()):
            counts["not_judged"] += 1
            continue
        evaluation = evaluate([policy], submit)
        reason = evaluation.findings[0].reason if evaluation.findings else None
        if evaluation.decision is not Decision.ALLOW:
            counts["denied" if evaluation.decision is Decision.DENY else "warned"] += 1
        elif bounds is not None and task.assigned_agent is not None and bounds.refuses_agent(task.assigned_agent):
            counts["agent_refused"] += 1
            reason = f"agent {task.assigned_agent} had it"
        if reason is not None and len(named) < NAMED:
            named.append({"task_id": task.id, "task_type": task.task_type, "reason": reason})
    return {"tried": len(tasks), **counts, "tasks": named}


@router.get("/policies/{policy_id}")
@requires(Permission.POLICIES_READ)
async def get_policy(request: Request, policy_id: str, asker: Asker) -> dict[str, Any]:
    """One policy. 404 (`NotFound`) if there is none of that id."""
    gate = gateway(request)
    return await _answer(gate, asker, await _known(gate, asker, policy_id))


@router.put("/policies/{policy_id}")
@requires(Permission.POLICIES_WRITE)
async def update_policy(
    request: Request, policy_id: str, body: PolicyFields, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Changes a policy; fields that are left out stay as they are. Each change is a version. Tasks that were submitted before
    keep what policies demanded of their agents then. 400 (`InvalidRequest`) as when it is made, 404 (`NotFound`) if there is
    no such policy, 409 (`Conflict`) if somebody else changes it at the same moment."""
    gate = gateway(request)
    policy = await _changeable(request, gate, asker, policy_id)
    if body.all_workspaces not in (None, policy.is_global):
        raise InvalidRequest("all_workspaces is decided when a policy is made; make another policy.", "invalid_policy")

    async def change() -> dict[str, Any]:
        return await _changed(gate, asker, await _known(gate, asker, policy_id), body.content())

    given = body.model_dump(mode="json", exclude_unset=True)
    return await answered_once(gate, asker, f"policies/update/{policy_id}", key, given, change)


async def _changeable(request: Request, gate: Gateway, asker: Origin, policy_id: str) -> Policy:
    """The policy, if the caller may change it: one of all workspaces takes a permission in all of them.

    Raises: `Forbidden`, `NotFound`."""
    policy = await _known(gate, asker, policy_id)
    if policy.is_global:
        await admit(request, Permission.POLICIES_GLOBAL)
    return policy


async def _changed(gate: Gateway, asker: Origin, policy: Policy, content: dict[str, Any]) -> dict[str, Any]:
    now = gate.clock.now()
    after = policy.of_version(policy.content() | content, asker.principal, now)
    if after.content() != policy.content():
        await gate.policies.change(after, after.record(asker, now, UPDATED))
        await _published(gate, policy.id)
    return await _answer(gate, asker, await _known(gate, asker, policy.id))


@router.delete("/policies/{policy_id}")
@requires(Permission.POLICIES_WRITE)
async def delete_policy(request: Request, policy_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a policy; its versions and violations stay. Tasks that were submitted before keep what it demanded of their
    agents. 404 (`NotFound`) if there is no such policy, 409 (`Conflict`) if somebody else changes it at the same moment."""
    gate = gateway(request)

    async def delete() -> dict[str, Any]:
        policy = await _changeable(request, gate, asker, policy_id)
        await gate.policies.remove(policy, policy.record(asker, gate.clock.now(), DELETED))
        await _published(gate, policy.id)
        return {"deleted": True}

    return await answered_once(gate, asker, f"policies/delete/{policy_id}", key, None, delete)


@router.get("/policies/{policy_id}/versions")
@requires(Permission.POLICIES_READ)
async def list_policy_versions(
    request: Request, policy_id: str, asker: Asker, limit: Limit = 1000, offset: Offset = 0
) -> dict[str, Any]:
    """Versions of a policy that are kept, the newest first; also of one that was deleted. 404 (`NotFound`) if there is none."""
    policies = gateway(request).policies
    found, total = await policies.versions(asker.workspace, check_id(policy_id, "policy_id"), limit, offset)
    if not total:
        raise NotFound(f"There is no policy {policy_id}.", "policy_not_found")
    return {"versions": [policy_wire(policy) for policy in found], "total": total, "limit": limit, "offset": offset}


@router.post("/policies/{policy_id}/rollback")
@requires(Permission.POLICIES_WRITE)
async def roll_back_policy(
    request: Request, policy_id: str, body: Rollback, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Makes the next version of a policy, which says what an earlier one said. 404 (`NotFound`) if there is no such policy or
    version, 409 (`Conflict`) if somebody else changes it at the same moment."""
    gate = gateway(request)
    await _changeable(request, gate, asker, policy_id)

    async def roll_back() -> dict[str, Any]:
        policy = await _known(gate, asker, policy_id)
        earlier = await gate.policies.version(asker.workspace, policy_id, body.version)
        if earlier is None:
            raise NotFound(f"Policy {policy_id} has no version {body.version}.", "policy_version_not_found")
        return await _changed(gate, asker, policy, earlier.content())

    given = body.model_dump(mode="json")
    return await answered_once(gate, asker, f"policies/rollback/{policy_id}", key, given, roll_back)
