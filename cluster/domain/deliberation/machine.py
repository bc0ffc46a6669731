"""The protocol machine of a deliberation: which events to journal when something happens.

``step`` returns the records to journal and the state after them; ``fold.apply`` folds what was journalled;
``calls.outstanding`` lists the calls that were announced and have no answer yet. A worker journals first and calls
afterwards, so a worker that is rebuilt from the journal repeats only calls whose answers were not journalled, under the
same keys.

``now`` decides about deadlines and SLA levels. Records state no time of their own: the fold uses the time of each event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.compact import evolve
from cluster.domain.base.json_values import cut_text, shown_text
from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation import person
from cluster.domain.deliberation.calls import reservation
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.events import (
    Answered,
    Broken,
    CancelAsked,
    Event,
    Faulted,
    PanelChosen,
    Taken,
    Tick,
)
from cluster.domain.deliberation.following import MAX_REPAIRS, follows
from cluster.domain.deliberation.ledger import NOTHING, Amount
from cluster.domain.deliberation.person import PersonAnswered
from cluster.domain.deliberation.plan import MAX_DETAIL, Plan, Record, close, cut, end, sum_of, where
from cluster.domain.deliberation.replies import bill_of, kept_bytes, reading_of
from cluster.domain.deliberation.sla import SlaLevel, crossed
from cluster.domain.deliberation.state import Phase, State, Terminal, TurnKey


def step(state: State, events: Event | Sequence[Event], now: float) -> tuple[list[Record], State]:
    """Returns what to journal because of these events, and the state once that is journalled with the time ``now``."""
    plan = Plan(state, now)
    many = events if isinstance(events, list | tuple) else (events,)
    for event in many:
        if not plan.over:
            _time(plan)
        if not plan.over:
            _HANDLERS[type(event)](plan, event)
    while not plan.over and follows(plan):
        pass
    return plan.records, plan.state


# --- time -------------------------------------------------------------------------------------------------------------


def _time(plan: Plan) -> None:
    """Journals the SLA levels that were crossed, and ends the deliberation at its deadline, which no longer counts when a person
    is asked."""
    state, now = plan.state, plan.now
    if state.phase is Phase.INPUT_REQUIRED:
        return
    timeout_s = state.contract.timeout_s
    for level in crossed(state.sla, now - state.admitted_at, timeout_s):
        elapsed = max(0.0, round(now - state.admitted_at, 6))
        plan.add("sla", {"level": level.value, "elapsed_seconds": elapsed, "timeout_seconds": timeout_s})
    if plan.state.sla is SlaLevel.VIOLATED:
        close(plan, Terminal.DEADLINE_EXCEEDED, "the deadline was reached")


# --- what each event does ---------------------------------------------------------------------------------------------


def _taken(plan: Plan, event: Taken) -> None:
    if plan.state.phase is Phase.ADMITTED:
        plan.add("scheduled", {})
    elif event.again:
        _repeat(plan)


def _repeat(plan: Plan) -> None:
    """Announces the calls that were in flight again, as far as the budget covers a second bill, and cuts the others."""
    again: list[tuple[TurnKey, Amount]] = []
    refused: list[TurnKey] = []
    for key, turn in plan.state.turns.items():
        if not turn.running:
            continue
        if not turn.open:
            refused.append(key)  # its answer would be late: it is not worth a second bill
            continue
        amount = reservation_now(plan.state, key)
        if plan.state.ledger.affords(sum_of([amount, *(a for _, a in again)])):
            again.append((key, amount))
        else:
            refused.append(key)
    if again:
        plan.add(
            "repeated",
            {"calls": [{**where(key, plan.state.turns[key].attempt), **a.to_json()} for key, a in again]},
        )
    if refused:
        cut(plan, refused, "abandoned", running=False)


def reservation_now(state: State, key: TurnKey) -> Amount:
    """What another call of the present attempt of a turn may cost."""
    turn = state.turns[key]
    repairing = evolve(turn, problem=turn.repairing) if turn.attempt else None
    return reservation(state, key, repairing)


def _panel(plan: Plan, event: PanelChosen) -> None:
    contract = plan.state.contract
    if plan.state.phase is not Phase.SCHEDULED:
        return
    judged = contract.mode is not Mode.JUDGE or event.judge is not None
    if len(event.members) < contract.min_votes or not judged:
        close(plan, Terminal.QUORUM_LOST, f"panel: {_missing(contract, event, judged)}")
        return
    members = [member.to_json() for member in event.members]
    data: dict[str, Any] = {
        "members": members,
        "pool": [member.to_json() for member in event.pool],
        "judge": event.judge.to_json() if event.judge else None,
        "missing": event.missing,
        "contract_digest": (plan.state.contract_digest or contract.digest()).hex(),
        "snapshot": None,
        "snapshot_id": None,
    }
    if event.snapshot is not None:
        data.update(snapshot=event.snapshot.document(), snapshot_id=event.snapshot.id)
        if contract.asks_by_gain:
            data["precedents"] = event.snapshot.stored().get("precedents")
    bound = {name: data[name] for name in ("contract_digest", "members", "judge", "snapshot_id")}
    data["binding"] = hashlib.sha256(canonical_bytes(bound)).hexdigest()
    plan.add("panel", data)


def _missing(contract: Contract, event: PanelChosen, judged: bool) -> str:
    """What a panel lacks, and nothing that it has."""
    judge = f"the judge {contract.judge}" if contract.judge else "a judge that is not on the panel"
    if len(event.members) >= contract.min_votes:
        return f"missing: {judge}"
    found = f"{len(event.members)} of {contract.min_votes} agents; missing: {event.missing or 'agents'}"
    return found if judged else f"{found}; {judge}"


def _answered(plan: Plan, event: Answered) -> None:
    key = (event.phase, event.round, event.agent_id)
    turn = plan.state.turns.get(key)
    data = {
        **where(key, event.attempt),
        "text": cut_text(shown_text(event.text.replace("\x00", "")), kept_bytes(plan.state)),
        "seconds": max(0.0, round(event.seconds, 6)),
        **bill_of(plan.state, key, event, turn),
    }
    if turn is None or not turn.open or not turn.running or turn.attempt != event.attempt:
        if turn is not None and (turn.running or (key, event.attempt) in plan.state.ledger.reserved):
            plan.add("late", data)
        return
    plan.add("answered", {**data, **reading_of(plan.state, key, event.text)})


#: Faults that cost nothing, because the agent refused the connection or the request. Any other fault is billed at its
#: reservation: the agent may have done the work.
_FREE_FAULTS = frozenset({"http", "refusal", "cancelled_before"})


def _faulted(plan: Plan, event: Faulted) -> None:
    key = (event.phase, event.round, event.agent_id)
    turn = plan.state.turns.get(key)
    if turn is None or turn.attempt != event.attempt or not turn.running:
        return
    reserved = plan.state.ledger.reserved.get((key, event.attempt), NOTHING)
    free = event.fault in _FREE_FAULTS and turn.copies == 1
    detail = shown_text(event.detail.replace("\x00", ""), MAX_DETAIL)
    data = {
        **where(key, event.attempt),
        "fault": event.fault,
        "detail": detail,
        "billed": (NOTHING if free else reserved).to_json(),
        "estimated": not free,
    }
    if not turn.open:
        plan.add("late", {**data, "text": "", "seconds": 0.0})
        return
    repairable = event.fault == "malformed" and turn.attempt < MAX_REPAIRS
    plan.add("faulted", {**data, "problem": detail or "malformed"} if repairable else data)


def _tick(plan: Plan, event: Tick) -> None:
    """Does nothing: ``step`` looks at the time before every event."""


def _cancelled(plan: Plan, event: CancelAsked) -> None:
    end(plan, Terminal.CANCELLED, "cancelled by request")


def _person(plan: Plan, event: PersonAnswered) -> None:
    asked = plan.state.asked
    if plan.state.phase is not Phase.INPUT_REQUIRED or asked is None:
        return
    answer = asked["outcome"]["answer"]
    given = person.answer_record(plan.state.contract.answer_type, answer, event)
    plan.add("person_answered", given)
    terminal, reason, _ = person.settled(asked["terminal"], asked["reason"], answer, given)
    end(plan, terminal, reason)


def _broken(plan: Plan, event: Broken) -> None:
    end(plan, Terminal.FAILED, event.detail[:MAX_DETAIL])


_HANDLERS: dict[type, Callable[[Plan, Any], None]] = {
    Taken: _taken,
    PanelChosen: _panel,
    Answered: _answered,
    Faulted: _faulted,
    Tick: _tick,
    CancelAsked: _cancelled,
    PersonAnswered: _person,
    Broken: _broken,
}
