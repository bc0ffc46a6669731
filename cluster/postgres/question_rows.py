"""Questions and answers as the statements of commits take them."""

from __future__ import annotations

import json

from cluster.domain.base.json_writing import json_writer
from cluster.domain.tasks.questions import Answer, Question

_dump = json_writer()


def question_json(question: Question | None) -> str | None:
    """A question as `keep_question` reads it."""
    if question is None:
        return None
    words = {"text": question.text, "schema": question.schema}
    if question.default_json is not None:
        words["default"] = json.loads(question.default_json)
    return _dump(
        {
            "answerers": list(question.answerers),
            "time_limit_s": question.time_limit_s,
            "has_default": question.asking.has_default,
            "words": words,
        }
    )


def answer_json(answer: Answer | None) -> str | None:
    """An answer as `decide_questions` reads it."""
    if answer is None:
        return None
    value = None if answer.value_json is None else json.loads(answer.value_json)
    return _dump(
        {"verdict": answer.verdict.value, "principal": answer.principal, "value": value, "reason": answer.reason}
    )
