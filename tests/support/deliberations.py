"""Deliberations played through the protocol machine, as a worker journals them, without any store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.deliberation import machine
from cluster.domain.deliberation.contract import Contract, make_contract
from cluster.domain.deliberation.machine import Answered, Call, Faulted, Happening, Member, PanelChosen, State
from cluster.domain.deliberations import JournalEvent
from tests.support.samples import NOW

#: What an agent does when it is called: its words, or None for a timeout.
Agent = Callable[[Call], str | None]


def says(choice: str, rationale: str = "", confidence: str = "high") -> Agent:
    text = json.dumps({"answer": choice, "rationale": rationale, "confidence": confidence}, ensure_ascii=False)
    return lambda call: text


@dataclass
class Played:
    request_id: str
    contract: Contract
    events: list[JournalEvent] = field(default_factory=list)
    state: State | None = None


def play(agents: Mapping[str, Agent], *, request_id: str = "delib_1", **config: Any) -> Played:
    """To its end; the agents answer in the order in which they are called, a tenth of a second apart."""
    contract = make_contract(
        question=config.pop("question", "Which database should the team use for its first product?"),
        decision_type=config.pop("decision_type", "debate"),
        config=config,
        required_capabilities=(),
        timeout_s=60.0,
        seed="a-seed",
    )
    played = Played(request_id, contract)
    state = State(request_id=request_id, contract=contract, admitted_at=NOW)
    members = tuple(Member(agent_id=one, persona=f"You are {one}, and you have seen it all.") for one in agents)
    happenings: list[Happening] = [PanelChosen(members=members)]
    answered: set[str] = set()
    while happenings:
        records, state = machine.plan(state, happenings.pop(0))
        for kind, data in records:
            n = len(played.events) + 1
            stored = json.loads(json.dumps(data))
            played.events.append(JournalEvent(n=n, at=NOW + n / 10, kind=kind, data=stored))
        for call in machine.outstanding(state):
            if call.key not in answered:
                answered.add(call.key)
                happenings.append(_reply(call, agents[call.agent_id](call)))
    played.state = state
    return played


def _reply(call: Call, text: str | None) -> Happening:
    if text is None:
        where = {"agent_id": call.agent_id, "phase": call.phase, "attempt": call.attempt}
        return Faulted(**where, fault="timeout", detail="no answer before the deadline")
    return Answered(agent_id=call.agent_id, phase=call.phase, attempt=call.attempt, text=text, tokens=12)
