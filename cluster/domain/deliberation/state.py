"""The state of a deliberation as a fold over its journal, and the table of its phases.

    ADMITTED → SCHEDULED → PROPOSE → EVALUATE → (another wave | debate round | JUDGE | AGGREGATE) → a terminal

A round is PROPOSE (round 0) or CRITIQUE and REVISE (rounds 1 to n); where answers are texts, VOTE follows. Whatever can be
computed from the journal is computed, not stored, so that a rebuilt worker cannot differ from the one that was killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from cluster.domain.base.compact import compact, evolve
from cluster.domain.base.errors import ImpossibleTransition
from cluster.domain.consensus.snapshot import WeightSnapshot, snapshot_from_document
from cluster.domain.deliberation.answers import Answer
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.ledger import Amount, Ledger, Price
from cluster.domain.deliberation.sla import SlaLevel
from cluster.domain.deliberation.stored import JournalEvent


class Phase(StrEnum):
    ADMITTED = "ADMITTED"
    SCHEDULED = "SCHEDULED"
    PROPOSE = "PROPOSE"
    EVALUATE = "EVALUATE"
    CRITIQUE = "CRITIQUE"
    REVISE = "REVISE"
    VOTE = "VOTE"
    JUDGE = "JUDGE"
    AGGREGATE = "AGGREGATE"
    ENDED = "ENDED"


#: By value: a journal has thousands of them, and a call of the enumeration costs a microsecond.
PHASES: Mapping[str, Phase] = {phase.value: phase for phase in Phase}


class Terminal(StrEnum):
    DECIDED = "DECIDED"
    NO_CONSENSUS = "NO_CONSENSUS"
    QUORUM_LOST = "QUORUM_LOST"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class PhaseTransition(NamedTuple):
    """``guard`` names a function of the machine; "" always holds. The first rule that holds is taken."""

    guard: str
    to: Phase
    when: str


#: From each phase, once nobody is being asked any more: where to. Docs and tests read this table. Besides, every phase
#: ends in ENDED when the deadline is reached, when it is cancelled, and when the panel cannot be had.
TRANSITIONS: Mapping[Phase, tuple[PhaseTransition, ...]] = {
    Phase.ADMITTED: (),
    Phase.SCHEDULED: (),
    Phase.PROPOSE: (
        PhaseTransition("texts_to_choose_from", Phase.VOTE, "the answers are texts that differ"),
        PhaseTransition("", Phase.EVALUATE, "all who were asked have answered, failed or were cut"),
    ),
    Phase.EVALUATE: (
        PhaseTransition("judge_is_due", Phase.JUDGE, "a stop fired and the mode is judge"),
        PhaseTransition("stopped", Phase.AGGREGATE, "a stop fired"),
        PhaseTransition("wave_is_left", Phase.PROPOSE, "agents are left who could change the decision"),
        PhaseTransition("", Phase.CRITIQUE, "the answers are contested and a debate round is left"),
    ),
    Phase.CRITIQUE: (PhaseTransition("", Phase.REVISE, "all critiques are in"),),
    Phase.REVISE: (
        PhaseTransition("texts_to_choose_from", Phase.VOTE, "the answers are texts that differ"),
        PhaseTransition("", Phase.EVALUATE, "all revisions are in"),
    ),
    Phase.VOTE: (PhaseTransition("", Phase.EVALUATE, "all votes are in"),),
    Phase.JUDGE: (PhaseTransition("", Phase.AGGREGATE, "both verdicts are in"),),
    Phase.AGGREGATE: (),
    Phase.ENDED: (),
}
CALLING = frozenset({Phase.PROPOSE, Phase.CRITIQUE, Phase.REVISE, Phase.VOTE, Phase.JUDGE})

TurnKey = tuple[Phase, int, str]
"""(phase, round, agent); for the judge the round is the order in which it is shown the candidates"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An agent on the panel, as it was when the panel was chosen. ``owner`` "" is the agent itself."""

    agent_id: str
    model: str = "unknown"
    provider: str = "unknown"
    persona: str = ""
    owner: str = ""
    price: Price = field(default_factory=Price)

    def to_json(self) -> dict[str, Any]:
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "price": self.price.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Member:
        return cls(**{**value, "price": Price(**value["price"])})


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One agent in one phase of one round. ``attempt`` counts repairs, ``copies`` how often the call was made again after
    a restart. ``running``: a call of it may still be answered, although the turn is over."""

    attempt: int = 0
    open: bool = True
    running: bool = True
    copies: int = 1
    text: str = ""
    problem: str = ""
    repairing: str = ""
    answer: Answer | None = None
    fault: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """``replaced``: members that were replaced. ``overran``: agents that billed more than the budget could pay.
    ``waves_before``: waves asked before PROPOSE was entered last. ``wave_at``: when the last calls were announced,
    ``heard_at`` the last answer in time; ``seconds``: how long answers took. ``stop``: what ended the asking.
    ``contract_digest``: as it was admitted; b"" is computed where it is needed. ``memo``: what was computed from answers,
    by the last step that it depends on and a name, until one of them changes."""

    request_id: str
    contract: Contract
    admitted_at: float
    ledger: Ledger
    phase: Phase = Phase.ADMITTED
    round: int = 0
    panel: tuple[Member, ...] = ()
    agents: tuple[str, ...] = ()
    pool: tuple[Member, ...] = ()
    replaced: tuple[Member, ...] = ()
    judge: Member | None = None
    snapshot: WeightSnapshot | None = None
    turns: Mapping[TurnKey, Turn] = field(default_factory=dict)
    overran: frozenset[str] = frozenset()
    waves: int = 0
    waves_before: int = 0
    wave_at: float = 0.0
    heard_at: float = 0.0
    seconds: tuple[float, ...] = ()
    stop: str = ""
    sla: SlaLevel = SlaLevel.COMPLIANT
    calls: int = 0
    events: int = 0
    terminal: Terminal | None = None
    contract_digest: bytes = field(default=b"", compare=False)
    memo: dict[int, dict[tuple[Any, ...], Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def deadline(self) -> float:
        return self.admitted_at + self.contract.timeout_s

    def member(self, agent_id: str) -> Member:
        for member in self.panel:
            if member.agent_id == agent_id:
                return member
        others: tuple[Member, ...] = (*self.pool, *self.replaced, *((self.judge,) if self.judge else ()))
        return next(member for member in others if member.agent_id == agent_id)

    def turn(self, phase: Phase, round_: int, agent: str) -> Turn | None:
        return self.turns.get((phase, round_, agent))

    def open_turns(self) -> list[TurnKey]:
        return [key for key, turn in self.turns.items() if turn.open]


def initial(request_id: str, contract: Contract, admitted_at: float, contract_digest: bytes = b"") -> State:
    return State(
        request_id=request_id,
        contract=contract,
        admitted_at=admitted_at,
        ledger=Ledger(budget=contract.budget),
        contract_digest=contract_digest,
    )


def fold(
    request_id: str,
    contract: Contract,
    admitted_at: float,
    events: Sequence[JournalEvent],
    contract_digest: bytes = b"",
) -> State:
    state = initial(request_id, contract, admitted_at, contract_digest)
    for event in events:
        state = apply(state, event.kind, event.data, event.at)
    return state


def apply(state: State, kind: str, data: Mapping[str, Any], at: float) -> State:
    """One journalled event."""
    return evolve(state, events=state.events + 1, **_APPLY[kind](state, data, at))


_Changes = dict[str, Any]
"""Fields of the state and their new values"""


def key_of(data: Mapping[str, Any]) -> TurnKey:
    return PHASES[data["phase"]], data["round"], data["agent"]


def step_of(key: TurnKey) -> int:
    """Order of the turns whose answers others are shown: PROPOSE 0, then CRITIQUE and REVISE of each round."""
    phase, round_, _ = key
    return 2 * round_ - (phase is Phase.CRITIQUE)


def _scheduled(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {"phase": Phase.SCHEDULED}


def _panel(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    snapshot = data.get("snapshot")
    judge = data.get("judge")
    panel = tuple(Member.from_json(one) for one in data["members"])
    return {
        "phase": Phase.PROPOSE,
        "panel": panel,
        "agents": tuple(member.agent_id for member in panel),
        "memo": {},
        "pool": tuple(Member.from_json(one) for one in data.get("pool", ())),
        "judge": Member.from_json(judge) if judge else None,
        "snapshot": snapshot_from_document(snapshot) if snapshot else None,
    }


def _replaced(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    replaced = set(data["gone"])
    new = tuple(Member.from_json(one) for one in data["members"])
    names = {member.agent_id for member in new}
    panel = tuple(member for member in state.panel if member.agent_id not in replaced) + new
    return {
        "panel": panel,
        "agents": tuple(member.agent_id for member in panel),
        "memo": {},
        "pool": tuple(member for member in state.pool if member.agent_id not in names),
        "replaced": tuple(member for member in state.panel if member.agent_id in replaced),
    }


def _phase(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    phase = PHASES[data["phase"]]
    if phase not in {rule.to for rule in TRANSITIONS[state.phase]}:
        raise ImpossibleTransition(f"{state.request_id}: {state.phase} is not followed by {phase}.")
    return {
        "phase": phase,
        "round": data["round"],
        "stop": data.get("stop") or state.stop,
        "wave_at": at,
        "waves_before": state.waves,
    }


def _asked(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    turns = dict(state.turns)
    phase, attempt = PHASES[data["phase"]], data["attempt"]
    amounts: dict[Any, Amount] = {}
    for call in data["calls"]:
        key = (phase, call.get("round", data["round"]), call["agent"])
        before = turns.get(key)
        turns[key] = (
            Turn(attempt=attempt)
            if before is None
            else evolve(before, attempt=attempt, problem="", repairing=before.problem, running=True, copies=1)
        )
        amounts[key, attempt] = Amount(call["tokens"], call["nanos"])
    ledger = state.ledger.reserve(amounts)
    for refused in data.get("over_budget", ()):
        turns[phase, data["round"], refused] = Turn(open=False, running=False, fault="over_budget")
    first_of_wave = phase is Phase.PROPOSE and attempt == 0
    return {
        "turns": turns,
        "ledger": ledger,
        "waves": state.waves + first_of_wave,
        "wave_at": state.wave_at if attempt else at,
        "calls": state.calls + len(data["calls"]),
    }


def _repeated(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    """Calls that were in flight when the worker was killed are made again: both may be billed."""
    turns = dict(state.turns)
    amounts: dict[Any, Amount] = {}
    for call in data["calls"]:
        key = key_of(call)
        turns[key] = evolve(turns[key], copies=turns[key].copies + 1)
        amounts[key, call["attempt"]] = Amount(call["tokens"], call["nanos"])
    return {"turns": turns, "ledger": state.ledger.reserve(amounts), "calls": state.calls + len(data["calls"])}


def _settled(state: State, data: Mapping[str, Any]) -> _Changes:
    overrun = Amount.from_json(data.get("overrun"))
    ledger = state.ledger.settle(
        (key_of(data), data["attempt"]),
        Amount.from_json(data.get("billed")),
        overrun,
        estimated=bool(data.get("estimated")),
    )
    overran = state.overran | {data["agent"]} if overrun != Amount() else state.overran
    return {"ledger": ledger, "overran": overran}


def _answered(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    key = key_of(data)
    turn = evolve(
        state.turns[key],
        text=data["text"],
        running=False,
        problem=data.get("problem", ""),
        **({"open": False, "answer": Answer.from_json(data["answer"])} if "answer" in data else {}),
    )
    changes = _settled(state, data)
    if turn.answer is not None and key[0] in (Phase.PROPOSE, Phase.CRITIQUE, Phase.REVISE):
        step = step_of(key)
        changes["memo"] = {index: kept for index, kept in state.memo.items() if index < step}
    changes.update(turns={**state.turns, key: turn}, heard_at=at, seconds=(*state.seconds, data["seconds"]))
    return changes


def _faulted(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    """``problem``: the fault can be repaired by asking again."""
    key = key_of(data)
    problem = data.get("problem", "")
    turn = evolve(
        state.turns[key],
        open=bool(problem),
        running=False,
        problem=problem,
        fault=data["fault"],
        detail=data["detail"],
    )
    return {**_settled(state, data), "turns": {**state.turns, key: turn}}


def _late(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    turns = state.turns
    key = key_of(data)
    if key in turns and turns[key].attempt == data["attempt"]:
        turns = {**turns, key: evolve(turns[key], running=False)}
    return {**_settled(state, data), "turns": turns}


def _cut(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    """Turns that are over without an answer; ``running`` while the call is left to answer late."""
    turns = dict(state.turns)
    ledger = state.ledger
    for turn in data["turns"]:
        key = key_of(turn)
        fault = turns[key].fault or data["fault"]
        turns[key] = evolve(turns[key], open=False, running=data["running"], fault=fault, problem="")
        if not data["running"]:
            paid = Amount.from_json(turn.get("billed"))
            ledger = ledger.settle((key, turn["attempt"]), paid, Amount(), estimated=True)
    return {"turns": turns, "ledger": ledger}


def _sla(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {"sla": SlaLevel(data["level"])}


def _ended(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    """Calls that are still out are billed at what was reserved for them."""
    ledger = state.ledger
    for key, reserved in list(ledger.reserved.items()):
        ledger = ledger.settle(key, reserved, Amount(), estimated=True)
    turns = {key: evolve(turn, open=False, running=False) for key, turn in state.turns.items()}
    return {"phase": Phase.ENDED, "terminal": Terminal(data["terminal"]), "ledger": ledger, "turns": turns}


_APPLY = {
    "scheduled": _scheduled,
    "panel": _panel,
    "replaced": _replaced,
    "phase": _phase,
    "asked": _asked,
    "repeated": _repeated,
    "answered": _answered,
    "faulted": _faulted,
    "late": _late,
    "cut": _cut,
    "sla": _sla,
    "ended": _ended,
}
