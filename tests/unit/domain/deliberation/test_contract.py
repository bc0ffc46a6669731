"""Contracts: what cannot be run is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.deliberation.config import CONFIG_NAMES, make_contract
from cluster.domain.deliberation.contract import Contract
from tests.support.panels import contract


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"consensus": "byzantine"}, "unsupported_consensus_mode"),
        ({"options": ["A", "a"]}, "invalid_options"),
        ({"options": ["A"]}, "invalid_options"),
        ({"answer_type": "choice"}, "invalid_options"),
        ({"answer_type": "number", "options": ["A", "B"]}, "invalid_options"),
        ({"budget": {"tokens": -1}}, "invalid_budget"),
        ({"budget": {"tokens": 100.5}}, "invalid_budget"),
        ({"budget_tokens": "100"}, "invalid_budget"),
        ({"budget": {"euro": 1}}, "invalid_budget"),
        ({"rounds": 10}, "invalid_config"),
        *(
            ({name: value}, "invalid_config")
            for name in ("rounds", "k", "peers", "min_agents", "max_agents", "max_tokens")
            for value in (17.5, 1.5, "1", True)
        ),
        ({"agents": ["x"], "judge": "x"}, "invalid_judge"),
        ({"q": 0.4}, "invalid_threshold"),
        ({"debate_on": "mondays"}, "invalid_config"),
        ({"answer_type": "json", "schema": {"enum": 5}}, "invalid_schema"),
        ({"answer_type": "json", "schema": {"$ref": "https://example.com/x.json"}}, "invalid_schema"),
        ({"answer_type": "json", "schema": {"$ref": "#"}}, "invalid_schema"),
    ],
)
def test_an_invalid_contract_is_refused_with_a_code(config: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        contract(**config)
    assert refused.value.code == code


@pytest.mark.parametrize("kind", ["workflow", "gauntlet", "anything"])
def test_decision_types_are_never_guessed(kind: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        make_contract(
            question="quick security test?",
            decision_type=kind,
            config={},
            required_capabilities=(),
            timeout_s=None,
            seed="",
        )
    assert refused.value.code == "unsupported_decision_type"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("agentz", "agents"),
        ("optoins", "options"),
        ("Rounds", "rounds"),
        ("maxAgents", "max_agents"),
        ("max-tokens", "max_tokens"),
        ("token_budget", "budget_tokens"),
        ("concensus", "consensus"),
        ("timeout", "timeout_seconds"),
        ("quorum", "quorum_ratio"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        contract(**{name: 2})
    assert refused.value.code == "invalid_config"
    assert str(refused.value) == f"config.{name} is not a setting of a deliberation; did you mean {meant}?"


@given(st.sampled_from(sorted(name for name in CONFIG_NAMES if len(name) > 3)), st.data())
def test_a_slip_of_one_letter_is_refused_with_the_right_name(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(name) - 2))
    letter = data.draw(st.sampled_from("xzw_0"))
    slips = (name[:at] + name[at + 1 :], name[:at] + letter + name[at:], name[:at] + letter + name[at + 1 :])
    slip = data.draw(st.sampled_from([slip for slip in slips if slip not in CONFIG_NAMES]))
    with pytest.raises(InvalidRequest, match=f"did you mean {name}"):
        contract(**{slip: 2})


def test_a_name_like_no_other_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match="use agents, answer_type, ask_person, budget, "):
        contract(xyz=1)


@pytest.mark.parametrize("name", ["early_stopping", "decision_integrity", "evidence_limit"])
def test_names_of_the_released_server_are_still_taken(name: str) -> None:
    assert contract(**{name: True}) == contract()


def test_an_effort_lets_one_answer_be_enough() -> None:
    assert (contract().effort, contract().min_votes) == (None, 2)
    assert (contract(effort="default").effort, contract(effort="default").min_votes) == ("default", 1)
    assert contract(effort="all").min_votes == 2
    assert contract(effort="least", min_agents=3).min_votes == 3


def test_a_contract_without_an_effort_keeps_the_digest_that_it_had() -> None:
    assert "effort" not in contract().to_json()
    kept = contract(effort="least")
    assert Contract.from_json(kept.to_json()) == kept


def test_an_unknown_effort_is_refused_with_the_efforts() -> None:
    for value in ("most", 3, ["all"]):
        with pytest.raises(InvalidRequest, match=r"^config.effort must be one of least, default, all\.$"):
            contract(effort=value)
