"""Whether a question can be asked, whether an answer fits it, and who may give it.

Apart from the values: only the API checks them, and the library of schemas takes long to load.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from cluster.domain.access.granting import checked_subject
from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.roles import ROLE_PATTERN
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_schema import check_schema, mismatch
from cluster.domain.base.json_values import write_json
from cluster.domain.tasks.questions import Answer, Question, Verdict

MAX_QUESTION_CHARS: Final = 4_000
MAX_REASON_CHARS: Final = 1_000
#: Bytes of JSON. An answer travels with every later claim, and a default with every list of questions.
MAX_ANSWER_BYTES: Final = 65_536
MAX_DEFAULT_BYTES: Final = 16_384
MAX_ANSWERERS: Final = 32
INVALID_QUESTION: Final = "invalid_question"
INVALID_ANSWER: Final = "invalid_answer"
#: Before the name of a role among those who may answer; what is before other names are the kinds of subjects.
ROLE: Final = "role:"


def checked_question(
    text: str,
    schema: Mapping[str, Any] | None,
    answerers: Collection[str],
    time_limit_s: float | None,
    default: tuple[Any] | None,
) -> Question:
    """The question of these values; ``default`` holds the default answer, which may be null.

    Raises: `InvalidRequest` if the schema cannot be checked against, the default does not fit it, or nobody can have a name
    among those who may answer."""
    if schema is not None:
        check_schema(schema, "schema")
    question = Question(
        text=text,
        schema=schema,
        answerers=tuple(sorted({_answerer(name) for name in answerers})),
        time_limit_s=time_limit_s,
    )
    if default is None:
        return question
    if time_limit_s is None:
        raise InvalidRequest("A default applies at the end of time_limit_seconds; give that too.", INVALID_QUESTION)
    default_json = _fitting(question, default[0], "default", MAX_DEFAULT_BYTES, INVALID_QUESTION)
    return evolve(question, default_json=default_json)


def _answerer(name: str) -> str:
    if not name.startswith(ROLE):
        return checked_subject(name)
    if ROLE_PATTERN.fullmatch(name.removeprefix(ROLE)) is None:
        raise InvalidRequest(
            "answerers must be role:NAME, user:EMAIL, group:NAME, key:ID or agent:ID, without spaces.", INVALID_QUESTION
        )
    return name


def checked_answer(
    question: Question,
    verdict: Verdict,
    value: tuple[Any] | None,
    reason: str | None,
    principal: str,
    *,
    may_read: bool = True,
) -> Answer:
    """The answer of these values; ``value`` holds what was given, which may be null. Approved without one stands for ``true``.
    ``may_read``: whether who answers may read the schema, which a refusal then quotes.

    Raises: `InvalidRequest` if the value does not fit the schema, is missing, or is one of a rejection."""
    if verdict is Verdict.REJECTED:
        if value is not None:
            raise InvalidRequest("A rejection has a reason and no answer; leave answer out.", INVALID_ANSWER)
        return Answer(verdict=verdict, principal=principal, reason=reason)
    if reason is not None:
        raise InvalidRequest("Only a rejection has a reason; leave reason out.", INVALID_ANSWER)
    if value is None and verdict is Verdict.ANSWERED:
        raise InvalidRequest("An answer needs a value; give it in answer.", INVALID_ANSWER)
    given = True if value is None else value[0]
    return Answer(
        verdict=verdict,
        principal=principal,
        value_json=_fitting(question, given, "answer", MAX_ANSWER_BYTES, INVALID_ANSWER, may_read=may_read),
    )


def _fitting(question: Question, value: Any, what: str, most: int, code: str, *, may_read: bool = True) -> str:
    """The JSON of a value that fits the question's schema."""
    text = write_json(value, what)
    if len(text.encode()) > most:
        raise InvalidRequest(f"{what} is larger than {most} bytes of JSON; give less, or where it can be found.", code)
    problem = mismatch(value, question.schema or {})
    if problem and not may_read:
        raise InvalidRequest(
            f"{what} does not fit the question's schema; look at that with a key that has {Permission.PAYLOADS_READ}.",
            code,
        )
    if problem:
        raise InvalidRequest(f"{what} does not fit the question's schema: it {problem}.", code)
    return text


def may_answer(principal: Principal, question: Question) -> bool:
    """Whether a principal is among those who may answer a question."""
    if not question.answerers:
        return Permission.TASKS_WRITE in principal.permissions
    names = {principal.id, *principal.subjects, *(ROLE + role for role in principal.roles)}
    return not names.isdisjoint(question.answerers)
