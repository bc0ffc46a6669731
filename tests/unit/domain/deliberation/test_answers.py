"""An odd answer of one member concerns that member alone: the others decide, and all of it can be journalled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.json_schema import check_schema, mismatch
from cluster.domain.base.json_values import CUT_MARK, check_json
from cluster.domain.consensus.ballots import BallotKind
from cluster.domain.deliberation.answers import (
    MAX_TEXT,
    Answer,
    AnswerKind,
    AnswerType,
    Malformed,
    Shape,
    answer_schema,
    parse_reply,
)
from cluster.domain.deliberation.calls import Call
from cluster.domain.deliberation.events import Answered
from cluster.domain.deliberation.ledger import MAX_TOKENS
from cluster.domain.deliberation.replies import MAX_KEPT
from cluster.domain.deliberation.state import Terminal
from tests.support.odd import no_json, odd_json, odd_texts, odd_values, plain_texts, plain_values
from tests.support.panels import Behaviour, World, contract, members, says

FIELDS = ("answer", "rationale", "confidence", "abstain", "because", "evidence", "critiques", "ranking", "approve")
#: What almost is a number, as models write them.
almost_numbers = st.text("+-.,_eE 0123456789kg", max_size=12) | st.integers(300, 6000).map(lambda digits: "9" * digits)
anything = plain_values | odd_values | odd_texts | almost_numbers


def _written(value: Any) -> str:
    """JSON as careless servers write it; what Python cannot print is put in as digits."""
    try:
        return json.dumps(value)
    except ValueError:
        return "9" * 5000


values = anything.map(_written) | odd_json | st.integers(300, 6000).map(lambda digits: "9" * digits)


def _object(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"


#: Replies of every shape: objects of the known fields with anything in them, and what is no object.
replies = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), values).map(_object),
    values,
    plain_texts,
    odd_texts,
    no_json.map(lambda raw: raw.decode("latin-1")),
)
KINDS = (
    AnswerType(kind=AnswerKind.CHOICE, options=("A", "B")),
    AnswerType(kind=AnswerKind.NUMBER, unit="kg", tolerance=0.5),
    AnswerType(kind=AnswerKind.BOOLEAN),
    AnswerType(kind=AnswerKind.SET, options=("A", "B")),
    AnswerType(kind=AnswerKind.SET),
    AnswerType(kind=AnswerKind.JSON, schema={"type": "object"}),
    AnswerType(kind=AnswerKind.JSON),
    AnswerType(kind=AnswerKind.TEXT),
)
SHAPES = (
    *(Shape(answer=kind) for kind in KINDS),
    Shape(answer=KINDS[0], labels=("#1", "#2"), reasons=("c1",)),
    Shape(answer=KINDS[0], labels=("#1", "#2"), ballot=BallotKind.RANKING),
    Shape(answer=KINDS[0], labels=("#1", "#2"), ballot=BallotKind.APPROVAL),
    Shape(targets=("P1", "P2")),
)


@given(st.sampled_from(SHAPES), replies)
def test_a_reply_is_an_answer_that_can_be_kept_or_malformed(shape: Shape, text: str) -> None:
    try:
        answer = parse_reply(text, shape)
    except Malformed as malformed:
        problem = str(malformed)
    else:
        _check_answer(answer, shape)
        return
    check_json(problem, "problem")
    assert len(problem) < 200, "what was answered is not repeated"


def _check_answer(answer: Answer, shape: Shape) -> None:
    check_json(answer.to_json(), "answer")
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer
    if answer.choice is not None and not shape.labels:
        shape.answer.value_of(answer.choice)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_schema_can_be_made_of_every_shape(shape: Shape) -> None:
    check_json(answer_schema(shape), "schema")


def test_references_of_an_answers_schema_lead_somewhere() -> None:
    """Servers of structured output look for definitions at the top of the schema that they are given."""
    schema = {"$defs": {"n": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/n"}, "same": {"$ref": "#"}}}
    whole = answer_schema(Shape(answer=AnswerType(kind=AnswerKind.JSON, schema=schema)))
    check_schema(whole, "schema")
    assert whole["$defs"] == schema["$defs"]
    rest = {"rationale": "r", "confidence": whole["properties"]["confidence"]["enum"][0]}
    assert mismatch({"answer": {"same": {"n": 1}}, **rest}, whole) == ""
    assert mismatch({"answer": {"same": {"n": "x"}}, **rest}, whole) != ""


@pytest.mark.parametrize("text", ["-", "+", "e5", ".", "-e5", "9" * 400, "9" * 5000, "1e999", "-1e999"])
@pytest.mark.parametrize("quoted", [True, False])
def test_a_text_that_only_looks_like_a_number_is_malformed(text: str, quoted: bool) -> None:
    shape = Shape(answer=AnswerType(kind=AnswerKind.NUMBER))
    with pytest.raises(Malformed):
        parse_reply(f'{{"answer": {json.dumps(text) if quoted else text}}}', shape)


def test_a_long_json_answer_is_malformed_and_not_cut() -> None:
    shape = Shape(answer=AnswerType(kind=AnswerKind.JSON))
    assert parse_reply(json.dumps({"answer": "x" * (MAX_TEXT - 2)}), shape).choice is not None
    with pytest.raises(Malformed, match="4000"):
        parse_reply(json.dumps({"answer": "x" * (MAX_TEXT - 1)}), shape)


@pytest.mark.parametrize(
    "around",
    [
        '<think>Is it {5} or {"answer": 4}?</think>%s',
        '{"answer": 4}</think>%s',
        '[THINK]{"answer": 4}[/THINK]%s',
        'Draft: {"answer": 4} Final: %s',
        '%s\n\nThe format is {"answer": number}.',
        '%s\nMore: {"rationale": "is no answer"}',
        "```json\n%s\n```",
    ],
)
def test_the_last_object_that_fits_the_shape_is_the_answer(around: str) -> None:
    shape = Shape(answer=AnswerType(kind=AnswerKind.NUMBER))
    assert parse_reply(around % '{"answer": 5}', shape).choice == "5"


@pytest.mark.parametrize("text", ['<think>{"answer": 5}', '{"answer": 5}</think>', '[{"answer": 5}]', '{"answer": 5'])
def test_a_thought_or_a_part_is_no_answer(text: str) -> None:
    with pytest.raises(Malformed):
        parse_reply(text, Shape(answer=AnswerType(kind=AnswerKind.NUMBER)))


@pytest.mark.parametrize(
    ("tokens", "text", "rationale"),
    [(100, 3_000_000, 3_000_000), (16, 500, 500), (8192, 3_000_000, 3_000_000), (8192, 100, 4000), (256, 500_000, 10)],
)
def test_the_journal_keeps_of_a_reply_what_its_tokens_can_be(tokens: int, text: int, rationale: int) -> None:
    agreed = contract(rounds=0, consensus="majority", options=["A", "B"], max_tokens=tokens)
    reply = json.dumps({"answer": "A", "rationale": "é" * rationale}, ensure_ascii=False) + " " * text
    world = World.of(agreed, {name: _replying(reply) for name in "ab"}).start(members("a", "b")).run()
    assert world.state.terminal is Terminal.DECIDED
    most = min(8 * tokens, MAX_KEPT)
    for event in (event for event in world.journal if event.kind == "answered"):
        kept, given_for = event.data["text"], event.data["answer"]["rationale"]
        assert max(len(kept.encode()), len(given_for.encode())) <= most + len(CUT_MARK.encode())
        assert kept == reply or kept.endswith(CUT_MARK)
        assert given_for == "é" * rationale or given_for.endswith(CUT_MARK)


CONFIGS: dict[str, tuple[dict[str, Any], Any]] = {
    "choice": ({"options": ["A", "B"]}, "A"),
    "number": ({"answer_type": "number"}, 5),
    "json": ({"answer_type": "json", "schema": {"type": "object"}}, {"n": 1}),
    "text": ({}, "yes"),
}


def _replying(text: str) -> Behaviour:
    def reply(call: Call) -> str:
        return text

    return reply


def _decided(name: str, odd: Behaviour, **changes: Any) -> World:
    config, right = CONFIGS[name]
    agreed = contract(rounds=0, consensus="majority", **config)
    world = World.of(agreed, {"a": odd, "b": says(right), "c": says(right)})
    for field, value in changes.items():
        setattr(world, field, value)
    world.start(members("a", "b", "c")).run()
    for event in world.journal:
        check_json(event.data, event.kind)
    assert world.state.terminal is Terminal.DECIDED, (world.state.terminal, world.outcome)
    return world


@given(st.sampled_from(sorted(CONFIGS)), replies)
def test_one_member_that_answers_oddly_leaves_the_decision_to_the_others(name: str, text: str) -> None:
    _decided(name, _replying(text))


@given(st.sampled_from(["malformed", "http", "refusal"]), odd_texts)
def test_the_text_of_any_fault_can_be_journalled(fault: str, detail: str) -> None:
    _decided("choice", lambda call: (fault, detail))


counts = st.sampled_from([-1, -(2**70), 2 * MAX_TOKENS + 1, 2**53, 10**18, 10**400])


@given(counts, st.integers(0, 1000), st.booleans())
def test_an_impossible_token_count_is_replaced_by_an_estimate(odd: int, other: int, first: bool) -> None:
    world = _decided("choice", says("A"), usage=(odd, other) if first else (other, odd))
    cost = world.outcome["cost"]
    assert cost["estimated"] is True
    assert 0 < cost["tokens"] < 100_000


def test_a_possible_token_count_is_taken_as_stated() -> None:
    cost = _decided("choice", says("A"), usage=(100, 20)).outcome["cost"]
    assert (cost["tokens"], cost["estimated"]) == (3 * 120, False)


def test_a_total_without_parts_is_held_to_the_same_rules() -> None:
    """As an agent reports that counts in one number."""
    agreed = contract(rounds=0, consensus="majority", options=["A", "B"])
    world = World.of(agreed, {name: says("A") for name in "abc"}).start(members("a", "b", "c"))
    for call, tokens in zip(world.calls(), (500, 10**18, -5), strict=True):
        where: dict[str, Any] = {"agent_id": call.agent_id, "phase": call.phase, "attempt": call.attempt}
        world.happens(Answered(**where, round=call.round, text=says("A")(call), tokens=tokens))
    billed = [event.data["billed"]["tokens"] for event in world.journal if event.kind in ("answered", "late")]
    assert billed[0] == 500
    assert all(0 < tokens < 10_000 for tokens in billed)


def test_a_number_with_a_very_long_tail_is_refused() -> None:
    """One member's blanks held up everybody's deliberations: the pattern for a number and its unit takes the square."""
    shape = Shape(answer=AnswerType(kind=AnswerKind.NUMBER))
    with pytest.raises(Malformed):
        parse_reply(json.dumps({"answer": "5x" + " " * 400_000 + "y"}), shape)
