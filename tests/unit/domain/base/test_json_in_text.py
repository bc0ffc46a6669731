"""The JSON that a model means: the last complete value that fits, outside of its thoughts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.json_in_text import MAX_STARTS, MAX_TRIED, Unfit, last_value
from cluster.domain.base.json_values import NotJson

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab{}[]"\\ ', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab{}[]"', max_size=3), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text("ab{}", max_size=3), plain, max_size=3).map(lambda fields: {**fields, "spam": True})
prose = st.text(st.sampled_from('ab{}[]":, \n.<>/5'), max_size=30)
thoughts = st.sampled_from(
    [
        "<think>{}</think>",
        "<thinking>{}</thinking>",
        "<THINK>{}</THINK>",
        "[THINK]{}[/THINK]",
        "{}</think>",
        "<thought kind='long'>{}</thought>",
        "<seed:think>{}</seed:think>",
        "<|begin_of_thought|>{}<|end_of_thought|>",
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    ]
)


def _spam(value: Any) -> Any:
    if not isinstance(value, dict) or "spam" not in value:
        raise Unfit("has no spam")
    return value


def _any(value: Any) -> Any:
    return value


@given(thoughts, prose, objects, objects, st.sampled_from(["{}", "```json\n{}\n```", "Sure: {} That is it."]))
def test_thoughts_with_values_in_them_are_passed_over(
    thought: str, said: str, considered: Any, meant: Any, around: str
) -> None:
    thinking = thought.replace("{}", said.replace("<", "") + json.dumps(considered))
    text = thinking + "\n" + around.replace("{}", json.dumps(meant, indent=1))
    assert last_value(text, _spam, "It") == meant


@given(prose.map(lambda text: text.replace("{", "(").replace("[", "(")), objects, objects)
def test_the_last_of_several_values_counts(between: str, first: Any, last: Any) -> None:
    assert last_value(f"Draft: {json.dumps(first)}{between}Final: {json.dumps(last)}", _spam, "It") == last


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"spam": true}\n\nThe format is {"spam": bool}.', {"spam": True}),
        ('say "{" then {"spam": 1}', {"spam": 1}),
        ('{"note: {"spam": 1}', {"spam": 1}),
        ('```\n{"spam": 1}\n```\n```json\n{"spam": 2}\n```', {"spam": 2}),
        ('{"spam": "<think>"}', {"spam": "<think>"}),
        ('{"spam": 1} and {"ham": 2}', {"spam": 1}),
        ('{"spam": {"spam": 2}}', {"spam": {"spam": 2}}),
    ],
)
def test_the_last_value_that_fits_is_found_whole(text: str, value: Any) -> None:
    assert last_value(text, _spam, "It") == value


@pytest.mark.parametrize("text", ["```json\n5\n```", "<think>4</think>\n5", "Here it is:\n`5`", " 5\n", "[4]\n5"])
def test_a_scalar_is_found_on_a_line_of_its_own(text: str) -> None:
    assert last_value(text, _any, "It") == 5


@pytest.mark.parametrize(
    "text",
    ['<think>maybe {"spam": 1}', '{"spam": 1}</think>', '{"spam": 1', '{"spam": 1,}', "The answer is 5.", "", '{"a":'],
)
def test_a_thought_or_a_part_is_no_value(text: str) -> None:
    with pytest.raises(NotJson):
        last_value(text, _any, "It")


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        "[",
        '{"a":',
        '["',
        '["\\"',
        "[0,",
        "[" + "0," * 500,
        "<think>x</think>",
        "</think>",
        '{"a":"',
        "<think ",
        "5\n",
    ],
)
def test_a_long_text_of_beginnings_does_not_hide_the_end(piece: str) -> None:
    text = piece * ((MAX_STARTS - 1) // len(piece)) + '\n{"spam": 1}'
    assert last_value(text, _spam, "It") == {"spam": 1}


@pytest.mark.parametrize("piece", ["[", "{} ", "[1 ", '{"a": 1}\n'])
def test_endless_brackets_are_given_up(piece: str) -> None:
    tried: list[Any] = []
    with pytest.raises(NotJson, match="too many brackets"):
        last_value("So: " + piece * (MAX_STARTS + 2), tried.append, "It")
    assert tried == []


@pytest.mark.parametrize("piece", ["{} ", "5\n", "[1]\n", '{"a": 1}\n'])
def test_only_the_last_of_many_values_are_tried(piece: str) -> None:
    tried: list[Any] = []

    def unfit(value: Any) -> Any:
        tried.append(value)
        raise Unfit("does not fit")

    with pytest.raises(Unfit):
        last_value("So:\n" + piece * 10_000, unfit, "It")
    assert len(tried) == MAX_TRIED
    assert last_value(piece * (MAX_STARTS - 1) + '\n{"spam": 1}', _spam, "It") == {"spam": 1}
