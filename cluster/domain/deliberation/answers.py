"""Typed answers: the JSON that an agent is asked for, and the canonical form of what it sends.

Two answers are the same only if their canonical forms are equal (numbers: within the tolerance). Texts are never matched
by similarity. Ranges and membership are checked here, because servers are known to ignore those parts of a JSON schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.compact import compact
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_in_text import Unfit, last_value
from cluster.domain.base.json_schema import mismatch, within
from cluster.domain.base.json_values import NotJson, cut_text
from cluster.domain.consensus.ballots import BallotKind, Confidence
from cluster.domain.deliberation.numbers import Numeral, distance, is_large, number_text, plain

MAX_TEXT = 4000
#: Characters of a rationale that are looked at before it is cut.
MAX_WHOLE = 2 * MAX_TEXT
MAX_ITEMS = 32
SEVERITIES = ("low", "medium", "high")
OWN_ERROR = "own_error"
NO_REASON = "none"
_NUMBER = re.compile(r"^\s*([+-]?(?:\d[\d,_ ]*)?(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(.*?)\s*$", re.DOTALL)
#: The longest text that is read as a number with its unit: the pattern's time grows with the square of the length.
MAX_NUMBER_CHARS = 200
_LEVELS = frozenset(level.value for level in Confidence)
_TRUE, _FALSE = ("true", "yes"), ("false", "no")


class AnswerKind(StrEnum):
    CHOICE = "choice"
    NUMBER = "number"
    BOOLEAN = "boolean"
    SET = "set"
    JSON = "json"
    TEXT = "text"


#: What each kind is, and when two answers of it are the same. Docs print this table.
ANSWER_KINDS = {
    AnswerKind.CHOICE: ("one of `options`", "same option"),
    AnswerKind.NUMBER: ("a number, in `unit` if given", "within `tolerance` of each other"),
    AnswerKind.BOOLEAN: ("true or false", "same value"),
    AnswerKind.SET: ("a list, of `options` if given", "same members, in any order"),
    AnswerKind.JSON: ("a JSON value with the shape of `schema`", "same canonical JSON (RFC 8785)"),
    AnswerKind.TEXT: ("free text", "endorsed by vote, or chosen by a judge"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerType:
    kind: AnswerKind = AnswerKind.TEXT
    options: tuple[str, ...] = ()
    unit: str = ""
    tolerance: float = 0.0
    schema: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "options": list(self.options),
            "unit": self.unit,
            "tolerance": self.tolerance,
            "schema": dict(self.schema),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnswerType:
        return cls(**{**value, "kind": AnswerKind(value["kind"]), "options": tuple(value["options"])})

    @property
    def closed(self) -> tuple[str, ...]:
        """Every canonical answer that can be given, if they are a closed set; else ()."""
        if self.kind is AnswerKind.BOOLEAN:
            return ("true", "false")
        return self.options if self.kind is AnswerKind.CHOICE else ()

    def value_of(self, canonical: str | None) -> Any:
        """The JSON value that a canonical answer stands for. Numbers from 2^53 on are strings in it (``numbers``)."""
        if canonical is None or self.kind in (AnswerKind.CHOICE, AnswerKind.TEXT):
            return canonical
        if self.kind is AnswerKind.NUMBER and is_large(canonical):
            return f"{canonical} {self.unit}".rstrip()
        return plain(json.loads(canonical))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a reply must look like. ``labels``: the only answers that are allowed, if they are a closed set. ``reasons``:
    set for a revision, the critiques that it may name. ``targets``: set for critiques, the participants that they may be
    about."""

    answer: AnswerType = field(default_factory=AnswerType)
    labels: tuple[str, ...] = ()
    ballot: BallotKind = BallotKind.CHOICE
    reasons: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``choice``: the canonical answer, a candidate's label, or free text; None together with ``abstained``.

    ``ranked``: the whole ranking or approved set, where that was asked for. ``critiques``: JSON of critique messages.
    """

    choice: str | None = None
    rationale: str = ""
    confidence: str | None = None
    abstained: bool = False
    ranked: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    because: str = ""
    changed: bool = False
    critiques: tuple[Mapping[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON without empty fields, except ``choice``, ``rationale`` and ``confidence``, which are always there."""
        value: dict[str, Any] = {"choice": self.choice, "rationale": self.rationale, "confidence": self.confidence}
        for name in ("abstained", "because", "changed"):
            if getattr(self, name):
                value[name] = getattr(self, name)
        for name in ("ranked", "evidence", "critiques"):
            if getattr(self, name):
                value[name] = list(getattr(self, name))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        fields: dict[str, Any] = {n: tuple(item) if isinstance(item, list) else item for n, item in value.items()}
        return cls(**fields)


class Malformed(Unfit):
    """An answer that does not fit. The message says why, and goes into the repair prompt."""


# --- asking -----------------------------------------------------------------------------------------------------------


