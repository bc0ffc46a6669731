"""Routes by which tasks are submitted and cancelled.

A replica commits submits itself. Cancellations go through the scheduler shard, since they may concern a lease.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Conflict, ControlPlaneError, InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.chats import check_asked_schema
from cluster.domain.tasks.events import CancelRequested
from cluster.domain.tasks.question_checks import INVALID_QUESTION
from cluster.domain.tasks.questions import Question
from cluster.domain.tasks.rules import Affinity, Edge, TaskRules, checked
from cluster.domain.tasks.task import IdempotencyKey, NewTask, Priority
from cluster.ports.tasks import SubmitItem
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency, key_of
from serve_app.routes.children import below_their_parents
from serve_app.routes.task_reads import Wait, task_at_its_end
from serve_app.schemas.tasks import (
    After,
    CreateTask,
    CreateTasks,
    task_wire,
)
from serve_app.under_budgets import check_budgets
from serve_app.under_policies import under_policies
from serve_app.under_quotas import submit_within_quotas

router = GuardedRouter(tags=["tasks"])

_CONFLICT = "This idempotency key was used with another body; use a new key."


def new_task(gate: Gateway, task_id: str, body: CreateTask, asker: Origin, now: float) -> NewTask:
    if body.run_at is not None and body.delay_seconds is not None:
        raise InvalidRequest("Give run_at or delay_seconds, not both.", "invalid_request")
    if body.retry is not None and body.retry.attempts is not None and body.max_retries is not None:
        raise InvalidRequest("Give max_retries or retry.attempts, not both: attempts are one more.", "invalid_retry")
    check_json(body.payload, "payload")
    check_json(body.metadata, "metadata")
    check_asked_schema(body.payload)
    run_at = body.run_at if body.delay_seconds is None else now + body.delay_seconds
    settings = gate.settings
    return NewTask(
        id=task_id,
        origin=asker,
        task_type=body.task_type,
        created_at=now,
        payload=body.payload,
        metadata=body.metadata,
        required_capabilities=tuple(sorted(set(body.required_capabilities))),
        priority=Priority.parse(body.priority),
        timeout_s=body.timeout_seconds or settings.task_timeout,
        max_retries=_max_retries(gate, body),
        run_at=run_at,
        queue=body.queue,
        target_agent=body.target_agent,
        target_region=body.target_region,
        fallback_regions=tuple(body.fallback_regions),
        region_routing_mode=body.region_routing_mode,
        origin_region=settings.region,
        rules=_rules(body),
        question=_question(body),
    )


#: What of a submit says which agent may have the task, or when: a person answers when it likes.
_OF_WORK = ("required_capabilities", "target_agent", "worker_version", "sticky_key", "run_at", "delay_seconds")


def _question(body: CreateTask) -> Question | None:
    """The question of a task that people do. Raises: `InvalidRequest` if it cannot be asked, or the task is also for agents."""
    if body.input_required is None:
        return None
    for name in _OF_WORK:
        if getattr(body, name):
            raise InvalidRequest(
                f"A task with input_required is done by people; leave {name} out, and give the work a task after this one.",
                INVALID_QUESTION,
            )
    return body.input_required.to_domain()


def _max_retries(gate: Gateway, body: CreateTask) -> int:
    if body.retry is not None and body.retry.attempts is not None:
        return body.retry.attempts - 1
    return gate.settings.max_task_retries if body.max_retries is None else body.max_retries


def _rules(body: CreateTask) -> TaskRules | None:
    if body.target_agent is not None and body.target_agent in body.excluded_agents:
        raise InvalidRequest(
            f"target_agent {body.target_agent} is among excluded_agents; nobody could take the task.", "invalid_target"
        )
    affinity = Affinity(body.region_routing_mode)
    target = () if body.target_region is None else (body.target_region,)
    edges = [edge for edge in body.after if isinstance(edge, After)]
    return checked(
        TaskRules(
            tenant=body.tenant,
            queue_timeout_s=body.queue_timeout_seconds,
            total_timeout_s=body.total_timeout_seconds,
            concurrency_key=body.concurrency_key,
            concurrency_limit=body.concurrency_limit,
            excluded_agents=tuple(sorted(set(body.excluded_agents))),
            regions=() if affinity is Affinity.ANY else (*target, *body.fallback_regions),
            affinity=affinity,
            retries=None if body.retry is None else body.retry.to_domain(),
            worker_version=body.worker_version,
            sticky_key=body.sticky_key,
            parent=body.parent_task_id,
            after=tuple(Edge(after=edge.id, when_failed=edge.when_failed) for edge in edges),
        )
    )


async def _check_dependencies(gate: Gateway, asker: Origin, tasks: Sequence[NewTask]) -> None:
    """Refuses tasks that depend on a task that does not exist. One that is found here counts as it ended, also if
    retention removes it before ``tasks`` are committed."""
    predecessors = {edge.after for task in tasks if task.rules is not None for edge in task.rules.after}
    if predecessors:
        found = await gate.tasks.statuses(asker.workspace, sorted(predecessors))
        unknown = sorted(predecessors - set(found))
        if unknown:
            raise InvalidRequest(f"after names a task that does not exist: {unknown[0]}.", "unknown_dependency")


@router.post("/tasks", status_code=201)
@requires(Permission.TASKS_WRITE)
async def create_task(
    request: Request, body: CreateTask, asker: Asker, key: Idempotency, wait: Wait = 0.0
) -> dict[str, Any]:
    """Submits a task; it is durable before this is answered. Send an ``Idempotency-Key`` to make repeats safe. With ``wait`` the
    answer has the ``task`` too, when it has ended or so many seconds have passed (at most 25), unless it cannot be read; this
    takes the permission to read tasks. With ``policy_override`` soft policies do not refuse it; this takes the permission to
    override them. 400 (`InvalidRequest`) if the fields do not fit together or ``after`` or ``parent_task_id`` names an unknown
    task, 403 (`PolicyDenied`) with ``policy_id`` and what is ``allowed`` if a policy refuses it, 403 (`BudgetExhausted`) with
    ``budget_id`` and ``resets_at`` if a budget is used up, 429 (`QuotaFull`) with the ``quota`` and its ``limit`` if a quota
    has no room, 409 (`Conflict`) if the key was used with another body."""
    gate = gateway(request)
    if wait:
        await admit(request, Permission.TASKS_READ)
    task = new_task(gate, gate.new_id("task"), body, asker, gate.clock.now())
    key = key or key_of(asker.principal, body.idempotency_key)
    idem = None
    if key is not None:
        digest = body_digest(body.for_digest("idempotency_key"))
        idem = IdempotencyKey(route="tasks", key=key, body_digest=digest)
    if body.after:
        await _check_dependencies(gate, asker, [task])
    (task,) = await below_their_parents(gate, asker, [task])
    submitted = SubmitItem(task=task, idempotency=idem, override=_override(body))
    await _check_overrides(request, [submitted])
    await check_budgets(gate, asker, [submitted])
    (item,) = await under_policies(gate, asker, [submitted])
    (outcome,) = await submit_within_quotas(request, asker, [item])
    if outcome.conflict:
        raise Conflict(_CONFLICT, "idempotency_conflict")
    gate.acknowledged([outcome])
    answer: dict[str, Any] = {"task_id": outcome.task_id}
    if wait:
        with contextlib.suppress(ControlPlaneError):  # the task is submitted, and whoever asked has to learn its id
            answer["task"] = task_wire(await task_at_its_end(request, asker, outcome.task_id, wait))
    return answer


@router.post("/tasks/batch", status_code=201)
@requires(Permission.TASKS_WRITE)
async def create_tasks(request: Request, body: CreateTasks, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Submits up to 1,000 tasks in one transaction; they wait in the given order. An ``Idempotency-Key`` covers the whole
    batch. 400 (`InvalidRequest`) if a task is not valid, 403 (`PolicyDenied`, `BudgetExhausted`) if a policy or a budget
    refuses one, 429 (`QuotaFull`) if a quota has no room for all, 403 (`QuotaExceeded`) if it never has for so many, 409
    (`Conflict`) if the key was used with another body."""
    gate = gateway(request)
    return await submit_batch(request, asker, batch_of(gate, asker, body.tasks, key))


