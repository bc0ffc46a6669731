"""Routes by which agents report what became of their tasks. Reports go through the scheduler shard, which ends the lease."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from aragora_worker.base.money import nanos_of
from cluster.domain.access.permissions import Permission
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import Conflict, ControlPlaneError, InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import shown_text
from cluster.domain.base.log import Origin
from cluster.domain.base.names import is_visible
from cluster.domain.deliberation.numbers import exact_json
from cluster.domain.scheduling.requests import ReportRequest
from cluster.domain.tasks import events
from cluster.domain.tasks.events import Reporter, ReportEvent
from cluster.domain.tasks.task import LeaseToken
from cluster.process import spans
from cluster.process.large import in_thread_if_large, rough_size
from serve_app.auth.admission import Asker, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.denials import note_denial
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import gateway
from serve_app.http.exact_numbers import exact_numbers
from serve_app.http.idempotency import Idempotency
from serve_app.http.spans import reporting
from serve_app.routes.children import parked_in
from serve_app.routes.questions import asked_in
from serve_app.schemas.tasks import (
    CancelAcknowledgement,
    Complete,
    Fail,
    RefusedReport,
    Report,
    Reports,
)

router = GuardedRouter(tags=["tasks"])


@router.post("/tasks/fail")
@router.post("/tasks/complete")
@requires(Permission.TASKS_CLAIM)
@exact_numbers
async def complete_tasks(request: Request, body: Reports, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Takes up to 1,000 reports in one call, completions and failures. ``results`` has one answer for each report, in their
    order; a report that cannot be taken, whatever its shape, fails alone (its ``task_id`` is null if it names no task)."""
    outcomes = await asyncio.gather(
        *(_report_one(request, asker, report) for report in body.reports), return_exceptions=True
    )
    results = []
    for report, outcome in zip(body.reports, outcomes, strict=True):
        if isinstance(outcome, ControlPlaneError):
            note_denial(request, outcome)
            # The client may have sent anything.
            task_id = report.named if isinstance(report, RefusedReport) else shown_text(report.task_id, 128)
            results.append({"task_id": task_id, "ok": False, "error": outcome.message, "code": outcome.code})
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results.append({"task_id": report.task_id, "ok": True})
    return {"results": results, "total": len(results)}


async def _report_one(request: Request, asker: Origin, body: Report) -> None:
    if isinstance(body, RefusedReport):
        raise InvalidRequest(body.refusal, body.code)
    if body.ask is not None:
        await asked_in(request, asker, body.task_id, body, body.ask)
        return
    if body.park is not None:
        await parked_in(request, asker, body.task_id, body, body.park)
        return
    await _report(request, await in_thread_if_large(rough_size(body.result), _report_request, asker, body))


def _report_request(asker: Origin, body: Report) -> ReportRequest:
    if body.stopped:
        return _stopped(asker, body.task_id, body)
    if body.released and body.result is not None:
        raise InvalidRequest("Report a result, or give the task back with released; not both.", "invalid_request")
    unsaid = body.error is not None and not is_visible(body.error)  # some clients send "error": "" with every result
    if body.released or (body.error is not None and not (unsaid and body.result is not None)):
        return _failed(asker, body.task_id, body)
    return _completed(asker, body.task_id, body)


def _completed(asker: Origin, task_id: str, body: Report | Complete) -> ReportRequest:
    result_json = None if body.result is None else exact_json(body.result, "result")
    by = _reporter(asker, task_id, body)
    return _request(asker, task_id, body, events.Complete(by=by, result_json=result_json, cause=asker.cause))


