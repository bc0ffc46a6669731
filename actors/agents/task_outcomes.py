"""The fields of a report of a called agent's task: what its answer, or the lack of one, means for the attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentNotCalled,
    AgentUnavailable,
    InvalidRequest,
    PeerError,
)
from cluster.domain.base.json_values import MAX_ERROR_CHARS, check_text, shown_text, write_json
from cluster.domain.base.names import is_visible
from cluster.domain.tasks.agent_waits import AgentWait, wait_in
from cluster.domain.tasks.retries import ErrorClass

#: What to report of a task that was cancelled.
CANCELLED: Mapping[str, Any] = {"error": "cancelled", "requeue": False}
#: The fields of an answer that tells of an error.
_OF_ERRORS = frozenset({"error", "requeue"})


#: The fields of a report, or what the attempt waits for without one.
Outcome = dict[str, Any] | AgentWait


def outcome_of(answer: Any) -> Outcome:
    """What an answer means. An error in which nothing can be read does not count.

    Raises: `InvalidRequest` if it cannot be stored, or holds nothing but an error that does not count, or asks for what cannot
    be asked or waited for."""
    wait = wait_in(answer)
    if wait is not None:
        return wait
    if isinstance(answer, dict) and isinstance(answer.get("error"), str) and is_visible(answer["error"]):
        error = answer["error"][:MAX_ERROR_CHARS]
        check_text(error, "The error that it answered")
        return {"error": error, "requeue": answer.get("requeue") is not False}
    if isinstance(answer, dict) and "error" in answer and answer.keys() <= _OF_ERRORS:
        raise InvalidRequest("The answer has neither a result nor an error that says something.")
    result = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
    return {"result_json": write_json(result, "The answer")}


def failed(error: PeerError) -> dict[str, Any]:
    """What to report of a call without an answer: the agent's words, and when it wants to be asked again."""
    outcome: dict[str, Any] = {"error": shown_text(error.message, MAX_ERROR_CHARS), "error_code": error.code}
    if isinstance(error, AgentUnavailable | AgentFailed):
        outcome["retry_after_s"] = error.retry_after_s
    if isinstance(error, AgentLimited):
        outcome["error_class"] = ErrorClass.RATE_LIMITED
    return outcome


def malformed(sentence: str) -> dict[str, Any]:
    """What to report of an answer that cannot be used."""
    return {"error": shown_text(sentence, MAX_ERROR_CHARS), "error_class": ErrorClass.MALFORMED}


def unsent(refused: AgentNotCalled) -> dict[str, Any]:
    """What to report of a task that the agent was not asked to do: it is given back."""
    return {"error": shown_text(refused.message, MAX_ERROR_CHARS), "unsent": True}