def batch_of(gate: Gateway, asker: Origin, bodies: Sequence[CreateTask], key: str | None) -> list[SubmitItem]:
    """The tasks of one call, with a key each if the call has one. Raises: `InvalidRequest` if one is not valid."""
    now = gate.clock.now()
    # Tasks with one creation time are ordered by their ids, so the ids are sorted.
    ids = sorted(gate.new_id("task") for _ in bodies)
    digest = body_digest({"tasks": [body.for_digest() for body in bodies]}) if key else b""
    items = []
    for index, (task_id, body) in enumerate(zip(ids, bodies, strict=True)):
        idem = IdempotencyKey(route="tasks/batch", key=f"{key}#{index}", body_digest=digest) if key else None
        task = new_task(gate, task_id, body, asker, now)
        items.append(SubmitItem(task=task, idempotency=idem, override=_override(body)))
    return items


def _override(body: CreateTask) -> str | None:
    return None if body.policy_override is None else body.policy_override.reason


async def _check_overrides(request: Request, items: Sequence[SubmitItem]) -> None:
    """Raises: `Forbidden` if one overrides policies and the caller may not."""
    if any(item.override is not None for item in items):
        await admit(request, Permission.POLICIES_OVERRIDE)


async def submit_batch(request: Request, asker: Origin, items: Sequence[SubmitItem]) -> dict[str, Any]:
    """Submits them, all or none if they have keys, and returns the answer. Raises: what `create_tasks` says."""
    gate = gateway(request)
    await _check_overrides(request, items)
    tasks = await below_their_parents(gate, asker, [item.task for item in items])
    items = [replace(item, task=task) for item, task in zip(items, tasks, strict=True)]
    await _check_dependencies(gate, asker, tasks)
    await check_budgets(gate, asker, items)
    governed = await under_policies(gate, asker, items)
    all_or_none = items[0].idempotency is not None
    outcomes = await submit_within_quotas(request, asker, governed, all_or_none=all_or_none)
    if any(outcome.conflict for outcome in outcomes):
        raise Conflict(_CONFLICT, "idempotency_conflict")
    gate.acknowledged(outcomes)
    return {"task_ids": [outcome.task_id for outcome in outcomes], "total": len(outcomes)}


@router.post("/tasks/{task_id}/cancel")
@requires(Permission.TASKS_WRITE)
async def cancel_task(request: Request, task_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Cancels a task. A waiting task ends at once; the agent of a running task is asked to stop it. A repeat gets the same
    answer."""
    gate = gateway(request)
    cancel = CancelRequest(
        workspace=asker.workspace,
        task_id=check_id(task_id, "task_id"),
        event=CancelRequested(principal=asker.principal, cause=asker.cause),
    )
    await gate.scheduler.request(cancel)
    return {"cancelled": True}
