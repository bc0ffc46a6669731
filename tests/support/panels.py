"""A deliberation driven without a worker: agents are functions, time is a number, every step is checked as it is taken."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.domain.agents.options import Price
from cluster.domain.deliberation.ballots import aggregation
from cluster.domain.deliberation.calls import Call, call_of, outstanding
from cluster.domain.deliberation.config import make_contract
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.derived import Derived
from cluster.domain.deliberation.events import Answered, Event, Faulted, PanelChosen, Taken, Tick
from cluster.domain.deliberation.fold import fold, initial
from cluster.domain.deliberation.log_entries import LogEntry, ended_row, log_rows
from cluster.domain.deliberation.machine import step
from cluster.domain.deliberation.state import Member, Phase, State
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.deliberation.timing import next_alarm
from tests.support.log_texts import words_in
from tests.support.samples import NOW

#: What an agent makes of a call: its text, or (fault, detail).
Behaviour = Callable[[Call], "str | tuple[str, str]"]


def contract(question: str = "Which?", seed: str = "seed", timeout_s: float = 100.0, **config: Any) -> Contract:
    return make_contract(
        question=question,
        decision_type="debate",
        config=config,
        required_capabilities=(),
        timeout_s=timeout_s,
        seed=seed,
    )


def members(*names: str, **changes: Any) -> tuple[Member, ...]:
    values: dict[str, Any] = {"model": "m", "price": Price(input_per_mtok=1.0, output_per_mtok=2.0)}
    return tuple(Member(agent_id=name, **(values | changes)) for name in names)


def says(answer: Any, *, revised: Any = None, because: str = "none", **more: Any) -> Behaviour:
    """Always this answer, or another one from the first revision on; no critiques; votes for the first it may."""

    def reply(call: Call) -> str:
        if call.phase is Phase.CRITIQUE:
            return json.dumps({"critiques": []})
        if call.phase in (Phase.VOTE, Phase.JUDGE):
            return json.dumps({"answer": call.schema["properties"]["answer"]["enum"][0]})
        now = revised if call.phase is Phase.REVISE and revised is not None else answer
        return json.dumps(
            {"answer": now, "rationale": f"because {now}", "confidence": "high", "because": because} | more
        )

    return reply


@dataclass
class World:
    """``journal`` is what a worker would have written."""

    state: State
    behaviours: dict[str, Behaviour]
    now: float = NOW
    journal: list[JournalEvent] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    usage: tuple[int, int] = (100, 20)
    checked: bool = True
    rows: list[LogEntry] = field(default_factory=list)

    @classmethod
    def of(cls, agreed: Contract, behaviours: dict[str, Behaviour]) -> World:
        return cls(initial("r", agreed, NOW), behaviours)

    def happens(self, *events: Event) -> None:
        records, state = step(self.state, events, self.now)
        if self.checked:
            again = step(self.state, events, self.now)
            assert again == (records, state), "the plan is not deterministic"
        for kind, data in records:
            stored = json.loads(json.dumps(data))
            self.journal.append(JournalEvent(n=len(self.journal) + 1, at=self.now, kind=kind, data=stored))
            self._announce(kind, stored, state)
        self.state = state
        if self.checked:
            self.check()

    def _announce(self, kind: str, data: dict[str, Any], state: State) -> None:
        """The row of the log, as a worker writes it: what somebody wrote is in its private part alone."""
        ended = kind == "ended"
        row = ended_row(data, self.now - NOW, state.contract.timeout_s) if ended else log_rows(kind, data, state)
        if row is not None:
            self.rows.append(row)
            assert words_in(row[0], row[1]) == []

    def check(self) -> None:
        state = self.state
        again = fold(state.request_id, state.contract, state.admitted_at, self.journal)
        assert again == state, "the journal does not hold the state"
        fresh = replace(state, derived=Derived())
        for round_ in range(state.round + 1) if state.panel else ():
            assert aggregation(fresh, round_) == aggregation(state, round_), "what is remembered is out of date"
        assert [call_of(fresh, key) for key in outstanding(fresh)] == self.calls()
        assert state.ledger.budget.holds(state.ledger.held), "the budget is breached"
        assert (state.terminal is not None) == (state.phase is Phase.ENDED)
        assert [event.kind for event in self.journal].count("ended") == (state.terminal is not None)

    def start(self, panel: Sequence[Member], **more: Any) -> World:
        self.happens(Taken())
        self.happens(PanelChosen(members=tuple(panel), **more))
        return self

    def calls(self) -> list[Call]:
        return [call_of(self.state, key) for key in outstanding(self.state)]

    def answer(self, call: Call, seconds: float = 0.1) -> Event:
        self.made.append(call.key)
        where: dict[str, Any] = {"agent_id": call.agent_id, "phase": call.phase, "attempt": call.attempt}
        where["round"] = call.round
        reply = self.behaviours[call.agent_id](call)
        if isinstance(reply, tuple):
            return Faulted(**where, fault=reply[0], detail=reply[1])
        counts = {"input_tokens": self.usage[0], "output_tokens": self.usage[1], "tokens": sum(self.usage)}
        return Answered(**where, text=reply, seconds=seconds, **counts)

    def run(self, chance: random.Random | None = None) -> World:
        """To the end: one answer after another, or time when nobody is being asked."""
        for _ in range(2000):
            if self.state.phase is Phase.ENDED:
                return self
            calls = self.calls()
            if calls:
                self.happens(self.answer(chance.choice(calls) if chance else calls[0]))
            else:
                self.now = max(self.now, next_alarm(self.state))
                self.happens(Tick())
        raise AssertionError(f"no end in sight: {self.state.phase}")

    @property
    def outcome(self) -> dict[str, Any]:
        return dict(self.journal[-1].data["outcome"])

    def resumed(self, events: int) -> World:
        """Another worker, after the journal's first ``events``; calls that were in flight are lost."""
        state = fold(self.state.request_id, self.state.contract, self.state.admitted_at, self.journal[:events])
        return World(state, self.behaviours, self.now, list(self.journal[:events]), [], self.usage)

    def journalled(self) -> set[str]:
        """Keys of the calls whose answers are in the journal."""
        return {
            f"{self.state.request_id}/{d['phase']}/{d['round']}/{d['agent']}/{d['attempt']}"
            for event in self.journal
            if event.kind in ("answered", "faulted", "late")
            for d in (event.data,)
        }

    def kinds(self) -> list[str]:
        return [
            f"{event.kind}:{event.data['phase']}" if "phase" in event.data else event.kind for event in self.journal
        ]
