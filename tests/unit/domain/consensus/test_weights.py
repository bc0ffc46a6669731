"""Log-odds, weights of a panel, and the cap on an owner's share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.consensus.weights import cap_owner_shares, log_odds, panel_weights


def test_log_odds_are_zero_at_chance_and_below() -> None:
    assert log_odds(0.25, 4) == pytest.approx(0.0)
    assert log_odds(0.1, 4) == 0.0
    assert log_odds(0.9, 2) == pytest.approx(math.log(9))


def test_an_unknown_agent_gets_the_mean_weight() -> None:
    assert panel_weights({"x": 1.0, "y": 3.0}, ("x", "z")) == {"x": 1.0, "z": 2.0}
    assert panel_weights({}, ("x",)) == {"x": 1.0}


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 10), min_size=1),
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(("o1", "o2", "o3"))),
    st.sampled_from((0.2, 0.34, 0.4, 0.5, 1.0)),
)
def test_no_stated_owner_holds_more_than_the_cap(weights: dict[str, float], owners: dict[str, str], cap: float) -> None:
    capped = cap_owner_shares(weights, owners, cap)
    assert all(0 <= capped[agent] <= weights[agent] for agent in weights)
    assert all(capped[agent] == weights[agent] for agent in weights if agent not in owners)
    if capped == weights:
        return  # nothing was over, or the cap cannot bind
    for owner in set(owners.values()):
        held = math.fsum(capped[agent] for agent in weights if owners.get(agent) == owner)
        assert held <= cap * math.fsum(capped.values()) * (1 + 1e-6) + 1e-9


def test_the_cap_binds_where_it_can() -> None:
    owners = {"a1": "acme", "a2": "acme", "b": "bolt", "c": "core"}
    capped = cap_owner_shares({"a1": 3.0, "a2": 1.0, "b": 1.0, "c": 1.0}, owners, 0.4)
    assert (capped["a1"] + capped["a2"]) / sum(capped.values()) == pytest.approx(0.4)
    assert capped["a1"] == pytest.approx(3 * capped["a2"]), "an owner's agents keep their proportions"
    two = {"a1": 3.0, "b": 1.0}
    assert cap_owner_shares(two, owners, 0.4) == two, "two owners cannot both be below 40 %"
    assert cap_owner_shares({"x": 9.0, "y": 1.0, "z": 1.0}, {}, 0.4)["x"] == 9.0, "who is nobody's is not capped"
