"""What a form for a question gives: the answer that its JSON Schema means."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.page_source import page_calls

TIER = {
    "type": "object",
    "properties": {
        "tier": {"enum": [1, "2", None, {"x": 1}]},
        "urgent": {"type": "boolean"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "note": {"type": "string"},
        "more": {"type": "array"},
        "__proto__": {"type": "string"},
    },
    "required": ["tier"],
}


@pytest.mark.parametrize(
    ("schema", "fields", "answer"),
    [
        (TIER, {"answer.tier": "0"}, {"tier": 1}),
        (TIER, {"answer.tier": "2", "answer.note": ""}, {"tier": None}),
        (
            TIER,
            {"answer.tier": "3", "answer.urgent": "1", "answer.note": "7"},
            {"tier": {"x": 1}, "urgent": False, "note": "7"},
        ),
        (
            TIER,
            {"answer.count": "0", "answer.share": "-0.5", "answer.more": "[1]"},
            {"count": 0, "share": -0.5, "more": [1]},
        ),
        (TIER, {"answer.__proto__": "a"}, {"__proto__": "a"}),
        (TIER, {}, {}),
        (None, {"answer": '{"any": []}'}, {"any": []}),
        ({"type": "string"}, {"answer": "17"}, "17"),
        ({"enum": ["a", "b"]}, {"answer": "1"}, "b"),
        ({"const": 5}, {"answer": "0"}, 5),
        ({"type": "boolean"}, {"answer": "0"}, True),
        ({"type": "object", "properties": {}}, {"answer": "{}"}, {}),
        ({"type": "object", "properties": {"a": True}}, {"answer": '{"a": 1}'}, {"a": 1}),
        ({"type": ["string", "null"]}, {"answer": "null"}, None),
    ],
)
def test_fields_give_the_answer_that_the_schema_means(schema: Any, fields: dict[str, str], answer: Any) -> None:
    assert page_calls("answers", "answerOf", [[schema, fields]]) == [{"value": answer}]


def test_fields_without_an_answer_give_none_or_say_why() -> None:
    empty, broken, part = page_calls(
        "answers",
        "answerOf",
        [[{"type": "string"}, {"answer": ""}], [None, {"answer": "{"}], [TIER, {"answer.more": "[1"}]],
    )
    assert (empty, broken) == ({}, {"error": "The answer is not JSON."})
    assert part == {"error": "more is not JSON."}
