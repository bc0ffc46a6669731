"""Contracts: what cannot be run is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.deliberation.contract import make_contract
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
        ({"budget": {"euro": 1}}, "invalid_budget"),
        ({"rounds": 10}, "invalid_config"),
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
