"""Conditions in CEL: the part of the language there is, one kind of number, and bounds on what they cost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.expressions import MOST_BRACKETS, MOST_CHARACTERS, ConditionFailed, expression

NAMES = frozenset({"x", "list", "map", "text", "item", "index"})


def holds(source: str, **values: Any) -> bool:
    return expression(source, NAMES).holds(values)


@pytest.mark.parametrize(
    ("source", "values", "outcome"),
    [
        ("x < 5 && x == 3 && x <= 3.0 && x >= 3 && x != 4 && !(x > 3)", {"x": 3}, True),
        ("x + 1.0 == 4.0 && x - 1.0 == 2.0 && x * 2.0 == 6.0 && x / 2.0 == 1.5 && -x == -3", {"x": 3}, True),
        ("int(x) % 2 == 1 && double(int(x)) == x && string(int(x)) == '3'", {"x": 3}, True),
        ("list[int(x)] == 'b' && 'a' in list && size(list) == 2", {"x": 1, "list": ["a", "b"]}, True),
        (
            "map.a.b == 1 && map['a']['b'] == 1 && has(map.a) && !has(map.c) && 'a' in map",
            {"map": {"a": {"b": 1}}},
            True,
        ),
        ("has(map.map) && map.map > 1", {"map": {"map": 2}}, True),
        ("text.startsWith('a') && text.endsWith('c') && text.contains('b')", {"text": "abc"}, True),
        ("text == 'it\\'s' || text == \"say \\\"(\"", {"text": 'say "('}, True),
        ("size(text) == 4", {"text": "äö"}, True),
        (
            "list.exists(e, e.n > 1) && list.all(e, has(e.n)) && list.exists_one(e, e.n == 2)",
            {"list": [{"n": 1}, {"n": 2}]},
            True,
        ),
        ("size(list.filter(e, e > 1)) == 1", {"list": [1, 2]}, True),
        ("x == null", {"x": None}, True),
        ("x ? text == 'a' : false", {"x": True, "text": "a"}, True),
        ("false && map.c", {"map": {}}, False),
        ("x == '1'", {"x": 1}, False),
    ],
)
def test_conditions_hold_or_do_not(source: str, values: dict[str, Any], outcome: bool) -> None:
    assert holds(source, **values) is outcome


@given(st.floats(-1e9, 1e9) | st.integers(-(2**53) + 1, 2**53 - 1), st.integers(-100, 100))
def test_a_number_is_the_same_whichever_way_it_came(number: float, other: int) -> None:
    whole = expression(f"x < {other} || x == {other}.0", NAMES)
    assert whole.holds({"x": number}) == whole.holds({"x": float(number)}) == (number <= other)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x ==", "is not CEL near character 5 of line 1"),
        ("", "is not CEL"),
        ("unknown == 1", "names unknown, and there is only index, item"),
        ("list.map(e, e)[0] == 1", "uses map"),
        ("list. map (e, e)[0] == 1", "uses map"),
        ("text.matches('a+')", "uses matches"),
        ("timestamp('2026-01-01T00:00:00Z') == x", "uses timestamp"),
        ("list.all(k, v, true)", "names v"),
        ("list.all(x, true)", "with the name x, which is a variable"),
        ("list.all(1, true)", "has a macro without a name"),
        ("x == 1 // list.all(e, true)", "has a comment"),
        ("text == r'a'", "with a prefix or three quotes"),
        ('text == """a"b"""', "with a prefix or three quotes"),
        ("list.all(a, list.all(b, list.all(c, true)))", "has more than 2 of all"),
        ("(" * (MOST_BRACKETS + 1) + "true" + ")" * (MOST_BRACKETS + 1), "brackets within each other"),
        ("true" + " " * MOST_CHARACTERS, "1004 characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(source: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^The condition ") as refused:
        expression(source, NAMES)
    assert says in str(refused.value)
    assert refused.value.code == "invalid_condition"


@pytest.mark.parametrize(
    ("source", "values", "says"),
    [
        ("x + 1 < 5", {"x": 3}, "write x + 1.0"),
        ("list[x] == 1", {"x": 0, "list": [1]}, "int(x) for the place"),
        ("map.a == 1", {"map": {}}, "ask with has"),
        ("list[1] == 1", {"list": [1]}, "ask with size"),
        ("1 / 0 == 1", {}, "divides by zero"),
        ("int(text) == 1", {"text": "sesame"}, "cannot be evaluated"),
        ("map[text] == 1", {"map": {}, "text": "sesame"}, "a field that is not there"),
        ("text", {"text": "sesame"}, "neither true nor false"),
        ("x > 1", {"x": 2**53}, "beyond 2^53-1"),
        ("list.all(a, list.all(b, a == b))", {"list": [1] * 2000}, "too much work"),
        ("list.all(a, text.contains('q') == false)", {"list": [1] * 2000, "text": "x" * 100_000}, "too much work"),
        ("x == 1", {}, "cannot be evaluated"),
    ],
)
def test_what_cannot_be_evaluated_says_why_and_shows_no_value(source: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConditionFailed) as failed:
        holds(source, **values)
    assert says in str(failed.value)
    assert "sesame" not in str(failed.value)


def test_what_a_condition_does_not_read_costs_it_nothing() -> None:
    condition = expression("x == 1", NAMES)
    assert condition.names == {"x"}
    assert condition.holds({"x": 1, "list": [2**70] * 100_000})


def test_items_of_a_list_are_kept() -> None:
    kept = expression("item.n > x && index > 0", NAMES)
    assert kept.kept([{"n": 5}, {"n": 5}, {"n": 1}], {"x": 2}) == [{"n": 5}]
    with pytest.raises(ConditionFailed, match=r"^for item 1, it reads a field that is not there"):
        kept.kept([{"n": 5}, {}], {"x": 2})
    with pytest.raises(ConditionFailed, match=r"^for item 0, it is too much work for so long a list"):
        expression("item in list", NAMES).kept([1] * 10_000, {"list": [1] * 10_000})
    nested = expression("list.all(a, list.all(b, a == b))", NAMES)
    assert nested.kept([1], {"list": [1] * 50}) == [1]
    with pytest.raises(ConditionFailed, match="too much work for so long a list"):
        nested.kept([1] * 10_000, {"list": [1] * 50})


def test_a_process_without_conditions_does_not_load_the_library() -> None:
    program = "import sys, cluster.domain.base.expressions; sys.exit('cel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(st.text(max_size=60) | st.text("x1.&|!()[]{}'\"?:=<>+-, listaexf", max_size=60))
def test_no_text_raises_anything_else(source: str) -> None:
    with suppress(InvalidRequest, ConditionFailed):
        holds(source, x=1, list=[1], text="a", map={"a": 1})
