"""What a task asks for in place of parts of the retry policy."""

from __future__ import annotations

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.tasks.events import Claim, Fail, Reporter, RunTimedOut
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import Backoff, ErrorClass, RetryPolicy, TaskRetries, checked_retries
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import TaskHead
from tests.support.samples import NOW, new_task

EXACT = RetryPolicy(retryable=Backoff(jitter=0.0), rate_limited=Backoff(base_s=15.0, cap_s=900.0, jitter=0.0))
BY = Reporter(principal="p", agent_id="a1", attempt=1)


def _running(retries: TaskRetries | None, already: int = 0) -> TaskHead:
    head = new_task(rules=TaskRules(retries=retries), max_retries=50).head()
    claimed = step(head, Claim(agent_id="a1", claim_id="c", principal="p"), NOW, EXACT).head
    return TaskHead(**{name: getattr(claimed, name) for name in TaskHead.__slots__} | {"retries": already})


@pytest.mark.parametrize(
    ("retries", "error_class", "pauses"),
    [
        (None, ErrorClass.RETRYABLE, (1.0, 2.0, 300.0)),
        (TaskRetries(initial_s=3.0), ErrorClass.RETRYABLE, (3.0, 6.0, 300.0)),
        (TaskRetries(initial_s=0.0), ErrorClass.RETRYABLE, (0.0, 0.0, 0.0)),
        (TaskRetries(factor=1.0), ErrorClass.MALFORMED, (1.0, 1.0, 1.0)),
        (TaskRetries(factor=100.0, cap_s=50.0), ErrorClass.RETRYABLE, (1.0, 50.0, 50.0)),
        (TaskRetries(initial_s=1.0, factor=9.0), ErrorClass.RATE_LIMITED, (15.0, 30.0, 900.0)),
        (TaskRetries(cap_s=20.0), ErrorClass.RATE_LIMITED, (15.0, 20.0, 20.0)),
    ],
)
def test_pauses_are_those_that_the_task_asks_for(
    retries: TaskRetries | None, error_class: ErrorClass, pauses: tuple[float, ...]
) -> None:
    for already, pause in zip((0, 1, 40), pauses, strict=True):
        after = step(_running(retries, already), Fail(by=BY, error="e", error_class=error_class), NOW, EXACT)
        assert after.head.run_at == NOW + pause


@pytest.mark.parametrize(
    ("codes", "code", "error_class", "detail"),
    [
        ((), "A", ErrorClass.RETRYABLE, "retrying"),
        (("A",), "A", ErrorClass.RETRYABLE, "failed"),
        (("A",), "B", ErrorClass.RETRYABLE, "retrying"),
        (("A",), None, ErrorClass.RETRYABLE, "retrying"),
        (("malformed",), None, ErrorClass.MALFORMED, "failed"),
        (("malformed",), "A", ErrorClass.RATE_LIMITED, "retrying"),
    ],
)
def test_a_failure_with_a_named_code_ends_the_task(
    codes: tuple[str, ...], code: str | None, error_class: ErrorClass, detail: str
) -> None:
    head = _running(TaskRetries(non_retryable=codes))
    after = step(head, Fail(by=BY, error="e", error_code=code, error_class=error_class), NOW, EXACT)
    assert after.head.detail == detail


@pytest.mark.parametrize(("codes", "detail"), [((), "retrying"), (("run_timeout",), "timeout")])
def test_an_attempt_that_ran_too_long_may_end_the_task(codes: tuple[str, ...], detail: str) -> None:
    assert step(_running(TaskRetries(non_retryable=codes)), RunTimedOut(), NOW, EXACT).head.detail == detail


def test_what_is_stored_is_read_again_and_as_usual_is_nothing() -> None:
    for retries in (TaskRetries(cap_s=5.0), TaskRetries(initial_s=0.0, factor=1.5, non_retryable=("A", "B"), calls=3)):
        rules = TaskRules(retries=retries)
        assert TaskRules.from_json(rules.to_json()) == rules
        assert checked_retries(retries) == retries
    assert TaskRules(retries=checked_retries(TaskRetries())).or_none() is None
    with pytest.raises(InvalidRequest, match="cap_seconds"):
        checked_retries(TaskRetries(initial_s=2.0, cap_s=1.0))
