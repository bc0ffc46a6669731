"""Children of tasks: what a submit says of a parent, and how a holder waits for children without its lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request

from aragora_worker.base.money import nanos_of
from cluster.domain.access.permissions import Permission
from cluster.domain.audit.erasure import SUBJECT_FIELD
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.requests import ParkRequest
from cluster.domain.tasks.agent_waits import child_outcome
from cluster.domain.tasks.children import check_children, depth_below
from cluster.domain.tasks.events import ParkAsked, Reporter
from cluster.domain.tasks.progress import checked_progress
from cluster.domain.tasks.task import LeaseToken, NewTask, Task
from cluster.ports.tasks import missing_task
from serve_app.auth.admission import Asker, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.schemas.children import Park, ParkInReport
from serve_app.schemas.tasks import Report

router = GuardedRouter(tags=["tasks"])


async def below_their_parents(gate: Gateway, asker: Origin, tasks: Sequence[NewTask]) -> list[NewTask]:
    """The tasks, each with the generation that it is in, and about whom its parent is unless it names a subject itself: what is
    erased of somebody has to be all of it. A parent may have ended: a repeated submit has to get its answer, and the scheduler
    ends the children of what has ended without a result.

    Raises: `InvalidRequest` if a parent does not exist (``unknown_parent``) or is too deep (``limit_exceeded``)."""
    parents = {task.rules.parent for task in tasks if task.rules is not None and task.rules.parent is not None}
    if not parents:
        return list(tasks)
    found = await gate.tasks.rules(asker.workspace, sorted(parents))
    unknown = sorted(parents - set(found))
    if unknown:
        raise InvalidRequest(f"parent_task_id names a task that does not exist: {unknown[0]}.", "unknown_parent")
    depths = {parent: depth_below(parent, rules) for parent, rules in found.items()}
    subjects = await gate.tasks.subjects(asker.workspace, sorted(parents))
    return [_below(task, depths, subjects) for task in tasks]


def _below(task: NewTask, depths: Mapping[str, int], subjects: Mapping[str, str]) -> NewTask:
    rules = task.rules
    if rules is None or rules.parent is None:
        return task
    metadata = task.metadata
    if rules.parent in subjects and SUBJECT_FIELD not in metadata:
        metadata = {**metadata, SUBJECT_FIELD: subjects[rules.parent]}
    return evolve(task, rules=replace(rules, depth=depths[rules.parent]), metadata=metadata)


@router.post("/tasks/{task_id}/park")
@requires(Permission.TASKS_CLAIM)
async def park(request: Request, task_id: str, body: Park, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Gives a lease back until the named children of the task have ended. The task waits without lease, run time and spent retry;
    then it can be claimed again, with the outcomes of these ``children`` and the ``checkpoint`` in the claim. A repeat changes
    nothing. 400 (`InvalidRequest`, ``unknown_child``) if a child does not exist, 409 (`Conflict`) if one is not a child of this
    task (``not_a_child``) or the caller does not hold the lease (``lease_lost``)."""
    return {"parked": True, "attempt": await parked_in(request, asker, task_id, body, body)}


async def parked_in(request: Request, asker: Origin, task_id: str, report: Park | Report, body: ParkInReport) -> int:
    """Parks a task for the holder of a lease, and returns its attempt. ``report`` has the lease's token, and the costs.

    Raises: `NotFound` if the task does not exist, `InvalidRequest` if a child does not, `Conflict` if it is not the task's or the
    lease is lost."""
    token = LeaseToken.decode(report.lease_token)
    if token.task_id != check_id(task_id, "task_id"):
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    acting_agent(request, token.agent_id)
    gate = gateway(request)
    rules = await gate.tasks.rules(asker.workspace, [task_id, *body.children])
    if task_id not in rules:
        raise await missing_task(gate.tasks, asker.workspace, task_id)
    check_children(task_id, body.children, rules)
    parking = ParkRequest(
        workspace=asker.workspace,
        task_id=task_id,
        event=ParkAsked(by=Reporter.of(asker.principal, token), children=tuple(body.children), cause=asker.cause),
        progress=checked_progress(checkpoint=body.checkpoint),
        cost_nanos=None if report.cost_usd is None else nanos_of(report.cost_usd, "cost_usd"),
    )
    with gate.attended.of([(asker.workspace, token.agent_id)]):
        await gate.scheduler.request(parking)
    gate.record_activity(asker.workspace, token.agent_id)
    return token.attempt


async def outcomes_of(gate: Gateway, workspace: str, tasks: Sequence[Task]) -> dict[str, list[dict[str, Any]]]:
    """By task, the outcomes of the children that it has waited for, in the order in which it named them."""
    ids = [child for task in tasks if task.parked is not None for child in task.parked.children]
    if not ids:
        return {}
    found = await gate.tasks.outcomes(workspace, ids)
    return {
        task.id: [child_outcome(found[child]) for child in task.parked.children if child in found]
        for task in tasks
        if task.parked is not None
    }
