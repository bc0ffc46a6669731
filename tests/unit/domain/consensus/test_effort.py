"""Asking by expected gain: whom past questions say it pays to ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from cluster.domain.consensus.asked import asked_by_effort
from cluster.domain.consensus.effort import MIN_ALIKE, Asker, Effort, asking_order, relative_costs
from cluster.domain.consensus.learned import build_snapshot
from cluster.domain.consensus.outcomes import Outcome, vote_table
from cluster.domain.consensus.precedents import MAX_COLUMNS, Precedents, lettered, precedents_of
from cluster.domain.consensus.snapshot import snapshot_from_document
from tests.support.crowd import crowd

PEERS = {"a": 0.6, "b": 0.6, "c": 0.6, "d": 0.6}
AGENTS = tuple(PEERS)


def asker(
    outcomes: list[Outcome],
    weights: Mapping[str, float],
    effort: Effort = Effort.DEFAULT,
    costs: Mapping[str, float] | None = None,
    kind: str | None = None,
) -> Asker:
    agents = tuple(weights)
    table = vote_table(outcomes, agents)
    kinds = [outcome.kind for outcome in outcomes]
    precedents = precedents_of(table, agents, kinds, np.array(list(weights.values())))
    return Asker(precedents, asking_order(weights, agents), weights, kind, effort, costs or {})


def test_an_agent_that_nobody_ever_corrected_is_asked_alone() -> None:
    found = asker(crowd({"sage": 0.95, "fool": 0.2, "dunce": 0.2}, 600), {"sage": 2.0, "fool": 1.1, "dunce": 1.1})
    assert found.next({}, 0) == ("sage",)
    assert found.next({"sage": "x"}, 1) == ()


def test_peers_that_differ_are_asked_on() -> None:
    found = asker(crowd(PEERS, 600), {"a": 1.02, "b": 1.01, "c": 1.0, "d": 1.0})
    assert found.next({"a": "x"}, 1) != ()
    assert found.next({"a": "x", "b": "y"}, 2) != ()


def test_two_that_always_err_together_are_not_asked_both() -> None:
    outcomes = crowd({"a": 0.6, "c": 0.6, "d": 0.6}, 800, copies={"twin": "a"})
    found = asker(outcomes, {"a": 1.3, "twin": 1.2, "c": 1.0, "d": 1.0})
    answers: dict[str, str | None] = {}
    asked = []
    for waves in range(4):
        wave = found.next(answers, waves)
        asked += wave
        answers |= {agent: "x" if agent in ("a", "twin") else agent for agent in wave}
    assert "a" in asked
    assert "twin" not in asked
    assert len(asked) > 1


def test_the_cheaper_of_two_equals_is_asked_first() -> None:
    outcomes = crowd(PEERS, 800)
    weights = {"a": 1.5, "b": 1.0, "c": 1.0, "d": 1.0}
    for cheap, dear in (("c", "b"), ("b", "c")):
        found = asker(outcomes, weights, costs={"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0} | {cheap: 0.2, dear: 5.0})
        asked = found.next({"a": "x"}, 1)
        assert cheap in asked
        assert dear not in asked


def test_few_questions_alike_prove_no_lack_of_gain() -> None:
    outcomes = crowd({"sage": 0.95, "fool": 0.2, "dunce": 0.2}, int(MIN_ALIKE) - 1)
    found = asker(outcomes, {"sage": 2.0, "fool": 1.1, "dunce": 1.1})
    assert found.next({"sage": "x"}, 1) != ()


def test_no_answer_is_no_answer_to_stop_at() -> None:
    found = asker(crowd({"sage": 0.95, "fool": 0.2, "dunce": 0.2}, 600), {"sage": 2.0, "fool": 1.1, "dunce": 1.1})
    assert found.next({"sage": None}, 1) == ("fool",)
    assert found.next({"sage": "x"}, 1, at_least=2) == ("fool",)


def test_questions_of_the_same_kind_count_most() -> None:
    easy = [replace(o, kind="easy") for o in crowd({"a": 1.0, "b": 0.6, "c": 0.6}, 300)]
    hard = [replace(o, kind="hard") for o in crowd({"a": 0.3, "b": 0.8, "c": 0.8}, 300, seed=1)]
    weights = {"a": 1.2, "b": 1.0, "c": 1.0}
    assert asker([*easy, *hard], weights, Effort.LEAST, kind="easy").next({"a": "x"}, 1) == ()
    assert asker([*easy, *hard], weights, Effort.LEAST, kind="hard").next({"a": "x"}, 1) != ()


def test_less_effort_never_asks_more() -> None:
    accuracy = {"a": 0.85, "b": 0.6, "c": 0.55, "d": 0.5}
    snapshot = build_snapshot(crowd(accuracy, 1000), AGENTS)
    table = vote_table(crowd(accuracy, 1000, seed=1), AGENTS)
    weights = np.array([snapshot.learned[agent] for agent in AGENTS])
    found = asked_by_effort(table, AGENTS, weights, snapshot.order(), snapshot.precedents, None)
    calls = {effort: asked.sum() for effort, (asked, _) in found.items()}
    assert calls["least"] < calls["default"] <= calls["all"]


def test_everybody_is_asked_until_nothing_can_change() -> None:
    table = vote_table(crowd(PEERS, 300), AGENTS)
    weights = np.array([1.04, 1.03, 1.02, 1.01])
    (asked, _) = asked_by_effort(table, AGENTS, weights, AGENTS, None, None)["all"]
    whole = (table.chosen() @ weights).argmax(axis=1)
    part = ((table.chosen() * asked[:, None, :]) @ weights).argmax(axis=1)
    assert (part == whole).all()
    assert 0.5 < asked.mean() < 1.0


def test_precedents_hold_patterns_and_no_words() -> None:
    outcomes = [
        Outcome(votes={"a": "secret", "b": "other", "c": None}, right="other"),
        Outcome(votes={"a": "red", "b": "red", "c": "blue"}, right="green"),
        Outcome(votes={"a": "one", "b": "two", "c": None}, right="two"),
    ]
    found = precedents_of(vote_table(outcomes, ("a", "b", "c")), ("a", "b", "c"), [None, None, None], np.ones(3))
    assert found == Precedents(agents=("a", "b", "c"), counts={"": {"aab.": 1, "ab-b": 2}})
    assert found.arrays.votes.tolist() == [[0, 0, 1], [0, 1, -1]]
    assert found.arrays.right.tolist() == [-1, 1]


def test_precedents_are_stored_beside_a_document_that_keeps_its_id() -> None:
    snapshot = build_snapshot(
        crowd({f"agent-{i}": 0.3 + 0.05 * i for i in range(10)}, 100), tuple(f"agent-{i}" for i in range(10))
    )
    assert "precedents" not in snapshot.document()
    again = snapshot_from_document(json.loads(json.dumps(snapshot.stored())))
    assert again.precedents == snapshot.precedents
    assert again.precedents is not None
    assert len(again.precedents.agents) == MAX_COLUMNS
    assert again.id == snapshot.id == snapshot_from_document(snapshot.document()).id


@pytest.mark.parametrize(("answers", "letters"), [(["x", None, "y", "x"], (0, -1, 1, 0)), ([], ()), ([None], (-1,))])
def test_equal_answers_get_equal_letters(answers: list[str | None], letters: tuple[int, ...]) -> None:
    assert lettered(answers) == letters


def test_prices_count_only_if_all_are_known() -> None:
    assert relative_costs({"a": 1.0, "b": 3.0}) == {"a": 0.5, "b": 1.5}
    assert relative_costs({"a": 1.0, "b": 0.0}) == {}
    assert relative_costs({"a": 0.001, "b": 2.0})["a"] == 0.1
