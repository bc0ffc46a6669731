"""What a message asks for: a task, a deliberation, or the answer to a question.

A message has no field that says what it is for, so its metadata do, under ``aragora``: the skill, and fields of the body of the
route. Numbers of data that the protocol would round are refused, and 5.0 is 5, as the same call of the API has it: the protocol
carries all numbers as doubles, and what is submitted by two doors has one digest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from a2a.types import Role
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
)

from cluster.domain.base.json_values import shown_text
from cluster.domain.deliberation.wire import A2A_CONTEXT
from serve_app.a2a.card import DELIBERATE, SUBMIT
from serve_app.a2a.mapping import MAX_WHOLE
from serve_app.a2a.rpc import Call

OURS: Final = "aragora"
MAX_CONTEXT_CHARS: Final = 256
_SKILLS: Final = (DELIBERATE, SUBMIT)
#: Fields of the routes' bodies that a message says otherwise.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "payload": "send it as a data part",
    "content": "send it as a text part",
    "idempotency_key": "the messageId is it",
    "request_id": "the messageId is what makes repeats safe",
    "async": "configuration.returnImmediately says it",
    "mode": "configuration.returnImmediately says it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A call of a route. ``key``: its idempotency key. ``context_id``: the conversation that the client has named, or empty."""

    path: str
    body: dict[str, Any]
    key: str
    context_id: str

    @property
    def is_task(self) -> bool:
        return self.path == "/tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What the parts of a message say."""

    texts: Sequence[str]
    data: Sequence[Any]

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def check_message(call: Call) -> None:
    """Raises: an error of the protocol if the message is none of a client, or asks for what is not served."""
    message = call.params.message
    if message.role != Role.ROLE_USER:
        raise InvalidParamsError("message.role must be ROLE_USER.")
    if len(message.context_id) > MAX_CONTEXT_CHARS:
        raise InvalidParamsError(f"message.contextId must have at most {MAX_CONTEXT_CHARS} characters.")


def work_of(call: Call) -> Work:
    """What a message that begins something asks for.

    Raises: an error of the protocol if that cannot be told."""
    fields, content, message = _fields(call), _content(call), call.params.message
    skill = fields.pop("skill", SUBMIT if "task_type" in fields else DELIBERATE)
    if skill not in _SKILLS:
        raise InvalidParamsError(f"metadata.{OURS}.skill must be one of {', '.join(_SKILLS)}.")
    for name, instead in _ELSEWHERE.items():
        if name in fields:
            raise InvalidParamsError(f"metadata.{OURS} has no {name}: {instead}.")
    kept = {A2A_CONTEXT: message.context_id} if message.context_id else {}
    if skill == SUBMIT:
        metadata = _object(fields.get("metadata", {}), f"metadata.{OURS}.metadata")
        body = {**fields, "payload": _payload(content), "metadata": {**metadata, **kept}}
    else:
        body = {**fields, **_question(fields, content), "async": True}
        context = _object(fields.get("context", {}), f"metadata.{OURS}.context")
        body["context"] = {**context, **kept}
    return Work(
        path="/tasks" if skill == SUBMIT else "/deliberations",
        body=body,
        key=key_of_message(message.message_id),
        context_id=message.context_id,
    )


def answer_of(call: Call) -> dict[str, Any]:
    """The body of an answer to a question: the data of the message, else its text; or the verdict that its metadata name.

    Raises: an error of the protocol if there is none."""
    fields, content = _fields(call), _content(call)
    verdict = fields.get("verdict", "answer")
    extra = {name: fields[name] for name in ("attempt",) if name in fields}
    if verdict == "reject":
        return {"verdict": verdict, **({"reason": content.text} if content.texts else {}), **extra}
    if len(content.data) > 1 or (content.data and content.texts):
        raise InvalidParamsError("Answer with one data part, or with text parts.")
    if not content.data and not content.texts:
        raise InvalidParamsError("Answer with a data part or a text part.")
    return {"verdict": verdict, "answer": content.data[0] if content.data else content.text, **extra}


def key_of_message(message_id: str) -> str:
    """Ids of messages may be any text, and a key is short and printable."""
    return "a2a-" + hashlib.sha256(message_id.encode()).hexdigest()


def _fields(call: Call) -> dict[str, Any]:
    """What the metadata of the message, else those of the request, say to us."""
    message = call.raw.get("message", {})
    for metadata in (message.get("metadata"), call.raw.get("metadata")):
        if isinstance(metadata, Mapping) and OURS in metadata:
            given = _object(metadata[OURS], f"metadata.{OURS}")
            exact: dict[str, Any] = exact_numbers(given, f"metadata.{OURS}")
            return exact
    return {}


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidParamsError(f"{what} must be an object.")
    return value


def _content(call: Call) -> _Content:
    texts, data = [], []
    for part, raw in zip(call.params.message.parts, call.raw["message"]["parts"], strict=True):
        kind = part.WhichOneof("content")
        if kind == "text":
            texts.append(part.text)
        elif kind == "data":
            data.append(exact_numbers(raw.get("data"), "A data part"))
        elif kind is None:
            raise InvalidParamsError("A part must have a text or data.")
        else:
            raise ContentTypeNotSupportedError(
                "Files are not taken; send text or data parts, or the URL of a file as a text."
            )
    return _Content(texts=texts, data=data)


def _payload(content: _Content) -> Any:
    """The payload of a task: the data as they are. A text is its prompt, as language models and A2A agents read it."""
    if len(content.data) > 1:
        raise InvalidParamsError("Send one data part: it is the payload of the task.")
    if not content.texts:
        return content.data[0]
    if not content.data:
        return {"prompt": content.text}
    data = content.data[0]
    if not isinstance(data, Mapping) or "prompt" in data:
        raise InvalidParamsError(
            "A text beside data is the prompt of a payload: send data that are an object without one."
        )
    return {"prompt": content.text, **data}


def _question(fields: Mapping[str, Any], content: _Content) -> dict[str, Any]:
    if not content.texts:
        raise InvalidParamsError(
            f"A deliberation needs a text part with its question; name metadata.{OURS}.task_type to submit a task."
        )
    if not content.data:
        return {"content": content.text}
    if "evidence" in fields:
        raise InvalidParamsError(f"Data parts are the evidence of a deliberation; leave metadata.{OURS}.evidence out.")
    return {"content": content.text, "evidence": list(content.data)}


def exact_numbers(value: Any, what: str) -> Any:
    """The value with whole numbers as such, since the protocol makes 5.0 of 5.

    Raises: `InvalidParamsError` if it holds a number that the protocol may have rounded."""
    if isinstance(value, Mapping):
        return {name: exact_numbers(item, what) for name, item in value.items()}
    if isinstance(value, list):
        return [exact_numbers(item, what) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not math.isfinite(value) or abs(value) > MAX_WHOLE:
        raise InvalidParamsError(
            f"{what} holds the number {shown_text(str(value), 32)}, which the protocol would round; send numbers beyond 2^53 "
            "as texts."
        )
    return int(value) if isinstance(value, float) and value.is_integer() else value
