"""Which requests are lines of the log, at which level."""

from __future__ import annotations

import logging

import pytest

from serve_app.application import PREFIXES, make_app
from serve_app.http.request_log import request_level


@pytest.mark.parametrize(
    ("method", "route", "status", "level"),
    [
        ("POST", "/tasks", 201, logging.INFO),
        ("DELETE", "/agents/{agent_id}", 200, logging.INFO),
        ("POST", "/tasks/{task_id}/cancel", 202, logging.INFO),
        ("GET", "/tasks/{task_id}", 200, logging.DEBUG),
        ("HEAD", "/health", 200, logging.DEBUG),
        ("GET", "/tasks/{task_id}", 404, logging.INFO),
        ("GET", "/health", 503, logging.WARNING),
        ("POST", "/tasks/claim", 200, logging.DEBUG),
        ("POST", "/tasks/claim", 409, logging.INFO),
        ("POST", "/tasks/{task_id}/complete", 200, logging.DEBUG),
        ("POST", "/agents/{agent_id}/heartbeat", 200, logging.DEBUG),
        ("POST", "/agents/{agent_id}/heartbeat", 500, logging.WARNING),
        ("POST", "unmatched", 404, logging.INFO),
    ],
)
def test_changes_and_failures_are_lines_and_frequent_calls_are_not(
    method: str, route: str, status: int, level: int
) -> None:
    assert request_level(method, f"{PREFIXES[0]}{route}" if route != "unmatched" else route, status) == level


def test_every_call_that_workers_make_all_the_time_is_quiet() -> None:
    paths = make_app().openapi()["paths"]
    quiet = {path.removeprefix(PREFIXES[0]) for path in paths if request_level("POST", path, 200) == logging.DEBUG}
    assert quiet == {
        "/tasks/claim",
        "/tasks/complete",
        "/tasks/fail",
        "/tasks/{task_id}/complete",
        "/tasks/{task_id}/fail",
        "/tasks/{task_id}/stopped",
        "/tasks/{task_id}/extend",
        "/agents/heartbeats",
        "/agents/{agent_id}/heartbeat",
    }