def answer_schema(shape: Shape) -> dict[str, Any]:
    """JSON schema of a reply."""
    if shape.targets is not None:
        return _object({"critiques": {"type": "array", "maxItems": 2, "items": _critique_schema(shape.targets)}})
    answer, of_the_whole = within(_answer_property(shape), "/properties/answer")
    fields: dict[str, Any] = {"answer": answer}
    if shape.ballot is not BallotKind.CHOICE and shape.labels:
        fields = {_LIST_FIELD[shape.ballot]: {"type": "array", "items": _enum(shape.labels)}}
    fields["rationale"] = {"type": "string", "maxLength": 400}
    fields["confidence"] = _enum([level.value for level in Confidence])
    if shape.reasons is not None:
        fields["because"] = _enum([*shape.reasons, OWN_ERROR, NO_REASON])
    return _object(fields) | of_the_whole


_LIST_FIELD = {BallotKind.APPROVAL: "approve", BallotKind.RANKING: "ranking"}


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _enum(values: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def _critique_schema(targets: Sequence[str]) -> dict[str, Any]:
    text = {"type": "string", "maxLength": 300}
    return _object(
        {"target": _enum(targets), "claim_quote": text, "defect": text, "severity": _enum(SEVERITIES), "fix": text}
    )


def _answer_property(shape: Shape) -> dict[str, Any]:
    if shape.labels:
        return _enum(shape.labels)
    kind = shape.answer.kind
    if kind is AnswerKind.NUMBER:
        return {"type": "number"}
    if kind is AnswerKind.SET:
        items = _enum(shape.answer.options) if shape.answer.options else {"type": "string"}
        return {"type": "array", "items": items}
    if kind is AnswerKind.JSON:
        return dict(shape.answer.schema)
    return {"type": "string", "maxLength": MAX_TEXT}


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_reply(text: str, shape: Shape) -> Answer:
    """Reads the last object in a reply that fits the shape; ``{"abstain": true}`` is an answer too.

    Raises: ``Malformed`` if none fits."""
    try:
        return last_value(text, lambda value: _answer(value, shape), "the reply", Numeral)
    except NotJson:
        raise Malformed("the reply must be one valid JSON object, complete to its last brace") from None
    except InvalidRequest as odd:
        raise Malformed(odd.message.rstrip(".")) from None


def _answer(value: Any, shape: Shape) -> Answer:
    if not isinstance(value, dict):
        raise Malformed("the reply must be one JSON object")
    if shape.targets is not None:
        if value and "critiques" not in value:
            raise Malformed('"critiques" is missing')
        return Answer(critiques=tuple(_critiques(value, shape.targets)))
    # Whoever journals a rationale cuts it again, near the tokens that were allowed.
    rationale = cut_text(_text(value.get("rationale"), MAX_WHOLE), MAX_TEXT)
    if value.get("abstain") is True:
        return Answer(rationale=rationale, abstained=True)
    ranked = _ranked(value, shape)
    known = value.get("confidence")
    because = value.get("because")
    return Answer(
        choice=ranked[0] if ranked else canonical(_given(value), shape),
        rationale=rationale,
        confidence=known if isinstance(known, str) and known in _LEVELS else None,
        ranked=ranked,
        evidence=tuple(_text(item)[:500] for item in _list(value.get("evidence"))[:5] if isinstance(item, str)),
        because=_because(because, shape.reasons),
    )


def _given(value: Mapping[str, Any]) -> Any:
    if "answer" not in value:
        raise Malformed('"answer" is missing')
    return value["answer"]


def _because(value: Any, reasons: tuple[str, ...] | None) -> str:
    if reasons is None:
        return ""
    return value if isinstance(value, str) and value in (*reasons, OWN_ERROR) else NO_REASON


def canonical(raw: Any, shape: Shape) -> str:
    """The one text that stands for an answer. Raises: ``Malformed`` if it is no answer of this shape."""
    if shape.labels:
        return _member(raw, shape.labels)
    return _CANONICAL[shape.answer.kind](raw, shape.answer)


def _member(raw: Any, allowed: Sequence[str]) -> str:
    if isinstance(raw, bool | int | float):
        raw = json.dumps(raw)
    by_fold = {option.casefold(): option for option in allowed}
    found = by_fold.get(raw.strip().casefold()) if isinstance(raw, str) else None
    if found is None:
        raise Malformed(f'"answer" must be exactly one of {json.dumps(list(allowed), ensure_ascii=False)}')
    return found


def _a_choice(raw: Any, answer: AnswerType) -> str:
    return _member(raw, answer.options)


def _a_boolean(raw: Any, answer: AnswerType) -> str:
    word = raw.strip().casefold() if isinstance(raw, str) else json.dumps(raw)
    if word in _TRUE:
        return "true"
    if word in _FALSE:
        return "false"
    raise Malformed('"answer" must be true or false')


def _a_number(raw: Any, answer: AnswerType) -> str:
    number: str | None = None
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        number = number_text(raw)
    elif (
        isinstance(raw, str)
        and len(raw) <= MAX_NUMBER_CHARS
        and (match := _NUMBER.match(raw))
        and match.group(1).strip()
    ):
        if match.group(2) and match.group(2).casefold() != answer.unit.casefold():
            raise Malformed(f'"answer" must be a number in {answer.unit or "no unit"}')
        number = number_text(re.sub(r"[,_ ]", "", match.group(1)))
    if number is None:
        raise Malformed('"answer" must be a number')
    return number


def _a_set(raw: Any, answer: AnswerType) -> str:
    if not isinstance(raw, list) or len(raw) > MAX_ITEMS:
        raise Malformed(f'"answer" must be a list of at most {MAX_ITEMS} texts')
    if answer.options:
        members = {_member(item, answer.options) for item in raw}
    else:
        members = {_member_text(item) for item in raw if isinstance(item, str | int | float)}
    return _whole(canonical_bytes(sorted(members)).decode())


def _member_text(item: str | float) -> str:
    if isinstance(item, str):
        return _text(item).strip()
    number = None if isinstance(item, bool) else number_text(item)
    return json.dumps(item) if number is None else number


def _a_json(raw: Any, answer: AnswerType) -> str:
    problem = mismatch(raw, answer.schema)
    if problem:
        raise Malformed(f'"answer" {problem}')
    try:
        text = canonical_bytes(plain(raw)).decode()
    except (ValueError, TypeError):
        raise Malformed('"answer" holds a number that JSON cannot carry exactly') from None
    return _whole(text)


def _whole(text: str) -> str:
    """The JSON text of an answer; a part of it would be no JSON. Raises: ``Malformed`` if it is too long to be kept."""
    if len(text) > MAX_TEXT:
        raise Malformed(f'"answer" must be no longer than {MAX_TEXT} characters as JSON')
    return text


def _a_text(raw: Any, answer: AnswerType) -> str:
    text = _text(raw if isinstance(raw, str) else json.dumps(raw)).strip()
    if not text or raw is None:
        raise Malformed('"answer" must be a non-empty text')
    return text


_CANONICAL: dict[AnswerKind, Callable[[Any, AnswerType], str]] = {
    AnswerKind.CHOICE: _a_choice,
    AnswerKind.BOOLEAN: _a_boolean,
    AnswerKind.NUMBER: _a_number,
    AnswerKind.SET: _a_set,
    AnswerKind.JSON: _a_json,
    AnswerKind.TEXT: _a_text,
}


def _ranked(value: Mapping[str, Any], shape: Shape) -> tuple[str, ...]:
    """The approved set or the ranking; a single ``answer`` counts as one with a single option."""
    if shape.ballot is BallotKind.CHOICE or not shape.labels:
        return ()
    named = _list(value.get(_LIST_FIELD[shape.ballot])) or ([value["answer"]] if "answer" in value else [])
    ranked = tuple(dict.fromkeys(_member(item, shape.labels) for item in named))
    if not ranked:
        raise Malformed(f'"{_LIST_FIELD[shape.ballot]}" must name at least one of {json.dumps(list(shape.labels))}')
    return ranked


def _critiques(value: Mapping[str, Any], targets: Sequence[str]) -> list[dict[str, str]]:
    """The critiques that name a participant who was shown, and a defect. The rest is dropped."""
    found = []
    for item in _list(value.get("critiques"))[:MAX_ITEMS]:
        if isinstance(item, Mapping) and item.get("target") in targets and _text(item.get("defect")).strip():
            severity = item.get("severity")
            critique = {name: _text(item.get(name))[:500] for name in ("target", "claim_quote", "defect", "fix")}
            found.append({**critique, "severity": severity if severity in SEVERITIES else "medium"})
    return found[: len(targets)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any, limit: int = MAX_TEXT) -> str:
    return value[:limit].replace("\x00", "") if isinstance(value, str) else ""


# --- numbers within the tolerance -------------------------------------------------------------------------------------


def group_numbers(given: Sequence[str], tolerance: float) -> dict[str, str]:
    """Answer → the answer that stands for it: the one with the most others within the tolerance; of several, the one
    nearest to the median."""
    left = sorted(given, key=Fraction)
    groups: dict[str, str] = {}
    while left:
        head = _head(left, tolerance)
        near = [number for number in left if distance(number, head) <= tolerance]
        groups.update(dict.fromkeys(near, head))
        left = [number for number in left if number not in groups]
    return groups


def _head(numbers: Sequence[str], tolerance: float) -> str:
    middle = numbers[len(numbers) // 2]

    def worth(number: str) -> tuple[int, float | Fraction, Fraction]:
        near = sum(distance(other, number) <= tolerance for other in numbers)
        return (-near, distance(number, middle), Fraction(number))

    return min(numbers, key=worth)
