"""What a contract says about asking a person at the end: ``config.ask_person``, checked and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_schema import within
from cluster.domain.base.names import is_visible
from cluster.domain.base.nearest import hint
from cluster.domain.deliberation.answers import MAX_ITEMS, MAX_TEXT, AnswerKind, AnswerType, Malformed, Shape, canonical
from cluster.domain.deliberation.numbers import is_large
from cluster.domain.tasks.question_checks import MAX_ANSWERERS, MAX_QUESTION_CHARS, checked_question
from cluster.domain.tasks.questions import Question

INVALID: Final = "invalid_ask_person"
#: As of questions of tasks: a year, in seconds.
MAX_TIME_LIMIT_S: Final = 31_536_000.0


class AskWhen(StrEnum):
    NO_CONSENSUS = "no_consensus"
    BELOW_CONFIDENCE = "below_confidence"
    ALWAYS = "always"


#: When a person is asked. Docs print this table.
ASK_WHEN: Final = {
    AskWhen.NO_CONSENSUS: "the agents ended without a decision",
    AskWhen.BELOW_CONFIDENCE: "the same, or the confidence of their decision is below `confidence`",
    AskWhen.ALWAYS: "always, whatever the agents decided",
}
_NAMES: Final = ("when", "confidence", "question", "answerers", "time_limit_seconds", "default")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPerson:
    """``confidence``: below it a decision is put to a person, if ``when`` says so. ``question`` "": it is made of the question
    and of what the agents found. ``answerers``: as of `Question`. ``time_limit_s``: in seconds from when it is asked; None: no
    end. ``default``: the canonical answer that applies then; None: the agents' outcome stays."""

    when: AskWhen = AskWhen.NO_CONSENSUS
    confidence: float | None = None
    question: str = ""
    answerers: tuple[str, ...] = ()
    time_limit_s: float | None = None
    default: str | None = None

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "when": self.when.value, "answerers": list(self.answerers)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AskPerson:
        return cls(**{**value, "when": AskWhen(value["when"]), "answerers": tuple(value["answerers"])})


def shape_of(answer: AnswerType) -> Shape:
    """The shape of one answer, from whomever it comes."""
    return Shape(answer=answer, labels=answer.closed)


def value_schema(answer: AnswerType) -> dict[str, Any]:
    """The JSON Schema of the value of an answer, as a person gives it."""
    kind = answer.kind
    if kind is AnswerKind.CHOICE:
        return {"enum": list(answer.options)}
    if kind is AnswerKind.SET:
        items = {"enum": list(answer.options)} if answer.options else {"type": "string", "maxLength": MAX_TEXT}
        return {"type": "array", "items": items, "maxItems": MAX_ITEMS}
    if kind is AnswerKind.JSON:
        return dict(answer.schema)
    if kind is AnswerKind.TEXT:
        return {"type": "string", "maxLength": MAX_TEXT, "pattern": r"\S"}
    return {"type": kind.value}  # number or boolean


def asked_question(ask: AskPerson, answer: AnswerType, text: str, *, may_approve: bool) -> Question:
    """The question to people. ``may_approve``: there is an answer of the agents, which ``true`` stands for in an approval.

    Raises: `InvalidRequest` if nothing can be asked so."""
    schema = value_schema(answer)
    if may_approve and answer.kind is not AnswerKind.BOOLEAN:
        inner, of_the_whole = within(schema, "/anyOf/1")
        schema = {"anyOf": [{"const": True}, inner], **of_the_whole}
    default = None if ask.default is None else (answer.value_of(ask.default),)
    return checked_question(text, schema, ask.answerers, ask.time_limit_s, default)


def parse_ask_person(value: Any, answer: AnswerType) -> AskPerson | None:
    """Reads ``config.ask_person``; None if there is none. Raises: `InvalidRequest`."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _refused('must be an object, such as {"when": "no_consensus"}')
    for name in value:
        if name not in _NAMES:
            raise _refused(f"has no {name[:64]}; {hint(name, _NAMES)}")
    given = {name: item for name, item in value.items() if item is not None}
    ask = AskPerson(
        when=_when(given.get("when", AskWhen.NO_CONSENSUS)),
        confidence=_number(given, "confidence", 0.0, 1.0),
        question=_question(given.get("question", "")),
        answerers=_answerers(given.get("answerers", [])),
        time_limit_s=_number(given, "time_limit_seconds", 0.001, MAX_TIME_LIMIT_S),
        default=_default(given["default"], answer) if "default" in given else None,
    )
    if (ask.when is AskWhen.BELOW_CONFIDENCE) is (ask.confidence is None):
        raise _refused("takes confidence with when below_confidence, and only then")
    checked = asked_question(ask, answer, ask.question or "?", may_approve=True)
    return replace(ask, answerers=checked.answerers)


def _refused(problem: str) -> InvalidRequest:
    return InvalidRequest(f"config.ask_person {problem}.", INVALID)


def _when(value: Any) -> AskWhen:
    if not isinstance(value, str) or value not in tuple(AskWhen):
        raise _refused(f"has a when that is none of {', '.join(AskWhen)}")
    return AskWhen(value)


def _number(given: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _refused(f"needs a number from {low:g} to {high:.10g} in {name}")
    return float(value)


def _question(value: Any) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or not is_visible(value) or len(value) > MAX_QUESTION_CHARS:
        raise _refused(f"needs a text of 1 to {MAX_QUESTION_CHARS} characters in question")
    return value


def _answerers(value: Any) -> tuple[str, ...]:
    fits = isinstance(value, list | tuple) and len(value) <= MAX_ANSWERERS
    if not fits or not all(isinstance(name, str) for name in value):
        raise _refused(f"needs a list of at most {MAX_ANSWERERS} names in answerers")
    return tuple(value)


def _default(value: Any, answer: AnswerType) -> str:
    try:
        text = canonical(value, shape_of(answer))
    except Malformed as problem:
        raise _refused(f"has a default that is no answer: {problem}") from None
    if answer.kind is AnswerKind.NUMBER and is_large(text):
        raise _refused("needs a default below 2^53")
    return text
