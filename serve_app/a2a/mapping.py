"""Tasks and deliberations of the API as tasks of the protocol.

They are written as JSON and not as the package's messages, which hold each number as a double: a result keeps its digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from a2a.types import TaskState

from cluster.domain.deliberation.person import question_task_id
from cluster.domain.deliberation.wire import A2A_CONTEXT
from serve_app.routes.deliberations import DeliberationStatus

#: The largest whole number that every reader of JSON has exactly.
MAX_WHOLE: Final = 2**53 - 1

SUBMITTED: Final = TaskState.TASK_STATE_SUBMITTED
WORKING: Final = TaskState.TASK_STATE_WORKING
COMPLETED: Final = TaskState.TASK_STATE_COMPLETED
FAILED: Final = TaskState.TASK_STATE_FAILED
CANCELED: Final = TaskState.TASK_STATE_CANCELED
INPUT_REQUIRED: Final = TaskState.TASK_STATE_INPUT_REQUIRED
ENDED: Final = frozenset({COMPLETED, FAILED, CANCELED})

_OF_TASK: Final[Mapping[str, int]] = {
    "running": WORKING,
    "completed": COMPLETED,
    "failed": FAILED,
    "timeout": FAILED,
    "cancelled": CANCELED,
}
_OF_DELIBERATION: Final[Mapping[str, int]] = {
    DeliberationStatus.PENDING: SUBMITTED,
    DeliberationStatus.SCHEDULED: SUBMITTED,
    DeliberationStatus.IN_PROGRESS: WORKING,
    DeliberationStatus.CONSENSUS_REACHED: COMPLETED,
    DeliberationStatus.NO_CONSENSUS: COMPLETED,
    DeliberationStatus.TIMEOUT: FAILED,
    DeliberationStatus.CANCELLED: CANCELED,
    DeliberationStatus.FAILED: FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a route has answered about a task or a deliberation. What is withheld from the caller is missing in ``found``.

    ``person``: the task whose question a deliberation puts to a person, if it does and the caller may read it."""

    id: str
    is_task: bool
    found: Mapping[str, Any]
    person: Mapping[str, Any] | None = None

    @property
    def state(self) -> int:
        if not self.is_task:
            return self._of_deliberation()
        if self.found.get("status_detail") == "input_required":
            return INPUT_REQUIRED
        begun = WORKING if self.found.get("attempt") else SUBMITTED
        return _OF_TASK.get(self.found["status"], begun)

    def _of_deliberation(self) -> int:
        """When its question has an answer it goes on, though its record says so a moment later."""
        asks = self.found.get("status_detail") == "input_required"
        if asks and (self.asked is None or self.asked["open"]):
            return INPUT_REQUIRED
        return _OF_DELIBERATION[self.found["deliberation_status"]]

    @property
    def asked(self) -> Mapping[str, Any] | None:
        """The last question to people, if there is one that the caller may read."""
        found = self.found if self.is_task else (self.person or {})
        question = found.get("question")
        return question if isinstance(question, Mapping) else None

    @property
    def question_task_id(self) -> str | None:
        """The task whose question it puts to a person, or has put."""
        if self.is_task:
            return self.id if self.asked is not None else None
        found: str | None = self.found.get("question_task_id")
        has_asked = (self.found.get("result") or {}).get("person") is not None
        return question_task_id(self.id) if found is None and has_asked else found

    @property
    def context_id(self) -> str:
        """The conversation that it belongs to: the one that its client has named, else one of its own."""
        return self._named or self.id

    @property
    def is_named(self) -> bool:
        """Whether its client has named a conversation."""
        return self._named is not None

    @property
    def _named(self) -> str | None:
        named = (self.found.get("metadata") or {}).get(A2A_CONTEXT) if self.is_task else self.found.get("context_id")
        return named if isinstance(named, str) and named else None


def name_of(state: int) -> str:
    name: str = TaskState.Name(state)
    return name


def new_task(task_id: str, context_id: str) -> dict[str, Any]:
    """A task that was submitted and cannot be read yet: where it was forwarded to, the copy may be a moment old."""
    return {"id": task_id, "contextId": context_id, "status": {"state": name_of(SUBMITTED)}}


def task_wire(record: Record, *, artifacts: bool = True) -> dict[str, Any]:
    wire = {"id": record.id, "contextId": record.context_id, "status": status_wire(record)}
    shown = artifacts_of(record) if artifacts else []
    return {**wire, "artifacts": shown} if shown else wire


def status_wire(record: Record) -> dict[str, Any]:
    status: dict[str, Any] = {"state": name_of(record.state), "timestamp": stamp(changed_at(record))}
    parts = _details(record)
    if parts:
        status["message"] = {
            "messageId": f"{record.id}-{record.state}-{record.found.get('attempt', 0)}",
            "taskId": record.id,
            "contextId": record.context_id,
            "role": "ROLE_AGENT",
            "parts": parts,
        }
    return status


def changed_at(record: Record) -> float:
    """Since when it is in its state, in epoch seconds."""
    if record.state == INPUT_REQUIRED and record.asked is not None:
        return float(record.asked["asked_at"])
    return listed_at(record)


def listed_at(record: Record) -> float:
    """By what lists order it, in epoch seconds: since when it is in its state, or since its admission if it is a deliberation
    that asks a person."""
    return float(record.found["changed_at"])


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _details(record: Record) -> list[dict[str, Any]]:
    """What a state says besides itself: a question, or why it failed."""
    found = record.found
    if record.state == INPUT_REQUIRED:
        asked = record.asked or {}
        schema = asked.get("answer_schema")
        text = [_text(asked["question"])] if "question" in asked else []
        return text if schema is None else [*text, _data({"answer_schema": schema})]
    error = found.get("error")
    return [_text(error)] if record.state == FAILED and isinstance(error, str) and error else []


def artifacts_of(record: Record) -> list[dict[str, Any]]:
    """The result, if there is one that the caller may read."""
    found = record.found
    result = found.get("result")
    if found.get("redacted") or "result" in found.get("left_out", ()):
        return []
    if record.is_task:
        if record.state != COMPLETED or "result" not in found:
            return []
        parts = [_text(result) if isinstance(result, str) and result else _data(result)]
        return [{"artifactId": "result", "name": "result", "parts": parts}]
    if not isinstance(result, Mapping):
        return []
    answer = result.get("answer")
    text = [_text(answer)] if isinstance(answer, str) and answer else []
    return [{"artifactId": "decision", "name": "decision", "parts": [*text, _data(result)]}]


def _text(text: str) -> dict[str, Any]:
    return {"text": text, "mediaType": "text/plain"}


def _data(value: Any) -> dict[str, Any]:
    """A part of data; as a text if a number of it would be rounded by whoever reads data as doubles."""
    if _is_exact(value):
        return {"data": value, "mediaType": "application/json"}
    return {"text": _json(value), "mediaType": "application/json"}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_exact(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, int | float) and not (math.isfinite(item) and abs(item) <= MAX_WHOLE):
            return False
    return True
