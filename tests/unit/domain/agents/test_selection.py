"""Which agent gets a task."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.agents.selection import Candidate, Ranking, Strategy, choose


def _candidates(**changes: dict[str, object]) -> list[Candidate]:
    return [Candidate(agent_id=name, **values) for name, values in changes.items()]  # type: ignore[arg-type]


def test_the_least_loaded_is_measured_by_the_share_of_its_slots() -> None:
    candidates = _candidates(big={"load": 3, "slots": 10}, small={"load": 1, "slots": 2})
    assert choose(Strategy.LEAST_LOADED, candidates) == "big"


def test_round_robin_takes_the_agent_chosen_longest_ago() -> None:
    chosen = dict.fromkeys(("a", "b", "c"), 0)
    order = []
    for number in range(1, 7):
        name = choose(
            Strategy.ROUND_ROBIN, [Candidate(agent_id=k, chosen=v, load=9, slots=10) for k, v in chosen.items()]
        )
        assert name is not None
        chosen[name] = number
        order.append(name)
    assert order == ["a", "b", "c"] * 2


def test_the_random_strategy_uses_the_callers_draw() -> None:
    candidates = _candidates(b={}, a={}, c={})
    assert [choose(Strategy.RANDOM, candidates, draw=draw) for draw in (0.0, 0.34, 0.99)] == ["a", "b", "c"]


def test_the_lowest_latency_wins_and_the_untried_are_tried() -> None:
    assert choose(Strategy.LOWEST_LATENCY, _candidates(a={"latency_ms": 9.0}, b={"latency_ms": 5.0})) == "b"
    assert choose(Strategy.LOWEST_LATENCY, _candidates(a={"latency_ms": 9.0}, b={})) == "b"


def test_a_score_weighs_load_latency_success_cost_and_region() -> None:
    better = {
        "load": ({"load": 0, "slots": 2}, {"load": 1, "slots": 2}),
        "latency": ({"latency_ms": 10.0}, {"latency_ms": 20.0}),
        "success": ({"success": 1.0}, {"success": 0.5}),
        "cost": ({"cost": 1.0}, {"cost": 5.0}),
        "region": ({"region": "eu"}, {"region": "us"}),
    }
    for name, (good, bad) in better.items():
        assert choose(Strategy.SCORED, _candidates(z=good, a=bad), region="eu") == "z", name  # type: ignore[arg-type]


@given(
    st.sampled_from(Strategy),
    st.lists(st.builds(Candidate, agent_id=st.text(min_size=1), load=st.integers(0, 5), slots=st.integers(1, 5))),
    st.floats(0, 1, exclude_max=True),
)
def test_no_agent_without_a_free_slot_is_chosen(strategy: Strategy, candidates: list[Candidate], draw: float) -> None:
    chosen = choose(strategy, candidates, draw=draw)
    free = {candidate.agent_id for candidate in candidates if candidate.load < candidate.slots}
    assert (chosen in free) if free else chosen is None


CANDIDATES = st.builds(
    Candidate,
    agent_id=st.sampled_from([f"a{number}" for number in range(8)]),
    load=st.integers(0, 3),
    slots=st.integers(1, 3),
    latency_ms=st.none() | st.sampled_from([1.0, 5.0, 50.0]),
    success=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    cost=st.none() | st.sampled_from([1.0, 10.0]),
    region=st.sampled_from(["r1", "r2"]),
    chosen=st.integers(0, 5),
)
NAMES = st.sets(st.sampled_from([f"a{number}" for number in range(8)]), max_size=3)


@given(st.sampled_from(Strategy), st.lists(CANDIDATES | NAMES, max_size=60), st.floats(0, 1, exclude_max=True), NAMES)
def test_a_ranking_that_is_kept_chooses_as_looking_at_everybody_does(
    strategy: Strategy, changes: list[Candidate | set[str]], draw: float, excluded: set[str]
) -> None:
    ranking, known = Ranking(strategy, "r1"), dict[str, Candidate]()
    for change in changes:
        if isinstance(change, Candidate):
            known[change.agent_id] = change
            ranking.put(change)
        else:
            for name in change:
                known.pop(name, None)
                ranking.remove(name)
        rest = [
            candidate
            for candidate in known.values()
            if candidate.agent_id not in excluded or candidate.load >= candidate.slots
        ]
        found = ranking.choose(draw=draw, excluded=excluded)
        assert len(ranking) == len(known)
        if strategy is Strategy.RANDOM:
            free = {candidate.agent_id for candidate in rest if candidate.load < candidate.slots}
            assert found in free if free else found is None
        elif not excluded & known.keys():
            assert found == choose(strategy, list(known.values()), region="r1")
        elif strategy is not Strategy.SCORED:
            assert found == choose(strategy, rest)
        else:
            assert (found is None) == (choose(strategy, rest) is None)
            assert found not in excluded


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.LEAST_LOADED])
def test_every_free_candidate_can_be_drawn_and_load_is_spread(strategy: Strategy) -> None:
    ranking = Ranking(strategy)
    fleet = {f"a{number}": Candidate(agent_id=f"a{number}", slots=100) for number in range(10)}
    for candidate in fleet.values():
        ranking.put(candidate)
    for number in range(1, 1001):
        chosen = ranking.choose(draw=(number % 10) / 10)
        assert chosen is not None
        fleet[chosen] = replace(fleet[chosen], load=fleet[chosen].load + 1, chosen=number)
        ranking.put(fleet[chosen])
    assert {candidate.load for candidate in fleet.values()} == {100}
    assert ranking.choose() is None
