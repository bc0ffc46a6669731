"""What the answer of a called agent, or the lack of one, means for its attempt at a task: the event that its host reports."""

from __future__ import annotations

from typing import Any

from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentUnavailable,
    InvalidRequest,
    PeerError,
)
from cluster.domain.base.json_values import MAX_ERROR_CHARS, check_text, shown_text, write_json
from cluster.domain.base.names import is_visible
from cluster.domain.tasks.agent_waits import AgentWait, wait_in
from cluster.domain.tasks.events import Complete, Fail, Reporter, ReportEvent, Undelivered
from cluster.domain.tasks.retries import ErrorClass

#: How an attempt ended, or what it waits for without its lease.
Outcome = ReportEvent | AgentWait

#: The fields of an answer that tells of an error.
_OF_ERRORS = frozenset({"error", "requeue"})


def outcome_of(answer: Any, by: Reporter) -> Outcome:
    """What an answer means. An error in which nothing can be read does not count.

    Raises: `InvalidRequest` if it cannot be stored, or holds nothing but an error that does not count, or asks for what cannot
    be asked or waited for."""
    wait = wait_in(answer)
    if wait is not None:
        return wait
    if isinstance(answer, dict) and isinstance(answer.get("error"), str) and is_visible(answer["error"]):
        error = answer["error"][:MAX_ERROR_CHARS]
        check_text(error, "The error that it answered")
        return Fail(by=by, error=error, requeue=answer.get("requeue") is not False)
    if isinstance(answer, dict) and "error" in answer and answer.keys() <= _OF_ERRORS:
        raise InvalidRequest("The answer has neither a result nor an error that says something.")
    result = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
    return Complete(by=by, result_json=write_json(result, "The answer"))


def cancelled(by: Reporter) -> Fail:
    """Of a task that was cancelled before its agent was called."""
    return Fail(by=by, error="cancelled", requeue=False)


def failed(error: PeerError, by: Reporter) -> Fail:
    """Of a call without an answer: the agent's words, and when it wants to be asked again."""
    return Fail(
        by=by,
        error=shown_text(error.message, MAX_ERROR_CHARS),
        error_code=error.code,
        error_class=ErrorClass.RATE_LIMITED if isinstance(error, AgentLimited) else ErrorClass.RETRYABLE,
        retry_after_s=error.retry_after_s if isinstance(error, AgentUnavailable | AgentFailed) else None,
    )


def malformed(sentence: str, by: Reporter) -> Fail:
    """Of an answer that cannot be used."""
    return Fail(by=by, error=shown_text(sentence, MAX_ERROR_CHARS), error_class=ErrorClass.MALFORMED)


def is_final(event: ReportEvent) -> bool:
    """Whether the task has no other attempt after this one."""
    return not event.requeue if isinstance(event, Fail) else not isinstance(event, Undelivered)
