"""The state of a deliberation as a fold over its journal: what each journalled event changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import ImpossibleTransition
from cluster.domain.consensus.snapshot import snapshot_from_document
from cluster.domain.deliberation.answers import Answer
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.derived import Derived
from cluster.domain.deliberation.ledger import NOTHING, Amount, Ledger
from cluster.domain.deliberation.sla import SlaLevel
from cluster.domain.deliberation.state import (
    PHASES,
    TRANSITIONS,
    Member,
    Phase,
    State,
    Terminal,
    Turn,
    TurnKey,
    step_of,
)
from cluster.domain.deliberation.stored import JournalEvent


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
    """The state that a journal leads to. Raises: ``ImpossibleTransition`` if an event enters a phase against the table."""
    state = initial(request_id, contract, admitted_at, contract_digest)
    for event in events:
        state = apply(state, event.kind, event.data, event.at)
    return state


def apply(state: State, kind: str, data: Mapping[str, Any], at: float) -> State:
    """The state after one journalled event. Raises: ``ImpossibleTransition`` if it enters a phase against the table."""
    return evolve(state, events=state.events + 1, **_APPLY[kind](state, data, at))


_Changes = dict[str, Any]
"""Fields of the state and their new values"""


def key_of(data: Mapping[str, Any]) -> TurnKey:
    return PHASES[data["phase"]], data["round"], data["agent"]


def _scheduled(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {"phase": Phase.SCHEDULED}


def _panel(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    snapshot = data.get("snapshot")
    judge = data.get("judge")
    panel = tuple(Member.from_json(member) for member in data["members"])
    return {
        "phase": Phase.PROPOSE,
        "panel": panel,
        "agents": tuple(member.agent_id for member in panel),
        "derived": Derived(),
        "pool": tuple(Member.from_json(member) for member in data.get("pool", ())),
        "judge": Member.from_json(judge) if judge else None,
        "snapshot": snapshot_from_document({**snapshot, "precedents": data.get("precedents")}) if snapshot else None,
    }


def _replaced(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    replaced = set(data["gone"])
    new = tuple(Member.from_json(member) for member in data["members"])
    names = {member.agent_id for member in new}
    panel = tuple(member for member in state.panel if member.agent_id not in replaced) + new
    return {
        "panel": panel,
        "agents": tuple(member.agent_id for member in panel),
        "derived": Derived(),
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
    """Calls that were in flight when a worker was killed are made again. Both copies may be billed."""
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
    overran = state.overran | {data["agent"]} if overrun else state.overran
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
        changes["derived"] = state.derived.before(step_of(key))
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
    """Turns that end without an answer. ``running``: their calls may still answer late, so they are not billed yet."""
    turns = dict(state.turns)
    ledger = state.ledger
    for turn in data["turns"]:
        key = key_of(turn)
        fault = turns[key].fault or data["fault"]
        turns[key] = evolve(turns[key], open=False, running=data["running"], fault=fault, problem="")
        if not data["running"]:
            paid = Amount.from_json(turn.get("billed"))
            ledger = ledger.settle((key, turn["attempt"]), paid, NOTHING, estimated=True)
    return {"turns": turns, "ledger": ledger}


def _sla(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {"sla": SlaLevel(data["level"])}


def _person_asked(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {**_closed(state), "phase": Phase.INPUT_REQUIRED, "asked": data, "asked_at": at}


def _person_answered(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {"answered": data}


def _ended(state: State, data: Mapping[str, Any], at: float) -> _Changes:
    return {**_closed(state), "phase": Phase.ENDED, "terminal": Terminal(data["terminal"])}


def _closed(state: State) -> _Changes:
    """Nobody is asked any more. Calls that are still in flight are billed at their reservations."""
    ledger = state.ledger
    for key, reserved in list(ledger.reserved.items()):
        ledger = ledger.settle(key, reserved, NOTHING, estimated=True)
    turns = {key: evolve(turn, open=False, running=False) for key, turn in state.turns.items()}
    return {"ledger": ledger, "turns": turns}


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
    "person_asked": _person_asked,
    "person_answered": _person_answered,
    "ended": _ended,
}
