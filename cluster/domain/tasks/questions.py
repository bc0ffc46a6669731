"""Questions to people: what a task may ask, who may answer, and what an answer has to be.

A task that is submitted with a question has no worker: the answer is its result. The holder of a task may ask too: it gives its
lease back, and the task is claimed again when it is answered. An attempt asks once at most, so its number names the question; 0
is that of the submit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import IDENTITY, LogTexts


class Verdict(StrEnum):
    """How a question was answered. ``default``: by nobody within its time limit."""

    APPROVED = "approved"
    REJECTED = "rejected"
    ANSWERED = "answered"
    DEFAULT = "default"


#: The texts that rows about questions have in their data.
LOG_TEXTS: LogTexts = {"answerers": IDENTITY, "verdict": frozenset(Verdict)}


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What decides about an open question. ``time_limit_s`` counts from when it is asked; None: it waits as long as its task may.
    ``has_default``: an answer applies when that time is over; else the task fails."""

    time_limit_s: float | None = None
    has_default: bool = False

    def until(self, asked_at: float) -> float | None:
        """When the time limit of a question that was asked at ``asked_at`` is over (epoch seconds)."""
        return None if self.time_limit_s is None else asked_at + self.time_limit_s

    def to_json(self) -> dict[str, Any]:
        return {"time_limit_seconds": self.time_limit_s, "has_default": self.has_default}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Asking:
        return cls(time_limit_s=data["time_limit_seconds"], has_default=data["has_default"])


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question. ``answerers``: subjects (``user:``, ``group:``, ``key:``, ``agent:``) and roles (``role:``) that may answer;
    none stands for whoever may write tasks. ``default_json``: the answer that applies at the end of its time."""

    text: str
    schema: Mapping[str, Any] | None = None
    answerers: tuple[str, ...] = ()
    time_limit_s: float | None = None
    default_json: str | None = None

    @property
    def asking(self) -> Asking:
        return Asking(time_limit_s=self.time_limit_s, has_default=self.default_json is not None)

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "schema": self.schema,
            "answerers": list(self.answerers),
            "time_limit_s": self.time_limit_s,
            "default_json": self.default_json,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Question:
        return cls(**{**data, "answerers": tuple(data["answerers"])})


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a principal has answered. ``value_json`` is None of a rejection, which may have a ``reason``, and of a default, which
    is stored with its question."""

    verdict: Verdict
    principal: str
    value_json: str | None = None
    reason: str | None = None

    def is_that_of(self, asked: TaskQuestion) -> bool:
        """Whether a question was answered so, whoever did it."""
        value = None if self.value_json is None else json.loads(self.value_json)
        same = canonical_json(value) == canonical_json(asked.answer)  # for Python, true is 1
        return same and (self.verdict, self.reason) == (asked.verdict, asked.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuestion:
    """A question of a task as readers see it. ``verdict`` is None until it is answered. Times are epoch seconds."""

    attempt: int
    asked_at: float
    asked_by: str
    question: Question
    verdict: Verdict | None = None
    answer: Any = None
    reason: str | None = None
    answered_at: float | None = None
    answered_by: str | None = None
