"""Children that the holder of a task submits: with its lease, and the permission by which agents claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.tasks.refusals import LEASE_LOST
from cluster.domain.tasks.task import LeaseToken, TaskStatus
from cluster.ports.tasks import missing_task
from serve_app.auth.admission import Asker, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.suspension import check_starts
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.routes.submits import batch_of, submit_batch
from serve_app.schemas.tasks import CreateChildren, CreateTask
from serve_app.under_policies import is_repeat

router = GuardedRouter(tags=["tasks"])


@router.post("/tasks/{task_id}/children", status_code=201)
@requires(Permission.TASKS_CLAIM)
async def create_children(
    request: Request, task_id: str, body: CreateChildren, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Submits up to 1,000 children of a task for the holder of its lease, in one transaction; all or none. It takes no permission
    to submit, and submits nothing else: each is a child of this task, and comes after other children of it at most. Policies,
    budgets and quotas apply as to any submit. An ``Idempotency-Key`` covers the whole call, and that of the same tasks at
    ``/tasks/batch``. 400 (`InvalidRequest`) if a task is not valid, names another parent, or comes ``after`` what is no child of
    this task (``not_a_child``), 403 (`PolicyDenied`, `BudgetExhausted`) if a policy or a budget refuses one, 429 (`QuotaFull`)
    if a quota has no room for all, 403 (`QuotaExceeded`) if it never has for so many, 409 (`Conflict`, ``lease_lost``) if the
    caller does not hold the lease."""
    token = LeaseToken.decode(body.lease_token)
    if token.task_id != check_id(task_id, "task_id"):
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    acting_agent(request, token.agent_id)
    gate = gateway(request)
    check_starts(gate.access, asker.workspace)
    # The same items as those of a batch: a repeat finds what was submitted there, before the worker or the server was upgraded.
    items = batch_of(gate, asker, [_child(task_id, task) for task in body.tasks], key)
    if not await is_repeat(gate, items[0]):
        await _check_held(gate, asker.workspace, token)
        await _check_after(gate, asker.workspace, task_id, body.tasks)
    with gate.attended.of([(asker.workspace, token.agent_id)]):
        answer = await submit_batch(request, asker, items)
    gate.record_activity(asker.workspace, token.agent_id)
    return answer


def _child(task_id: str, task: CreateTask) -> CreateTask:
    """Raises: `InvalidRequest` if it names another parent."""
    if task.parent_task_id not in (None, task_id):
        raise InvalidRequest(
            f"A holder submits children of its own task only; leave parent_task_id out, or name {task_id}.",
            "not_a_child",
        )
    return task.model_copy(update={"parent_task_id": task_id})


async def _check_held(gate: Gateway, workspace: str, token: LeaseToken) -> None:
    """Returns if the token's agent holds the lease now. It may lose it before the children are stored: they are children of this
    task all the same, and end with it if it ends without a result.

    Raises: `Conflict` (``lease_lost``) if it does not; `NotFound` if there is no such task."""
    task = await gate.tasks.get(workspace, token.task_id)
    if task is None:
        raise await missing_task(gate.tasks, workspace, token.task_id)
    held = (task.status, task.attempt, task.assigned_agent)
    if held != (TaskStatus.RUNNING, token.attempt, token.agent_id):
        raise Conflict(LEASE_LOST.message.format(id=task.id, status=task.status.value), LEASE_LOST.code)


async def _check_after(gate: Gateway, workspace: str, task_id: str, tasks: Sequence[CreateTask]) -> None:
    """Raises: `InvalidRequest` (``not_a_child``) if one of the tasks comes after what is no child of this one: whoever may not
    read tasks does not learn which others there are, and how they ended."""
    named = sorted({edge if isinstance(edge, str) else edge.id for task in tasks for edge in task.after})
    if not named:
        return
    found = await gate.tasks.rules(workspace, named)
    for name in named:
        rules = found.get(name)
        if rules is None or rules.parent != task_id:
            raise InvalidRequest(
                f"after names {name}, which is no child of {task_id}; name its other children only.", "not_a_child"
            )
