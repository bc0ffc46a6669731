"""Large numbers are decided exactly, as strings; smaller ones as they always were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.deliberation.answers import AnswerKind, AnswerType, Shape, group_numbers, parse_reply
from cluster.domain.deliberation.numbers import LARGE, number_text, plain
from cluster.domain.deliberation.state import Terminal
from cluster.domain.receipts.document import make_receipt
from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import parse, verify
from tests.support.panels import World, contract, members, says
from tests.support.receipts import SIGNER

WEI = AnswerType(kind=AnswerKind.NUMBER, unit="wei")
large = st.integers(LARGE, 10**190) | st.integers(-(10**190), -LARGE)


def _choice(answer: AnswerType, written: str) -> str:
    return str(parse_reply(f'{{"answer": {written}}}', Shape(answer=answer)).choice)


@given(large)
def test_a_large_number_is_one_text_however_it_is_written(number: int) -> None:
    forms = [f"{number}", f"{number}.0", f'"{number}"', f'"{number} wei"']
    texts = {_choice(WEI, form) for form in forms}
    assert len(texts) == 1
    text = texts.pop()
    value = WEI.value_of(text)
    assert value == f"{text} wei"
    assert canonical_bytes({"value": value, "tally": {text: 1.0}})
    assert text != _choice(WEI, str(number + (1 if number > 0 else -1)))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("9007199254740993", "9007199254740993"),
        ("-9007199254740993", "-9007199254740993"),
        ("9007199254740993.0", "9007199254740993"),
        ('"9,007,199,254,740,993"', "9007199254740993"),
        ('"9_007_199_254_740_993 wei"', "9007199254740993"),
        ("9007199254740993.50", "9007199254740993.5"),
        ("1e17", "100000000000000000"),
        ('"1.5e18 WEI"', "1500000000000000000"),
        ("-1e20", "-100000000000000000000"),
        ("1e300", "1e+300"),
    ],
)
def test_a_large_number_keeps_its_digits(written: str, text: str) -> None:
    assert _choice(WEI, written) == text
    assert WEI.value_of(text) == f"{text} wei"
    assert AnswerType(kind=AnswerKind.NUMBER).value_of(text) == text


@given(st.floats(-(2.0**53) + 1, 2.0**53 - 1) | st.integers(1 - LARGE, LARGE - 1))
def test_a_smaller_number_is_what_it_was(number: float) -> None:
    text = canonical_bytes(float(number)).decode()
    assert _choice(WEI, json.dumps(number)) == number_text(number) == text
    assert WEI.value_of(text) == json.loads(text)


def test_large_neighbours_are_two_answers_unless_the_tolerance_covers_them() -> None:
    given_numbers = [str(LARGE), str(LARGE + 1), str(LARGE + 1)]
    assert len(set(group_numbers(given_numbers, 0).values())) == 2
    assert set(group_numbers(given_numbers, 1).values()) == {str(LARGE + 1)}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('{"n": 9007199254740993}', {"n": "9007199254740993"}),
        ('{"n": [1e17, 5.0, true, "x"]}', {"n": ["100000000000000000", 5, True, "x"]}),
        (f'{{"n": {10**400}}}', {"n": str(10**400)}),
    ],
)
def test_large_numbers_in_a_json_answer_are_strings(written: str, value: Any) -> None:
    answer = AnswerType(kind=AnswerKind.JSON, schema={"type": "object"})
    text = _choice(answer, written)
    assert answer.value_of(text) == value
    assert canonical_bytes(answer.value_of(text))


@pytest.mark.parametrize(
    ("config", "answers", "value"),
    [
        ({"answer_type": "number", "unit": "wei"}, [LARGE + 1, str(LARGE + 1), LARGE - 1], f"{LARGE + 1} wei"),
        ({"answer_type": "number", "tolerance": 5}, [10**20, 10**20 + 4, -(10**20)], str(10**20)),
        ({"answer_type": "json"}, [{"n": LARGE + 1}, {"n": LARGE + 1}, {"n": LARGE}], {"n": str(LARGE + 1)}),
        ({"answer_type": "json"}, [[1e17], [10**17], [5]], [str(10**17)]),
        ({"answer_type": "number"}, [5, 5, LARGE], 5),
    ],
)
def test_a_decision_with_large_numbers_has_a_receipt_that_recomputes(
    config: dict[str, Any], answers: list[Any], value: Any
) -> None:
    agreed = contract(rounds=0, consensus="majority", **config)
    world = World.of(agreed, dict(zip("abc", map(says, answers), strict=True))).start(members("a", "b", "c")).run()
    assert (world.state.terminal, world.outcome["value"]) == (Terminal.DECIDED, value)
    receipt = make_receipt(SIGNER, request_id="r", contract=agreed.to_json(), events=world.journal)
    read = parse(json.dumps(receipt).encode())
    assert verify(read, [SIGNER.public_key]).trusted
    assert recompute(read).verdict is Recomputed.EQUAL


def test_a_json_answer_of_an_earlier_build_can_be_signed() -> None:
    assert plain(AnswerType(kind=AnswerKind.JSON).value_of('{"n":100000000000000000}')) == {"n": "100000000000000000"}


def test_numbers_in_a_set_are_members() -> None:
    assert _choice(AnswerType(kind=AnswerKind.SET), "[2, 1.0, true]") == '["1","2","true"]'