def _failed(asker: Origin, task_id: str, body: Report | Fail) -> ReportRequest:
    """The request of a report that an attempt has failed, or is given back.

    Raises: `InvalidRequest` if the report says both that the task should be given to others and that it should not."""
    if body.released and not body.requeue:
        raise InvalidRequest(
            "A task that is given back (released) is queued again; leave requeue out.", "invalid_request"
        )
    by = _reporter(asker, task_id, body)
    if body.released:
        event = events.Fail(by=by, error=body.error or "", given_back=True, cause=asker.cause)
        return _request(asker, task_id, body, event)
    event = events.Fail(
        by=by,
        error=body.error if body.error is not None and is_visible(body.error) else "Unknown error",
        requeue=body.requeue,
        error_class=body.error_class,
        retry_after_s=body.retry_after_seconds,
        error_code=body.error_code,
        cause=asker.cause,
    )
    return _request(asker, task_id, body, event)


def _stopped(asker: Origin, task_id: str, body: Report | CancelAcknowledgement) -> ReportRequest:
    by = _reporter(asker, task_id, body)
    return _request(asker, task_id, body, events.CancelAcknowledged(by=by, cause=asker.cause))


_Body = Report | Complete | Fail | CancelAcknowledgement


def _reporter(asker: Origin, task_id: str, body: _Body) -> Reporter:
    check_id(task_id, "task_id")
    if body.lease_token is None:
        return Reporter(principal=asker.principal, agent_id=body.agent_id)
    token = LeaseToken.decode(body.lease_token)
    if token.task_id != task_id:
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    if body.agent_id is not None and body.agent_id != token.agent_id:
        raise Conflict("lease_token belongs to another agent.", "lease_lost")
    return Reporter.of(asker.principal, token)


def _request(asker: Origin, task_id: str, body: _Body, event: ReportEvent) -> ReportRequest:
    return ReportRequest(
        workspace=asker.workspace,
        task_id=task_id,
        event=event,
        checked=True,
        cost_nanos=None if body.cost_usd is None else nanos_of(body.cost_usd, "cost_usd"),
    )


async def _report(request: Request, report: ReportRequest) -> None:
    gate, by = gateway(request), report.event.by
    agent_id = acting_agent(request, by.agent_id)
    if agent_id != by.agent_id:
        report = evolve(report, event=evolve(report.event, by=evolve(by, agent_id=agent_id)))
    if spans.tracer is None:
        await gate.report(report)
    else:
        with spans.within(await reporting(gate.submit_causes, report.task_id)):
            await gate.report(report)
    if agent_id is not None:
        gate.record_activity(report.workspace, agent_id)


@router.post("/tasks/{task_id}/complete")
@requires(Permission.TASKS_CLAIM)
@exact_numbers
async def complete_task(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: Complete | None = None
) -> dict[str, Any]:
    """Completes a task. With the ``lease_token`` of the claim, only the holder of that attempt can; for any other attempt the
    answer is 409 (`Conflict`, ``lease_lost``)."""
    body = body or Complete()
    await _report(request, await in_thread_if_large(rough_size(body.result), _completed, asker, task_id, body))
    return {"completed": True}


@router.post("/tasks/{task_id}/fail")
@requires(Permission.TASKS_CLAIM)
async def fail_task(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: Fail | None = None
) -> dict[str, Any]:
    """Reports a failed attempt. The task is tried again while it has retries left, unless ``requeue`` is false or
    ``error_class`` is ``not_retryable``. With ``released`` the attempt is given back unfinished: the task is queued again and
    no retry is spent. 409 (`Conflict`, ``lease_lost``) if the caller does not hold the lease."""
    body = body or Fail()
    await _report(request, _failed(asker, task_id, body))
    return {"released": True} if body.released else {"failed": True}


@router.post("/tasks/{task_id}/stopped")
@requires(Permission.TASKS_CLAIM)
async def stopped_task(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: CancelAcknowledgement | None = None
) -> dict[str, Any]:
    """Reports that the agent has stopped a task that is being cancelled. The lease ends at once, not after the grace.
    409 (`Conflict`, ``lease_lost``) if the caller does not hold it."""
    await _report(request, _stopped(asker, task_id, body or CancelAcknowledgement()))
    return {"stopped": True}
