"""Questions of jobs to people. A job that asks ends: its task waits without a worker, and comes again with the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aragora_worker.base.json_values import check_json, plain_json
from aragora_worker.base.progress import checked_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to the last question of a task. ``verdict``: ``approved``, ``rejected``, ``answered``, or ``default`` if nobody
    answered in time. ``value`` is None of a rejection, which may have a ``reason``. ``attempt`` asked."""

    verdict: str
    value: Any
    reason: str | None
    answered_by: str
    attempt: int


class Asks(BaseException):
    """Ends a job that asks. Not an `Exception`, which handlers catch for other reasons. ``ask`` is what is reported."""

    def __init__(self, ask: Mapping[str, Any]) -> None:
        super().__init__("the job asks people")
        self.ask = ask


def question_of(
    question: str,
    schema: Mapping[str, Any] | None,
    answerers: Sequence[str],
    time_limit_s: float | None,
    default: Sequence[Any],
    checkpoint: Any,
) -> Mapping[str, Any]:
    """What is reported of a question. ``default`` holds the default answer, or nothing.

    Raises: `InvalidRequest` if a value cannot be stored."""
    ask: dict[str, Any] = {
        "question": question,
        "answer_schema": schema,
        "answerers": list(answerers),
        "time_limit_seconds": time_limit_s,
        "checkpoint": checkpoint,
    }
    if default:
        ask["default"] = default[0]
    checked_progress(checkpoint=checkpoint)
    check_json(ask, "The question")
    plain: Mapping[str, Any] = plain_json(ask)
    return plain


def answer_of(task: Mapping[str, Any]) -> Answer | None:
    """The answer that a claimed task comes with; None if it has asked nothing."""
    asked = task.get("question")
    if not isinstance(asked, dict) or asked.get("verdict") is None:
        return None
    return Answer(
        verdict=asked["verdict"],
        value=asked.get("answer"),
        reason=asked.get("reason"),
        answered_by=asked["answered_by"],
        attempt=asked["attempt"],
    )
