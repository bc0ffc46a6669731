"""Questions and answers as the statements of commits take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster.domain.base.json_writing import json_writer
from cluster.domain.tasks.questions import Answer, Question

_dump = json_writer()


def question_json(question: Question | None) -> str | None:
    """A question of a new task."""
    return None if question is None else _dump(question_parts(question))


def question_parts(question: Question) -> Mapping[str, Any]:
    """A question as `keep_question` reads it."""
    words = {"text": question.text, "schema": question.schema}
    if question.default_json is not None:
        words["default"] = json.loads(question.default_json)
    return {
        "answerers": question.answerers,
        "time_limit_s": question.time_limit_s,
        "has_default": question.asking.has_default,
        "words": words,
    }


def answer_parts(answer: Answer) -> Mapping[str, Any]:
    """An answer as the statement `decide` reads it."""
    value = None if answer.value_json is None else json.loads(answer.value_json)
    return {"verdict": answer.verdict.value, "principal": answer.principal, "value": value, "reason": answer.reason}
