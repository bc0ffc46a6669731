"""Typed answers: the JSON that an agent is asked for, and what is made of what it sends.

Ranges and membership are checked here, because servers are known to ignore those parts of a JSON schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.consensus.ballots import Confidence

MAX_TEXT = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``choice``: the option, the candidate's label, or the free text. None together with ``abstained``."""

    choice: str | None
    rationale: str = ""
    confidence: str | None = None
    abstained: bool = False

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        return cls(**value)


class Malformed(ValueError):
    """Why an answer does not fit; the sentence goes into the repair prompt."""


def answer_schema(options: Sequence[str]) -> dict[str, Any]:
    """JSON schema of an answer; without options the answer is text."""
    answer: dict[str, Any] = {"type": "string", "enum": list(options)} if options else {"type": "string"}
    if not options:
        answer["maxLength"] = MAX_TEXT
    return {
        "type": "object",
        "properties": {
            "answer": answer,
            "rationale": {"type": "string", "maxLength": 400},
            "confidence": {"type": "string", "enum": [level.value for level in Confidence]},
        },
        "required": ["answer", "rationale", "confidence"],
        "additionalProperties": False,
    }


def parse_answer(text: str, options: Sequence[str]) -> Answer:
    """Raises Malformed. ``{"abstain": true}`` is an answer too."""
    value = _json_object(text)
    if value.get("abstain") is True:
        return Answer(choice=None, rationale=_text(value.get("rationale")), abstained=True)
    raw = value.get("answer")
    if isinstance(raw, bool | int | float):
        raw = str(raw)
    if not isinstance(raw, str) or not raw.strip():
        raise Malformed('"answer" must be a non-empty string')
    choice = raw.strip()[:MAX_TEXT]
    if options:
        by_fold = {option.casefold(): option for option in options}
        if choice.casefold() not in by_fold:
            raise Malformed(f'"answer" must be exactly one of {json.dumps(list(options), ensure_ascii=False)}')
        choice = by_fold[choice.casefold()]
    confidence = value.get("confidence")
    known = confidence if confidence in {level.value for level in Confidence} else None
    return Answer(choice=choice, rationale=_text(value.get("rationale")), confidence=known)


def _text(value: Any) -> str:
    return value[:MAX_TEXT].replace("\x00", "") if isinstance(value, str) else ""


def _json_object(text: str) -> dict[str, Any]:
    """The object in the text: models wrap it in prose and code fences."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise Malformed("the reply must be one JSON object")
    try:
        value = json.loads(text[start : end + 1])
    except json.JSONDecodeError:
        raise Malformed("the reply must be one valid JSON object, complete to its last brace") from None
    if not isinstance(value, dict):
        raise Malformed("the reply must be one JSON object")
    return value
