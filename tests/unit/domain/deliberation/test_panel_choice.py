"""Which agents are a panel: against a model that looks at every agent, and the rules that it does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.agents.agent import Agent, Health, Intent, Liveness
from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.fold import initial
from cluster.domain.deliberation.panel_choice import chosen, is_complete, panel_of, suitable, suits, taken_until
from tests.support.panels import contract
from tests.support.samples import an_agent

NAMES = ("a", "b", "c", "d", "e", "f")
SKILLS = st.sets(st.sampled_from(["deliberation", "debate", "judge", "law"])).map(tuple)


def asked(skills: tuple[str, ...] = ("deliberation",), **config: Any) -> Contract:
    return replace(contract(**config), required_capabilities=skills)


@st.composite
def fleets(draw: st.DrawFn) -> list[Agent]:
    return [
        an_agent(
            name,
            capabilities=draw(SKILLS),
            running_task_ids=("t",) * draw(st.integers(0, 2)),
            intent=draw(st.sampled_from([Intent.ACTIVE, Intent.ACTIVE, Intent.PAUSED])),
            liveness=draw(st.sampled_from([Liveness.ALIVE, Liveness.ALIVE, Liveness.OFFLINE])),
            health=draw(st.sampled_from([Health.UNKNOWN, Health.FAILED])),
        )
        for name in draw(st.permutations(NAMES))
    ]


CONTRACTS = st.builds(
    lambda skills, most, named, judged: asked(
        skills,
        max_agents=most,
        **({"agents": list(named)} if named else {}),
        **({"consensus": "judge"} if judged else {}),
    ),
    st.sampled_from([("deliberation",), ("law",), ("law", "debate")]),
    st.integers(2, 4),
    st.lists(st.sampled_from(NAMES), max_size=3, unique=True),
    st.booleans(),
)
LEARNED = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 0.5, 0.9]))


@given(fleets(), CONTRACTS, LEARNED)
def test_a_panel_has_the_best_of_those_who_suit(
    fleet: list[Agent], contract: Contract, accuracy: dict[str, float]
) -> None:
    found = suitable(contract, fleet)
    panel = panel_of(contract, found.agents, accuracy)
    asked_for = set(contract.agents)
    for agent in fleet:
        may = agent.takes_work and (
            agent.agent_id in asked_for if asked_for else suits(agent, contract.required_capabilities)
        )
        assert (agent in found.agents) == (may and agent is not found.judge)
    left = [agent for agent in found.agents if agent not in panel.members]
    assert len(panel.members) == min(len(found.agents), contract.max_agents)
    for member in panel.members:
        for other in left:
            best, worse = accuracy.get(member.agent_id, 0.0), accuracy.get(other.agent_id, 0.0)
            assert best >= worse
            if best == worse and not asked_for:
                assert len(member.running_task_ids) <= len(other.running_task_ids)
    assert all(agent in left for agent in panel.pool)
    assert not (panel.pool and asked_for), "nobody replaces who is named"
    if found.judge is not None:
        assert contract.mode is Mode.JUDGE
        assert found.judge.takes_work
        assert found.judge not in (*panel.members, *panel.pool)


@pytest.mark.parametrize(
    ("config", "judge"),
    [
        ({}, None),
        ({"consensus": "judge"}, "trade"),
        ({"consensus": "judge", "judge": "x"}, "x"),
        ({"consensus": "judge", "judge": "nobody"}, None),
        ({"consensus": "judge", "agents": ["x", "y"]}, "trade"),
    ],
)
def test_who_judges_is_named_or_does_so_by_trade(config: dict[str, Any], judge: str | None) -> None:
    fleet = [an_agent(name, capabilities=("deliberation",)) for name in ("x", "y", "z")]
    found = suitable(asked(**config), [*fleet, an_agent("trade", capabilities=("judge",))])
    assert (None if found.judge is None else found.judge.agent_id) == judge


def test_only_who_the_panel_can_spare_judges_without_one_by_trade() -> None:
    fleet = [an_agent(name, capabilities=("deliberation",)) for name in ("x", "y", "z")]
    spared = suitable(asked(consensus="judge", min_agents=2), fleet)
    assert spared.judge is not None
    assert spared.judge.agent_id == "z"
    assert suitable(asked(consensus="judge", min_agents=3), fleet).judge is None


@pytest.mark.parametrize(
    ("config", "names", "complete"),
    [
        ({"min_agents": 2}, "x", False),
        ({"min_agents": 2}, "xy", True),
        ({"agents": ["x", "y", "z"]}, "xy", False),
        ({"agents": ["x", "y", "z"]}, "xyz", True),
        ({"agents": ["x", "y", "z"], "max_agents": 2}, "xy", True),
        ({"min_agents": 2, "consensus": "judge", "judge": "nobody"}, "xy", False),
    ],
)
def test_a_panel_is_complete_when_nobody_is_left_to_wait_for(
    config: dict[str, Any], names: str, complete: bool
) -> None:
    made = asked(**config)
    found = suitable(made, [an_agent(name, capabilities=("deliberation",)) for name in names])
    assert is_complete(made, chosen(found, panel_of(made, found.agents, {}), None)) is complete


def test_an_incomplete_panel_is_taken_at_a_quarter_of_the_time() -> None:
    assert taken_until(initial("r", asked(), 1000.0)) == 1025.0
