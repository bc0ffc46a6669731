"""What a called agent may answer instead of a result: a question to people, or children to wait for (docs/agent-contract.md).

Version 2 of the contract has it. An answer of version 1 is a result whatever its fields are, so an answer says that it is one of
version 2, and then what it means is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json, shown_text
from cluster.domain.base.names import check_name
from cluster.domain.tasks.children import MAX_CHILDREN
from cluster.domain.tasks.progress import Progress, checked_progress
from cluster.domain.tasks.question_checks import INVALID_QUESTION, MAX_ANSWERERS, MAX_QUESTION_CHARS, checked_question
from cluster.domain.tasks.questions import Question
from cluster.domain.tasks.task import Task

#: What calls of agents say that the control plane speaks, and answers that they speak.
CONTRACT: Final = 2
#: The longest time limit, in seconds: that of the API.
_MAX_LIMIT_S: Final = 366 * 86_400.0
_ASK: Final = frozenset({"question", "answer_schema", "answerers", "time_limit_seconds", "default", "checkpoint"})
_PARK: Final = frozenset({"children", "checkpoint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWait:
    """An attempt that ends without a result: with a ``question``, or until ``children`` have ended. ``progress`` has the
    checkpoint from which the next attempt goes on."""

    question: Question | None = None
    children: tuple[str, ...] = ()
    progress: Progress | None = None


def wait_in(answer: Any) -> AgentWait | None:
    """What the attempt waits for; None if the answer is a result or an error.

    Raises: `InvalidRequest` if it can neither be asked nor be waited for."""
    if not isinstance(answer, Mapping) or not _is_of_version_2(answer) or not answer.keys() & _READERS.keys():
        return None
    names = answer.keys() - {"contract"}
    if len(names) > 1:
        raise InvalidRequest(
            f"The answer has {_listed(names)}; give ask or park, and nothing besides.", "invalid_answer"
        )
    (name,) = names
    reader, known = _READERS[name]
    value = answer[name]
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} must be an object.", "invalid_answer")
    if unknown := value.keys() - known:
        raise InvalidRequest(f"{name} has no {_listed(unknown)}; it has {_listed(known)}.", "invalid_answer")
    return reader(value)


def child_outcome(task: Task) -> dict[str, Any]:
    """How a child has ended, for its parent's next attempt."""
    outcome = {
        "task_id": task.id,
        "task_type": task.task_type,
        "status": task.status.value,
        "status_detail": task.status_detail.value,
        "result": task.result,
        "error": task.error,
    }
    # A claim has room for so many results; the others are read one by one.
    return outcome | ({"left_out": [body.value for body in task.left_out]} if task.left_out else {})


def _is_of_version_2(answer: Mapping[str, Any]) -> bool:
    return type(answer.get("contract")) is int and answer["contract"] == CONTRACT


def _listed(names: Any) -> str:
    return shown_text(", ".join(sorted(names)), 200)


def _asked(ask: Mapping[str, Any]) -> AgentWait:
    text, schema, limit_s = ask.get("question"), ask.get("answer_schema"), ask.get("time_limit_seconds")
    answerers = [] if ask.get("answerers") is None else ask["answerers"]
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_QUESTION_CHARS:
        raise InvalidRequest(f"question must be a text of 1 to {MAX_QUESTION_CHARS} characters.", INVALID_QUESTION)
    check_name(text, "question")
    if schema is not None and not isinstance(schema, dict):
        raise InvalidRequest("answer_schema must be an object.", INVALID_QUESTION)
    if (
        not isinstance(answerers, list)
        or len(answerers) > MAX_ANSWERERS
        or not all(isinstance(name, str) for name in answerers)
    ):
        raise InvalidRequest(f"answerers must be a list of at most {MAX_ANSWERERS} names.", INVALID_QUESTION)
    if limit_s is not None and not _is_limit(limit_s):
        raise InvalidRequest("time_limit_seconds must be a number above 0, at most 366 days.", INVALID_QUESTION)
    check_json(dict(ask), "ask")
    default = (ask["default"],) if "default" in ask else None
    return AgentWait(
        question=checked_question(text, schema, answerers, None if limit_s is None else float(limit_s), default),
        progress=checked_progress(checkpoint=ask.get("checkpoint")),
    )


def _is_limit(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= _MAX_LIMIT_S  # which no NaN, infinity or huge integer is


def _parked(park: Mapping[str, Any]) -> AgentWait:
    children = park.get("children")
    if not isinstance(children, list) or not 1 <= len(children) <= MAX_CHILDREN:
        raise InvalidRequest(f"children must be a list of 1 to {MAX_CHILDREN} ids of tasks.", "invalid_children")
    for child in children:
        if not isinstance(child, str):
            raise InvalidRequest("children must be ids of tasks, which are texts.", "invalid_children")
        check_id(child, "children")
    return AgentWait(children=tuple(children), progress=checked_progress(checkpoint=park.get("checkpoint")))


_READERS: Mapping[str, tuple[Callable[[Mapping[str, Any]], AgentWait], frozenset[str]]] = {
    "ask": (_asked, _ASK),
    "park": (_parked, _PARK),
}
