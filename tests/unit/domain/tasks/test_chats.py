"""Payloads of tasks as chats, and replies as their results."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.tasks.chats import (
    DEFAULT_MAX_TOKENS,
    MAX_TOKENS,
    Chat,
    NotAChat,
    NotAnAnswer,
    answer_of,
    chat_of,
    check_asked_schema,
)

LABEL = {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}}, "required": ["label"]}


@pytest.mark.parametrize(
    ("payload", "content"),
    [
        ({"prompt": "Which?"}, "Which?"),
        ("Which?", "Which?"),
        ({"b": [1, 2.5], "a": "ü", "max_tokens": 9, "allow_incomplete": True}, '{"a": "ü", "b": [1, 2.5]}'),
        ([1, 2**70], f"[1, {2**70}]"),
    ],
)
def test_a_payload_becomes_one_message(payload: Any, content: str) -> None:
    assert chat_of(payload).messages == ({"role": "user", "content": content},)


def test_messages_stay_as_they_are_and_nothing_else_is_sent() -> None:
    messages = [{"role": "system", "content": "Be brief.", "name": "x"}, {"role": "user", "content": "Which?"}]
    chat = chat_of({"messages": messages, "schema": LABEL, "max_tokens": 7, "more": 1})
    assert chat.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"})
    assert (chat.schema, chat.max_tokens, chat_of("?").max_tokens) == (LABEL, 7, DEFAULT_MAX_TOKENS)
    assert chat_of({"prompt": "x", "allow_incomplete": True}).allow_incomplete
    assert not chat.allow_incomplete


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        "",
        {"schema": LABEL},
        {"prompt": 1},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": ["x"]}]},
        {"prompt": "x", "schema": "text"},
        {"data": 1, "schema": {"type": "intt"}},
        {"prompt": "x", "max_tokens": 0},
        {"prompt": "x", "allow_incomplete": None},
        {"prompt": "x", "allow_incomplete": "yes"},
        {"prompt": "x", "max_tokens": MAX_TOKENS + 1},
        {"prompt": "x", "max_tokens": True},
    ],
)
def test_a_payload_that_is_no_chat_is_refused_with_a_sentence(payload: Any) -> None:
    with pytest.raises(NotAChat, match=r"^(The payload|payload)\b.*\.$"):
        chat_of(payload)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"label": "spam"}', {"label": "spam"}),
        ('Sure:\n```json\n{"label": "ham"}\n```', {"label": "ham"}),
        ('<think>{"label": "spam"}?</think>{"label": "ham"}', {"label": "ham"}),
        ('{"label": "ham"}\n\nThe format is {"label": text}.', {"label": "ham"}),
        ('Draft: {"label": "spam"} Final: {"label": "ham"}', {"label": "ham"}),
        ('{"label": "ham"}, not {"label": "eggs"}', {"label": "ham"}),
    ],
)
def test_an_answer_is_found_in_what_a_model_wraps_it_in(text: str, answer: Any) -> None:
    assert answer_of(Chat(messages=(), schema=LABEL), text) == {"answer": answer}


def test_answers_may_be_any_json_that_fits() -> None:
    listed = Chat(messages=(), schema={"type": "array", "items": {"type": "integer"}})
    assert answer_of(listed, "They are [1, 2].") == {"answer": [1, 2]}
    assert answer_of(Chat(messages=(), schema={"type": "number"}), " 4.5\n") == {"answer": 4.5}
    assert answer_of(Chat(messages=(), schema={"type": "integer"}), "```json\n5.0\n```") == {"answer": 5.0}
    assert answer_of(Chat(messages=()), "4.5") == {"text": "4.5"}


@pytest.mark.parametrize(
    "text", ["", "spam", '{"label": "eggs"}', '{"label"', "[1]", '{"other": 1}', '<think>{"label": "spam"}']
)
def test_a_reply_that_does_not_fit_is_no_answer(text: str) -> None:
    with pytest.raises(NotAnAnswer):
        answer_of(Chat(messages=(), schema=LABEL), text)


@pytest.mark.parametrize(
    "schema", [{"type": "intt"}, {"enum": 5}, {"$ref": "https://example.com/x.json"}, "text", None]
)
def test_a_question_with_a_schema_that_cannot_be_checked_is_refused(schema: Any) -> None:
    for asked in ({"prompt": "x"}, {"messages": []}):
        with pytest.raises(InvalidRequest, match=r"^payload\.schema .*\.$"):
            check_asked_schema({**asked, "schema": schema})


@pytest.mark.parametrize(
    "payload", [{"schema": "public"}, {"schema": {"type": "postgres"}}, {"prompt": "x"}, [1], None]
)
def test_a_schema_of_anything_else_is_its_workers_business(payload: Any) -> None:
    check_asked_schema(payload)
