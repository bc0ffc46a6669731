"""The records of one step of a deliberation, and how turns and the deliberation itself end in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.domain.deliberation import person
from cluster.domain.deliberation.fold import apply
from cluster.domain.deliberation.ledger import NOTHING, Amount
from cluster.domain.deliberation.outcome import deciding
from cluster.domain.deliberation.outcome import outcome as outcome_of
from cluster.domain.deliberation.state import Phase, State, Terminal, TurnKey

MAX_DETAIL = 500
Record = tuple[str, Mapping[str, Any]]
"""(kind, data) of an event to journal"""


class Plan:
    """The records of one step so far, and the state with them applied."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.records: list[Record] = []

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        self.records.append((kind, data))
        self.state = apply(self.state, kind, data, self.now)

    @property
    def over(self) -> bool:
        return self.state.phase is Phase.ENDED


def sum_of(amounts: Iterable[Amount]) -> Amount:
    total = NOTHING
    for amount in amounts:
        total += amount
    return total


def where(key: TurnKey, attempt: int) -> dict[str, Any]:
    return {"agent": key[2], "phase": key[0].value, "round": key[1], "attempt": attempt}


def cut(plan: Plan, keys: Sequence[TurnKey], fault: str, *, running: bool) -> None:
    """Ends turns without an answer. A turn whose call is not left running is billed at its reservation."""
    state = plan.state
    turns = []
    for key in keys:
        attempt = state.turns[key].attempt
        reserved = state.ledger.reserved.get((key, attempt))
        bill = {} if running or reserved is None else {"billed": reserved.to_json()}
        turns.append({**where(key, attempt), **bill})
    plan.add("cut", {"fault": fault, "running": running, "turns": turns})


def close(plan: Plan, terminal: Terminal, reason: str) -> None:
    """The agents' part has ended: the deliberation ends so, unless the contract puts this end to a person."""
    data = _ending(plan.state, terminal, reason)
    contract, outcome = plan.state.contract, data["outcome"]
    if not person.is_due(contract.ask_person, terminal, outcome["confidence"]):
        plan.add("ended", data)
        return
    text = person.question_text(contract, terminal, outcome)
    plan.add("person_asked", {**data, "task_id": person.question_task_id(plan.state.request_id), "text": text})


def end(plan: Plan, terminal: Terminal, reason: str) -> None:
    plan.add("ended", _ending(plan.state, terminal, reason))


def _ending(state: State, terminal: Terminal, reason: str) -> dict[str, Any]:
    """The ``ended`` event. Once a person is asked, what the agents found is as it was then."""
    if state.asked is not None:
        return person.ending(state, terminal, reason)
    data: dict[str, Any] = {
        "terminal": terminal.value,
        "reason": reason,
        "outcome": outcome_of(state, terminal, reason),
        "aggregation": None,
    }
    if state.panel:
        asked, round_ = deciding(state)
        data.update(aggregation=asked.document(), aggregation_round=round_)
    return data
