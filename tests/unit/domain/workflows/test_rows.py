"""What rows of the log are to the runs that they are about."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.workflows.document import FailureCode
from cluster.domain.workflows.machine import CancelAsked, Due, Event, Go, ItemEnded, Signalled
from cluster.domain.workflows.rows import event_of, run_of
from cluster.domain.workflows.stored import task_id

RUN = "run_1"
ITEM = task_id(RUN, "ask", 7)


def _ended(code: FailureCode | None) -> ItemEnded:
    return ItemEnded(step="ask", index=7, code=code)


@pytest.mark.parametrize(
    ("kind", "entity", "data", "event"),
    [
        ("workflow.run_started", RUN, {}, Go()),
        ("workflow.run_advanced", RUN, {"more": True}, Go()),
        ("workflow.run_advanced", RUN, {"more": False}, None),
        ("workflow.run_step_ended", RUN, {"step": "ask"}, None),
        ("workflow.run_due", RUN, {}, Due()),
        ("workflow.run_cancel_requested", RUN, {}, CancelAsked()),
        ("workflow.run_signalled", RUN, {"signal": "approved"}, Signalled(name="approved")),
        ("task.completed", ITEM, {}, _ended(None)),
        ("task.failed", ITEM, {}, _ended(FailureCode.FAILED)),
        ("task.dead_lettered", ITEM, {}, _ended(FailureCode.FAILED)),
        ("task.timeout", ITEM, {}, _ended(FailureCode.TIMEOUT)),
        ("task.cancelled", ITEM, {}, _ended(FailureCode.CANCELLED)),
        ("deliberation.completed", ITEM, {"terminal": "NO_CONSENSUS"}, _ended(FailureCode.NO_CONSENSUS)),
        ("deliberation.cancelled", ITEM, {"terminal": "CANCELLED"}, _ended(FailureCode.DELIBERATION_CANCELLED)),
    ],
)
def test_rows_are_events_of_their_run(kind: str, entity: str, data: dict[str, Any], event: Event | None) -> None:
    assert run_of(entity) == RUN
    assert event_of(kind, entity, data) == event
