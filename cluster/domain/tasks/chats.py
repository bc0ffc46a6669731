"""Turns ordinary tasks into chats, for agents that only answer messages: language models and A2A agents.

A payload becomes messages: its ``messages`` as they are, or its ``prompt``, or the whole payload as JSON with sorted keys.
The reply becomes the task's result: its text or, if the payload has a ``schema``, the answer that fits the schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_in_text import Unfit, last_value
from cluster.domain.base.json_schema import Steps, check_schema, mismatch

ROLES = ("system", "user", "assistant")
DEFAULT_MAX_TOKENS = 1024
MAX_TOKENS = 32_768
#: The fields of a payload that say how it is asked, and not what.
SETTINGS = ("schema", "max_tokens", "allow_incomplete")
NOTHING = "The payload asks nothing; give it a prompt, messages, or the data itself."
NO_SCHEMA = "payload.schema must be an object, the JSON Schema of the answer."


class NotAChat(Exception):
    """The payload cannot be turned into a chat; the text says what it should be."""


class NotAnAnswer(Unfit):
    """The reply does not fit the schema of the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """What is asked: the messages, the JSON Schema of the answer (empty for free text), the answer's bound in tokens, and
    whether an answer that is empty or was cut off is one."""

    messages: tuple[Mapping[str, str], ...]
    schema: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = DEFAULT_MAX_TOKENS
    allow_incomplete: bool = False


def chat_of(payload: Any) -> Chat:
    """The chat that a payload asks for. Raises: `NotAChat` if the payload is empty or one of its fields is wrong."""
    if not isinstance(payload, Mapping):
        if not payload:
            raise NotAChat(NOTHING)
        return Chat(messages=(_user(payload),))
    schema = payload.get("schema", {})
    if not isinstance(schema, Mapping):
        raise NotAChat(NO_SCHEMA)
    try:
        check_schema(schema, "payload.schema")
    except InvalidRequest as wrong:
        raise NotAChat(wrong.message) from None
    max_tokens = payload.get("max_tokens", DEFAULT_MAX_TOKENS)
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or not 1 <= max_tokens <= MAX_TOKENS:
        raise NotAChat(f"payload.max_tokens must be a whole number from 1 to {MAX_TOKENS}.")
    allowed = payload.get("allow_incomplete", False)
    if not isinstance(allowed, bool):
        raise NotAChat("payload.allow_incomplete must be true or false.")
    return Chat(messages=_messages(payload), schema=schema, max_tokens=max_tokens, allow_incomplete=allowed)


def _messages(payload: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    if "messages" in payload:
        messages = payload["messages"]
        if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
            raise NotAChat(f"payload.messages must be a list of {{role, content}}, role one of {', '.join(ROLES)}.")
        return tuple({"role": message["role"], "content": message["content"]} for message in messages)
    if "prompt" in payload:
        if not isinstance(payload["prompt"], str):
            raise NotAChat("payload.prompt must be a text.")
        return (_user(payload["prompt"]),)
    asked = {name: value for name, value in payload.items() if name not in SETTINGS}
    if not asked:
        raise NotAChat(NOTHING)
    return (_user(asked),)


def _is_message(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") in ROLES and isinstance(item.get("content"), str)


def _user(content: Any) -> Mapping[str, str]:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, sort_keys=True)
    return {"role": "user", "content": text}


def answer_of(chat: Chat, text: str) -> dict[str, Any]:
    """The task's result: ``{"text"}``, or ``{"answer"}`` if the chat has a schema: the last value in the text that fits it.

    Raises: `NotAnAnswer` if the reply has no JSON that can be stored, or its JSON does not fit the schema."""
    if not chat.schema:
        return {"text": text}
    steps = Steps()

    def fitting(value: Any) -> Any:
        wrong = mismatch(value, chat.schema, steps)
        if wrong:
            raise NotAnAnswer(f"The answer {wrong}.")
        return value

    try:
        return {"answer": last_value(text, fitting, "The answer")}
    except InvalidRequest as odd:
        raise NotAnAnswer(odd.message) from None


def check_asked_schema(payload: Any) -> None:
    """Checks the schema of a payload that asks something (``prompt``, ``messages``), before its task is taken.

    Other payloads are their worker's business: in them ``schema`` may be the name of a database. One of those that reaches an
    agent that chats is checked when it is called.

    Raises: `InvalidRequest` if no answer could be checked against the schema."""
    if not isinstance(payload, Mapping) or "schema" not in payload or not payload.keys() & {"prompt", "messages"}:
        return
    if not isinstance(payload["schema"], Mapping):
        raise InvalidRequest(NO_SCHEMA, "invalid_schema")
    check_schema(payload["schema"], "payload.schema")
