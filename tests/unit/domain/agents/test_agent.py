"""The computed status of an agent, and what a heartbeat may change."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.agents.agent import (
    STATUS_TABLE,
    AgentStatus,
    Health,
    Intent,
    IntentBy,
    Liveness,
    reported_intent,
    wire_status,
)
from tests.support.samples import an_agent

FACTS = list(product(Intent, Liveness, Health))


def _matching(intent: Intent, liveness: Liveness, health: Health) -> list[Any]:
    return [
        status
        for row_liveness, row_intent, row_health, status in STATUS_TABLE
        if row_liveness in (None, liveness) and row_intent in (None, intent) and row_health in (None, health)
    ]


def test_every_combination_of_facts_has_the_status_of_its_first_row() -> None:
    for intent, liveness, health in FACTS:
        expected = _matching(intent, liveness, health)[0]
        for leases in (0, 1, 2):
            status = wire_status(intent, liveness, health, leases, 2)
            assert status is (expected or (AgentStatus.BUSY if leases == 2 else AgentStatus.READY))


def test_no_row_of_the_table_is_out_of_reach() -> None:
    reached = {_matching(*facts)[0] for facts in FACTS}
    assert reached == {row[3] for row in STATUS_TABLE}


def test_a_paused_agent_is_paused_whatever_else_is_known() -> None:
    assert {wire_status(Intent.PAUSED, liveness, health, 0, 1) for liveness, health in product(Liveness, Health)} == {
        AgentStatus.PAUSED
    }


def test_only_agents_that_are_ready_starting_or_busy_take_work() -> None:
    for intent, liveness, health in FACTS:
        agent = an_agent(intent=intent, liveness=liveness, health=health)
        assert agent.takes_work == (agent.status in (AgentStatus.READY, AgentStatus.STARTING)), (intent, liveness)


def test_an_agent_reverts_its_own_intent_and_not_its_operators() -> None:
    active = an_agent()
    assert reported_intent(active, AgentStatus.DRAINING) is Intent.DRAINING
    own = replace(active, intent=Intent.DRAINING, intent_by=IntentBy.AGENT, own_intent=Intent.DRAINING)
    assert reported_intent(own, AgentStatus.READY) is Intent.ACTIVE
    operators = replace(active, intent=Intent.PAUSED, intent_by=IntentBy.OPERATOR)
    assert reported_intent(operators, AgentStatus.READY) is None
    assert reported_intent(operators, AgentStatus.DRAINING) is Intent.DRAINING, "kept beside the operator's"


@given(st.sampled_from(Intent), st.sampled_from(Intent), st.sampled_from(Intent), st.sampled_from(IntentBy))
def test_each_ends_its_own_pause_alone(operator: Intent, own: Intent, said: Intent, by: IntentBy) -> None:
    held = IntentBy.AGENT if operator is Intent.ACTIVE and own is not Intent.ACTIVE else IntentBy.OPERATOR
    intent = own if held is IntentBy.AGENT else operator
    agent = an_agent(intent=intent, intent_by=held, own_intent=own)
    assert agent.operator_intent is operator
    wishes = {IntentBy.OPERATOR: operator, IntentBy.AGENT: own, by: said}
    active = set(wishes.values()) == {Intent.ACTIVE}
    assert (agent.intent_after(said, by) is Intent.ACTIVE) == active


@given(st.sampled_from(AgentStatus), st.sampled_from(Intent))
def test_a_status_in_a_heartbeat_changes_intent_or_nothing(status: AgentStatus, own: Intent) -> None:
    expected = reported_intent(an_agent(own_intent=own), status)
    assert expected is None or expected is not own
    if status not in (AgentStatus.PAUSED, AgentStatus.DRAINING, AgentStatus.READY):
        assert expected is None
