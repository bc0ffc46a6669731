"""Routes of questions to people: those that are open, asking one as the holder of a task, and answering."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from aragora_worker.base.money import nanos_of
from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.base.errors import Conflict, Forbidden
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.requests import AnswerRequest, AskRequest
from cluster.domain.tasks.events import Answered, Asked, Reporter
from cluster.domain.tasks.progress import checked_progress
from cluster.domain.tasks.question_checks import checked_answer, may_answer
from cluster.domain.tasks.questions import Answer, TaskQuestion
from cluster.domain.tasks.task import LeaseToken, Task
from serve_app.auth.admission import Asker, Caller, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.suspension import check_starts
from serve_app.auth.words import may_read_words
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Cursor, Limit, decode_cursor, next_cursor, total_wire
from serve_app.routes.task_reads import known_task
from serve_app.schemas.questions import VERDICTS, AnswerQuestion, Ask, AskInReport, question_wire
from serve_app.schemas.tasks import Report

router = GuardedRouter(tags=["questions"])


@router.get("/questions")
@requires(Permission.TASKS_READ)
async def list_questions(request: Request, asker: Asker, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Tasks that wait for people, newest first, each with its question."""
    gate = gateway(request)
    tasks, total = await gate.tasks.open_questions(asker.workspace, limit, decode_cursor(cursor))
    questions = [
        {
            "task_id": task.id,
            "task_type": task.task_type,
            "queue": task.queue,
            "priority": task.priority,
            **question_wire(task, task.question),
        }
        for task in tasks
        if task.question is not None
    ]
    following = next_cursor(tasks, limit, lambda task: (task.created_at, task.id))
    return {"questions": questions, **total_wire(total), "limit": limit, "next_cursor": following}


@router.post("/tasks/{task_id}/ask")
@requires(Permission.TASKS_CLAIM)
async def ask(request: Request, task_id: str, body: Ask, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Gives a lease back with a question to people. The task waits without lease, run time and spent retry; when it is answered
    it can be claimed again, with ``question`` and ``checkpoint`` in the claim. A repeat changes nothing. 400
    (`InvalidRequest`) if the question cannot be asked, 409 (`Conflict`, ``lease_lost``) if the caller does not hold the lease."""
    return {"asked": True, "attempt": await asked_in(request, asker, task_id, body, body)}


async def asked_in(request: Request, asker: Origin, task_id: str, report: Ask | Report, body: AskInReport) -> int:
    """Asks for the holder of a lease, and returns its attempt. ``report`` has the lease's token, and the costs.

    Raises: `InvalidRequest` if the question cannot be asked, `Conflict` if the lease is lost or another task's."""
    token = LeaseToken.decode(report.lease_token)
    if token.task_id != check_id(task_id, "task_id"):
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    acting_agent(request, token.agent_id)
    gate = gateway(request)
    question = AskRequest(
        workspace=asker.workspace,
        task_id=task_id,
        event=Asked(by=Reporter.of(asker.principal, token), question=body.to_domain(), cause=asker.cause),
        progress=checked_progress(checkpoint=body.checkpoint),
        cost_nanos=None if report.cost_usd is None else nanos_of(report.cost_usd, "cost_usd"),
    )
    with gate.attended.of([(asker.workspace, token.agent_id)]):
        await gate.scheduler.request(question)
    gate.record_activity(asker.workspace, token.agent_id)
    return token.attempt


@router.post("/tasks/{task_id}/answer")
@requires(Permission.TASKS_READ)
async def answer(
    request: Request, task_id: str, body: AnswerQuestion, asker: Asker, caller: Caller, key: Idempotency
) -> dict[str, Any]:
    """Answers the open question of a task. The same answer again changes nothing. 400 (`InvalidRequest`, ``invalid_answer``) if
    the answer does not fit the question, 403 (`Forbidden`, ``not_an_answerer``) if the caller is not among those who may
    answer, 409 (`Conflict`) if the question has another answer (``already_answered``) or none is open (``no_open_question``)."""
    gate = gateway(request)
    check_starts(gate.access, asker.workspace)

    async def change() -> dict[str, Any]:
        return await _given(gate, asker, caller, task_id, body)

    # By its key a repeat is known when the task has asked something else meanwhile.
    given = {"task_id": task_id, **body.model_dump(mode="json", exclude_unset=True)}
    return await answered_once(gate, asker, "tasks/answer", key, given, change)


async def _given(gate: Gateway, asker: Origin, caller: Principal, task_id: str, body: AnswerQuestion) -> dict[str, Any]:
    task = await known_task(gate, asker, task_id)
    asked = task.question
    if asked is None or body.attempt not in (None, asked.attempt):
        raise _none_open(task)
    if not may_answer(caller, asked.question):
        names = ", ".join(asked.question.answerers) or "whoever may write tasks"
        raise Forbidden(f"This question is for {names}; ask one of them, or an administrator.", "not_an_answerer")
    given = checked_answer(
        asked.question,
        VERDICTS[body.verdict],
        body.value(),
        body.reason,
        asker.principal,
        may_read=may_read_words(caller),
    )
    if asked.verdict is None:
        asked = await _answered(gate, asker, task, asked, given)
    if not given.is_that_of(asked):
        raise Conflict(
            f"Task {task_id} has another answer already, from {asked.answered_by}; look at it.", "already_answered"
        )
    return {"answered": True, "verdict": given.verdict.value, "answered_by": asked.answered_by}


async def _answered(gate: Gateway, asker: Origin, task: Task, asked: TaskQuestion, given: Answer) -> TaskQuestion:
    """The question with its answer, this one or another that came first. Raises: `Conflict` if it is not open any more."""
    event = Answered(attempt=asked.attempt, answer=given, cause=asker.cause)
    request = AnswerRequest(workspace=asker.workspace, task_id=task.id, event=event)
    refused: Conflict | None = None
    try:
        await gate.scheduler.request(request)
    except Conflict as conflict:
        refused = conflict
    now = await known_task(gate, asker, task.id)
    if now.question is None or now.question.attempt != asked.attempt or now.question.verdict is None:
        raise refused or _none_open(now)
    return now.question


def _none_open(task: Task) -> Conflict:
    return Conflict(
        f"Task {task.id} is {task.status.value} and has no such open question; look at it.", "no_open_question"
    )
