"""A person at the end of a deliberation: when one is asked, what an answer changes, and what it does not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_schema import mismatch
from cluster.domain.base.log import Origin
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.events import Broken, CancelAsked, PanelChosen, Taken, Tick
from cluster.domain.deliberation.person import PersonAnswered, question_task, question_task_id
from cluster.domain.deliberation.state import Phase, Terminal
from cluster.domain.deliberation.timing import next_alarm
from cluster.domain.tasks.questions import Verdict
from tests.support.panels import World, contract, members, says
from tests.support.samples import NOW

OPTIONS = ["A", "B", "C"]
SPLIT, AGREED = ("A", "B", "C"), ("A", "A", "A")


def world(answers: tuple[Any, ...], ask: Any, **config: Any) -> World:
    names = "abcdefg"[: len(answers)]
    behaviours = {name: says(answer) for name, answer in zip(names, answers, strict=True)}
    given = {"options": OPTIONS, "consensus": "majority", "rounds": 0, "ask_person": ask} | config
    made = World.of(contract(**given), behaviours)
    return made.start(members(*names))


def to_the_question(made: World) -> World:
    while made.calls():
        made.happens(made.answer(made.calls()[0]))
    return made


def answered(made: World, verdict: Verdict, value: Any = None, reason: str = "") -> World:
    made.now += 3600.0
    made.happens(
        PersonAnswered(verdict=verdict, value=value, answered_by="user:ann", answered_at=made.now, reason=reason)
    )
    return made


ASKED = (
    (SPLIT, {"when": "no_consensus"}, True),
    (SPLIT, {}, True),
    (AGREED, {"when": "no_consensus"}, False),
    (AGREED, {"when": "always"}, True),
    (AGREED, {"when": "below_confidence", "confidence": 0.9}, False),
    (("A", "A", "B"), {"when": "below_confidence", "confidence": 0.9}, True),
    (SPLIT, {"when": "below_confidence", "confidence": 0.0}, True),
    (SPLIT, None, False),
)


@pytest.mark.parametrize(("answers", "ask", "is_asked"), ASKED)
def test_a_person_is_asked_when_the_contract_says_so(answers: Any, ask: Any, is_asked: bool) -> None:
    made = to_the_question(world(answers, ask))
    assert (made.state.phase is Phase.INPUT_REQUIRED) is is_asked
    assert ("deliberation.input_required" in [kind for kind, _, _ in made.rows]) is is_asked


ENDS = (
    (SPLIT, Verdict.ANSWERED, "b", (Terminal.DECIDED, "B")),
    (SPLIT, Verdict.REJECTED, None, (Terminal.NO_CONSENSUS, None)),
    (SPLIT, Verdict.DEFAULT, "C", (Terminal.DECIDED, "C")),
    (SPLIT, Verdict.ANSWERED, "Z", (Terminal.NO_CONSENSUS, None)),
    (AGREED, Verdict.APPROVED, True, (Terminal.DECIDED, "A")),
    (AGREED, Verdict.ANSWERED, True, (Terminal.DECIDED, "A")),
    (AGREED, Verdict.APPROVED, "B", (Terminal.DECIDED, "B")),
    (AGREED, Verdict.REJECTED, None, (Terminal.NO_CONSENSUS, "A")),
)


@pytest.mark.parametrize(("answers", "verdict", "value", "end"), ENDS)
def test_the_answer_decides_and_the_votes_stay(answers: Any, verdict: Verdict, value: Any, end: Any) -> None:
    plain = World.of(
        contract(options=OPTIONS, consensus="majority", rounds=0),
        {n: says(a) for n, a in zip("abc", answers, strict=True)},
    )
    plain.start(members(*"abc")).run()
    made = answered(to_the_question(world(answers, {"when": "always"})), verdict, value)
    assert (made.state.terminal, made.outcome["answer"]) == end
    assert made.outcome["value"] == end[1]
    assert made.outcome["authoritative"] is (end[0] is Terminal.DECIDED)
    changed = {"answer", "value", "authoritative", "reason", "person"}
    for name in set(plain.outcome) - changed:
        assert made.outcome[name] == plain.outcome[name], name
    assert made.journal[-1].data["aggregation"] == plain.journal[-1].data["aggregation"]
    person = made.outcome["person"]
    assert (person["verdict"], person["answered_by"], person["answered_at"]) == (verdict.value, "user:ann", made.now)
    assert person["agents"]["terminal"] == plain.state.terminal
    assert person["agents"]["answer"] == plain.outcome["answer"]


def test_a_boolean_is_approved_as_the_agents_gave_it() -> None:
    for verdict, answer in ((Verdict.APPROVED, "false"), (Verdict.ANSWERED, "true")):
        made = to_the_question(world((False, False), {"when": "always"}, answer_type="boolean", options=None))
        assert answered(made, verdict, True).outcome["answer"] == answer


def test_without_an_answer_in_time_the_outcome_of_the_agents_stays() -> None:
    for answers, terminal in ((SPLIT, Terminal.NO_CONSENSUS), (AGREED, Terminal.DECIDED)):
        made = to_the_question(world(answers, {"when": "always"}))
        made.happens(PersonAnswered(detail="no_answer"))
        assert made.state.terminal is terminal
        assert made.outcome["person"]["decided"] is False


def test_the_time_limit_does_not_go_on_while_a_person_is_asked() -> None:
    made = to_the_question(world(SPLIT, {}))
    assert next_alarm(made.state) == math.inf
    made.now = NOW + 1e6
    made.happens(Tick())
    assert made.state.phase is Phase.INPUT_REQUIRED
    answered(made, Verdict.ANSWERED, "B")
    assert made.state.terminal is Terminal.DECIDED
    assert [kind for kind, _, _ in made.rows if kind.startswith("deliberation.sla")] == []


def test_a_deadline_and_a_missing_panel_are_put_to_a_person() -> None:
    late = world(SPLIT, {})
    late.happens(late.answer(late.calls()[0]))
    late.now = NOW + 101.0
    late.happens(Tick())
    assert late.state.phase is Phase.INPUT_REQUIRED
    assert late.calls() == []
    assert late.state.ledger.reserved == {}
    assert answered(late, Verdict.REJECTED).state.terminal is Terminal.DEADLINE_EXCEEDED
    nobody = World.of(contract(options=OPTIONS, ask_person={}), {})
    nobody.happens(Taken())
    nobody.happens(PanelChosen(members=()))
    assert nobody.state.phase is Phase.INPUT_REQUIRED
    assert answered(nobody, Verdict.ANSWERED, "A").outcome["value"] == "A"


@pytest.mark.parametrize(("event", "terminal"), [(CancelAsked(), "CANCELLED"), (Broken(detail="x"), "FAILED")])
def test_a_cancellation_ends_the_wait_for_a_person(event: Any, terminal: str) -> None:
    made = to_the_question(world(AGREED, {"when": "always"}))
    made.happens(event)
    assert made.state.terminal == terminal
    assert made.outcome["authoritative"] is False
    assert (made.outcome["person"]["verdict"], made.outcome["answer"]) == (None, "A")
    answered(made, Verdict.APPROVED, True)
    assert made.state.terminal == terminal


def test_a_successor_asks_the_same_question() -> None:
    made = to_the_question(world(SPLIT, {"answerers": ["role:admin"]}))
    origin = Origin(workspace="w", principal="p")
    again = made.resumed(len(made.journal))
    again.happens(Taken(again=True))
    assert again.journal == made.journal
    first, second = (question_task(each.state, origin, NOW, "r1") for each in (made, again))
    assert first == second
    assert first.id == question_task_id("r")
    assert first.question is not None
    assert first.question.answerers == ("role:admin",)
    assert "Which?" in first.question.text


FITTING = (
    ({"options": OPTIONS}, True, ["A", True], ["a", "Z", None, 1, False]),
    ({"options": OPTIONS}, False, ["A"], [True]),
    ({"answer_type": "number"}, True, [1.5, True], ["1.5"]),
    ({"answer_type": "boolean"}, True, [False, True], ["yes", 1]),
    ({"answer_type": "set", "options": OPTIONS}, True, [["A", "B"], [], True], [["Z"], "A"]),
    ({"answer_type": "text"}, True, ["x", True], ["", "  ", 3]),
    (
        {
            "answer_type": "json",
            "schema": {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}, "type": "array"},
        },
        True,
        [[1, 2], True],
        [["x"], 1],
    ),
)


@pytest.mark.parametrize(("config", "has_answer", "good", "bad"), FITTING)
def test_the_question_takes_what_agents_may_answer(config: Any, has_answer: bool, good: Any, bad: Any) -> None:
    given = 1 if config.get("answer_type") == "number" else [1] if "schema" in config else "A"
    given = {"boolean": True, "set": ["A"]}.get(config.get("answer_type", ""), given)
    agents = (given, given) if has_answer else ("A", "B")
    made = to_the_question(world(agents, {"when": "always"}, **({"options": None} | config)))
    made.run() if made.calls() else None
    question = question_task(made.state, Origin(workspace="w", principal="p"), NOW, "r1").question
    assert question is not None
    assert question.schema is not None
    for value in good:
        assert not mismatch(value, question.schema), value
    for value in bad:
        assert mismatch(value, question.schema), value


REFUSED: tuple[tuple[Any, str], ...] = (
    ("always", "invalid_ask_person"),
    ({"when": "sometimes"}, "invalid_ask_person"),
    ({"when": 3}, "invalid_ask_person"),
    ({"whenn": "always"}, "invalid_ask_person"),
    ({"when": "below_confidence"}, "invalid_ask_person"),
    ({"when": "always", "confidence": 0.5}, "invalid_ask_person"),
    ({"when": "below_confidence", "confidence": 1.5}, "invalid_ask_person"),
    ({"when": "below_confidence", "confidence": True}, "invalid_ask_person"),
    ({"question": "  "}, "invalid_ask_person"),
    ({"question": "x" * 4001}, "invalid_ask_person"),
    ({"answerers": "role:admin"}, "invalid_ask_person"),
    ({"answerers": [1]}, "invalid_ask_person"),
    ({"answerers": ["nobody"]}, "invalid_subject"),
    ({"answerers": ["role:a b"]}, "invalid_question"),
    ({"time_limit_seconds": 0}, "invalid_ask_person"),
    ({"time_limit_seconds": 4e7}, "invalid_ask_person"),
    ({"default": "Z", "time_limit_seconds": 60}, "invalid_ask_person"),
    ({"default": "A"}, "invalid_question"),
)


@pytest.mark.parametrize(("ask", "code"), REFUSED)
def test_what_cannot_be_asked_is_refused_with_a_code(ask: Any, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        contract(options=OPTIONS, ask_person=ask)
    assert refused.value.code == code


def test_a_contract_keeps_what_it_says_about_a_person() -> None:
    ask = {
        "when": "below_confidence",
        "confidence": 0.5,
        "question": "Which one?",
        "answerers": ["user:Ann@Example.com", "role:admin"],
        "time_limit_seconds": 60,
        "default": "b",
    }
    agreed = contract(options=OPTIONS, ask_person=ask)
    assert agreed.ask_person is not None
    assert agreed.ask_person.default == "B"
    assert agreed.ask_person.answerers == ("role:admin", "user:ann@example.com")
    stored = json.loads(json.dumps(agreed.to_json()))
    assert Contract.from_json(stored) == agreed
    assert "ask_person" not in contract(options=OPTIONS).to_json()
    assert contract(options=OPTIONS, ask_person=None).digest() == contract(options=OPTIONS).digest()
