"""The table by which the shard handles requests."""

from __future__ import annotations

from typing import get_args

from actors.scheduler.handlers import HANDLERS
from cluster.domain.scheduling.requests import SchedulerRequest


def test_each_kind_of_request_has_a_handler() -> None:
    assert set(HANDLERS) == set(get_args(SchedulerRequest))


def test_each_request_about_a_task_is_answered_after_its_end() -> None:
    """But a claim, a heartbeat and a release, which memory alone decides."""
    about_a_task = {
        kind for kind in HANDLERS if "task_id" in kind.__dataclass_fields__ and kind.__name__ != "ReleaseRequest"
    }
    assert {kind for kind, handler in HANDLERS.items() if handler.ended is not None} == about_a_task
