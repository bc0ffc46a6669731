"""What the answer of a called agent means for its attempt."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentMalformed,
    AgentTimeout,
    AgentUnavailable,
    InvalidRequest,
    PeerError,
)
from cluster.domain.base.json_values import MAX_ERROR_CHARS
from cluster.domain.tasks.agent_outcomes import cancelled, failed, is_final, malformed, outcome_of
from cluster.domain.tasks.events import CancelAcknowledged, Complete, Fail, Reporter, ReportEvent, Undelivered
from cluster.domain.tasks.retries import ErrorClass

BY = Reporter(principal="system:agent-host", agent_id="a1", attempt=3)


def _fail(error: str, **fields: Any) -> Fail:
    return Fail(by=BY, error=error, **fields)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"result": [1]}, Complete(by=BY, result_json="[1]")),
        ({"text": "x"}, Complete(by=BY, result_json='{"text": "x"}')),
        (None, Complete(by=BY, result_json="null")),
        ({"error": "no"}, _fail("no")),
        ({"error": "no", "requeue": False}, _fail("no", requeue=False)),
        ({"error": "no", "requeue": 0}, _fail("no")),
        ({"error": "x" * (MAX_ERROR_CHARS + 1)}, _fail("x" * MAX_ERROR_CHARS)),
        ({"error": " ", "result": 1}, Complete(by=BY, result_json="1")),
        ({"error": 5, "other": 1}, Complete(by=BY, result_json='{"error": 5, "other": 1}')),
    ],
)
def test_an_answer_is_a_result_or_an_error(answer: Any, outcome: ReportEvent) -> None:
    assert outcome_of(answer, BY) == outcome


@pytest.mark.parametrize("answer", [{"error": ""}, {"error": None, "requeue": True}, {"error": "\ud800x"}])
def test_an_error_that_says_nothing_is_malformed(answer: Any) -> None:
    with pytest.raises(InvalidRequest):
        outcome_of(answer, BY)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AgentUnavailable("away", None, 3.0), _fail("away", error_code="agent_unavailable", retry_after_s=3.0)),
        (AgentFailed("odd", None, 4.0), _fail("odd", error_code="agent_failed", retry_after_s=4.0)),
        (
            AgentLimited("busy", None, 5.0),
            _fail("busy", error_code="agent_rate_limited", retry_after_s=5.0, error_class=ErrorClass.RATE_LIMITED),
        ),
        (AgentTimeout("slow"), _fail("slow", error_code=AgentTimeout.default_code)),
        (AgentMalformed("what"), _fail("what", error_code=AgentMalformed.default_code)),
    ],
)
def test_a_call_without_an_answer_says_when_to_ask_again(error: PeerError, outcome: ReportEvent) -> None:
    assert failed(error, BY) == outcome


@pytest.mark.parametrize(
    ("event", "final"),
    [
        (Complete(by=BY), True),
        (cancelled(BY), True),
        (_fail("no", requeue=False), True),
        (_fail("no"), False),
        (malformed("odd", BY), False),
        (Undelivered(by=BY), False),
        (CancelAcknowledged(by=BY), True),
    ],
)
def test_only_an_error_and_a_return_leave_another_attempt(event: ReportEvent, final: bool) -> None:
    assert is_final(event) is final
