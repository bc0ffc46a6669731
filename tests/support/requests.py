"""Requests to a scheduler shard, in the words of who makes them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from cluster.domain.scheduling.requests import CancelRequest, ReportRequest
from cluster.domain.tasks.events import (
    CancelAcknowledged,
    CancelRequested,
    Complete,
    Fail,
    Reporter,
    ReportEvent,
    Undelivered,
)
from tests.support.samples import ASKER

_OF_THE_REQUEST = frozenset(field.name for field in fields(ReportRequest)) - {"event"}


def a_report(task_id: str, **says: Any) -> ReportRequest:
    """A report of an attempt: failed with ``error``, given back with ``released``, ``stopped``, ``unsent``, else completed.
    ``says`` are fields of the request, of its event and of who reports."""
    of_request = {name: says.pop(name) for name in _OF_THE_REQUEST & says.keys()}
    by = Reporter(
        principal=says.pop("principal", ASKER.principal), agent_id=says.pop("agent_id"), attempt=says.pop("attempt")
    )
    event: ReportEvent
    if says.pop("unsent", False):
        event = Undelivered(by=by)
    elif says.pop("stopped", False):
        event = CancelAcknowledged(by=by, **says)
    elif says.get("error") is not None or says.get("released"):
        event = Fail(by=by, given_back=says.pop("released", False), error=says.pop("error", None) or "", **says)
    else:
        event = Complete(by=by, **{name: value for name, value in says.items() if name != "error"})
    return ReportRequest(**({"workspace": "w", "task_id": task_id, "event": event} | of_request))


def a_cancel(task_id: str, *, workspace: str = "w", principal: str = ASKER.principal, cause: str = "") -> CancelRequest:
    event = CancelRequested(principal=principal, cause=cause)
    return CancelRequest(workspace=workspace, task_id=task_id, event=event)
