"""What a request to the shard asks of the task machine: its event, and the checks before memory is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from actors.messages import CancelRequest, PrioritizeRequest, ReportRequest, SchedulerRequest
from cluster.domain.base.json_values import check_json, check_text, read_json
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.columns import check_claimant
from cluster.domain.tasks.events import (
    CancelAcknowledged,
    CancelRequested,
    Complete,
    Event,
    Fail,
    Prioritized,
    Reporter,
    Undelivered,
)
from cluster.domain.tasks.task import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extension(Event):
    """Stands for an extension in an error's text; the task machine has no such event."""


EXTENSION: Final = _Extension()


def prepare(core: SchedulerCore, request: SchedulerRequest, now: float) -> Any:
    """Checks a request as far as that is possible before memory is changed, and returns what its change needs."""
    if isinstance(request, ClaimRequest):
        check_claimant(request.agent_id, request.claim_id, request.principal, request.cause)
        return request
    if isinstance(request, ReportRequest):
        _check_report(request)
    if isinstance(request, PrioritizeRequest):
        priority = None if request.priority is None else Priority(request.priority)
        return core.consider_priority(
            request.task_id, request.workspace, request.principal, priority, request.position, now, request.cause
        )
    if isinstance(request, ReportRequest | CancelRequest):
        return core.consider(request.task_id, request.workspace, event_of(request), now)
    return None


def _check_report(request: ReportRequest) -> None:
    """Checks of a report what the columns of its decision do not show, and what that decision is made of. Results are long and
    many, so one that our own code has written (``checked``) is not parsed again."""
    check_json(request.retry_after_s, "retry_after_seconds")
    if request.result_json is not None:
        (check_text if request.checked else read_json)(request.result_json, "result")


def event_of(request: Any) -> Event:
    """The machine's event that a request brings."""
    if isinstance(request, CancelRequest):
        return CancelRequested(principal=request.principal, cause=request.cause)
    if isinstance(request, PrioritizeRequest):
        return Prioritized(principal=request.principal, cause=request.cause)
    by = Reporter(principal=request.principal, agent_id=request.agent_id, attempt=request.attempt)
    if request.unsent:
        return Undelivered(by=by, cause=request.cause)
    if request.stopped:
        return CancelAcknowledged(by=by, cause=request.cause)
    if request.error is None and not request.released:
        return Complete(by=by, result_json=request.result_json, cause=request.cause)
    return Fail(
        by=by,
        error=request.error or "",
        given_back=request.released,
        error_class=request.error_class,
        requeue=request.requeue,
        retry_after_s=request.retry_after_s,
        error_code=request.error_code,
        cause=request.cause,
    )
