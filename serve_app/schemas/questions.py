"""Bodies and answers about questions to people."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from cluster.domain.tasks.question_checks import (
    MAX_ANSWERERS,
    MAX_QUESTION_CHARS,
    MAX_REASON_CHARS,
    checked_question,
)
from cluster.domain.tasks.questions import Question, TaskQuestion, Verdict
from cluster.domain.tasks.task import Task, TaskDetail
from serve_app.schemas.fields import ExactBody, Money, Named, Seconds, Text


class InputRequired(ExactBody):
    """A question to people. ``answer_schema``: the JSON Schema of the answer. ``answerers``: who may answer (``user:EMAIL``,
    ``group:NAME``, ``key:ID``, ``role:NAME``); without any, whoever may write tasks. ``default``: the answer that applies when
    ``time_limit_seconds`` are over; without one the task fails then."""

    question: Named = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    answer_schema: dict[str, Any] | None = None
    answerers: list[Text] = Field([], max_length=MAX_ANSWERERS)
    time_limit_seconds: Seconds | None = None
    default: Any = None

    def to_domain(self) -> Question:
        """Raises: `InvalidRequest` if it cannot be asked."""
        default = (self.default,) if "default" in self.model_fields_set else None
        return checked_question(self.question, self.answer_schema, self.answerers, self.time_limit_seconds, default)


class AskInReport(InputRequired):
    """The question of a holder, which gives its lease back with it. ``checkpoint``: from where the next attempt goes on."""

    checkpoint: Any = None


class Ask(AskInReport):
    """The same as a body of its own. ``cost_usd``: what the attempt has cost, for budgets."""

    lease_token: Text = Field(max_length=1024)
    cost_usd: Money | None = None


class AnswerQuestion(ExactBody):
    """``approve`` and ``answer`` take an ``answer`` that fits the schema of the question (approved without one: true); ``reject``
    takes a ``reason``. ``attempt``: of the question that is meant, if a later one must not be answered."""

    verdict: Literal["approve", "reject", "answer"]
    answer: Any = None
    reason: Text | None = Field(None, min_length=1, max_length=MAX_REASON_CHARS)
    attempt: int | None = Field(None, ge=0, le=2**31 - 1)

    def value(self) -> tuple[Any] | None:
        """What was given as the answer, which may be null."""
        return (self.answer,) if "answer" in self.model_fields_set else None


VERDICTS = {"approve": Verdict.APPROVED, "reject": Verdict.REJECTED, "answer": Verdict.ANSWERED}


def input_wire(question: Question | None) -> dict[str, Any]:
    """A question as it is given with a submit; nothing if there is none."""
    if question is None:
        return {}
    fields: dict[str, Any] = {
        "question": question.text,
        "answer_schema": question.schema,
        "answerers": list(question.answerers) or None,
        "time_limit_seconds": question.time_limit_s,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return {"input_required": given | _default_wire(question)}


def _default_wire(question: Question) -> dict[str, Any]:
    return {} if question.default_json is None else {"default": json.loads(question.default_json)}


def question_wire(task: Task, asked: TaskQuestion) -> dict[str, Any]:
    """A question of a task as readers are shown it. ``due_at`` is None unless it is open and has a time limit."""
    question = asked.question
    is_open = task.status_detail is TaskDetail.INPUT_REQUIRED and asked.attempt == task.attempt
    return {
        "attempt": asked.attempt,
        "open": is_open,
        "question": question.text,
        "answer_schema": question.schema,
        "answerers": list(question.answerers),
        "time_limit_seconds": question.time_limit_s,
        "asked_at": asked.asked_at,
        "asked_by": asked.asked_by,
        "due_at": question.asking.until(task.run_at) if is_open else None,
        "verdict": None if asked.verdict is None else asked.verdict.value,
        "answer": asked.answer,
        "reason": asked.reason,
        "answered_at": asked.answered_at,
        "answered_by": asked.answered_by,
        **_default_wire(question),
    }
