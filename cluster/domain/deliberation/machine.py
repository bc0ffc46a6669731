"""The protocol machine of a deliberation: which events to journal when something happens.

``step`` returns the records to journal and the state after them; ``state.apply`` folds what was journalled;
``calls.outstanding`` lists the calls that were announced and have no answer yet. A worker journals first and calls
afterwards, so a worker that is rebuilt from the journal repeats only calls whose answers were not journalled, under the
same keys.

``now`` decides about deadlines and SLA levels. Records state no time of their own: the fold uses the time of each event.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.compact import compact, evolve
from cluster.domain.base.json_values import cut_text, shown_text
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation import ballots, decision, person
from cluster.domain.deliberation.answers import Answer, Malformed, parse_reply
from cluster.domain.deliberation.calls import prompt_estimate, reservation, shape_of
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.ledger import MAX_TOKENS, NOTHING, Amount, estimated_tokens
from cluster.domain.deliberation.numbers import distance
from cluster.domain.deliberation.person import PersonAnswered
from cluster.domain.deliberation.sla import SlaLevel, crossed, next_crossing_s
from cluster.domain.deliberation.state import (
    CALLING,
    TRANSITIONS,
    Member,
    Phase,
    State,
    Terminal,
    Turn,
    TurnKey,
    apply,
)

MAX_REPAIRS = 1
MAX_DETAIL = 500
#: Bytes of a token at most, as a rule: English has four, and a token of another script has up to eight.
TOKEN_BYTES = 8
#: Bytes of a reply in the journal, whatever ``max_tokens`` is.
MAX_KEPT = 32_768
#: A straggler that cannot change the decision is waited for, after the last answer, for as long again as that answer took,
#: and at least this long.
PATIENCE_S = 0.25
#: The share of the timeout after which a phase no longer waits: SCHEDULED for a complete panel, the others for answers.
#: Debate rounds divide the time between the end of PROPOSE and ``_DEBATE_ENDS`` evenly.
PHASE_SHARE = {Phase.SCHEDULED: 0.25, Phase.PROPOSE: 0.50, Phase.VOTE: 0.90, Phase.JUDGE: 0.97}
_DEBATE_ENDS = 0.80
#: Of PROPOSE, if no phase that asks can follow it.
_LAST_CALL = 0.97


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A worker has taken the deliberation. ``again``: its journal has events already, so calls may have been in flight."""

    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelChosen:
    """A panel was chosen, complete or not. ``pool``: agents that may replace silent members, best first. ``missing`` says
    what could not be found."""

    members: tuple[Member, ...]
    pool: tuple[Member, ...] = ()
    judge: Member | None = None
    snapshot: WeightSnapshot | None = None
    missing: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An agent replied. Token counts are as its server reports them, all 0 if it does not. ``seconds``: how long the call
    took."""

    agent_id: str
    phase: Phase
    attempt: int
    text: str
    round: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """A call failed. ``fault``: timeout, http, malformed or refusal."""

    agent_id: str
    phase: Phase
    attempt: int
    fault: str
    detail: str
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed. ``next_alarm`` says when the next one is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody asked to cancel the deliberation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The control plane failed on this deliberation and cannot go on with it."""

    detail: str


Event = Taken | PanelChosen | Answered | Faulted | Tick | CancelAsked | PersonAnswered | Broken
Record = tuple[str, Mapping[str, Any]]
"""(kind, data) of an event to journal"""


class _Plan:
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


def step(state: State, events: Event | Sequence[Event], now: float) -> tuple[list[Record], State]:
    """Returns what to journal because of these events, and the state once that is journalled with the time ``now``."""
    plan = _Plan(state, now)
    many = events if isinstance(events, list | tuple) else (events,)
    for event in many:
        if not plan.over:
            _time(plan)
        if not plan.over:
            _HANDLERS[type(event)](plan, event)
    while not plan.over and _follows(plan):
        pass
    return plan.records, plan.state


# --- time -------------------------------------------------------------------------------------------------------------


def phase_deadline(state: State) -> float:
    """When the present phase stops waiting for its open turns, if it may (``_cuttable``)."""
    share = PHASE_SHARE.get(state.phase, 1.0)
    rounds = state.contract.rounds
    last = rounds == 0 and not ballots.is_text(state) and state.contract.mode is not Mode.JUDGE
    if state.phase is Phase.PROPOSE and last:
        share = _LAST_CALL
    if state.phase in (Phase.CRITIQUE, Phase.REVISE):
        halves = 2 * state.round - (state.phase is Phase.CRITIQUE)
        share = 0.5 + (_DEBATE_ENDS - 0.5) * halves / (2 * max(1, rounds))
    return state.admitted_at + state.contract.timeout_s * share


def next_alarm(state: State) -> float:
    """The next time at which something changes although no event comes; never, while a person is asked."""
    if state.phase is Phase.INPUT_REQUIRED:
        return math.inf
    times = [state.deadline]
    crossing = next_crossing_s(state.sla, state.contract.timeout_s)
    if crossing is not None:
        times.append(state.admitted_at + crossing)
    if _cuttable(state):
        times.append(phase_deadline(state))
    patience_ends = _patience_ends(state)
    if patience_ends is not None:
        times.append(patience_ends)
    return min(times)


def _time(plan: _Plan) -> None:
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
        _close(plan, Terminal.DEADLINE_EXCEEDED, "the deadline was reached")


# --- what each event does ---------------------------------------------------------------------------------------------


def _taken(plan: _Plan, event: Taken) -> None:
    if plan.state.phase is Phase.ADMITTED:
        plan.add("scheduled", {})
    elif event.again:
        _repeat(plan)


def _repeat(plan: _Plan) -> None:
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
        if plan.state.ledger.affords(_sum([amount, *(a for _, a in again)])):
            again.append((key, amount))
        else:
            refused.append(key)
    if again:
        plan.add(
            "repeated",
            {"calls": [{**_where(key, plan.state.turns[key].attempt), **a.to_json()} for key, a in again]},
        )
    if refused:
        _cut(plan, refused, "abandoned", running=False)


def reservation_now(state: State, key: TurnKey) -> Amount:
    """What another call of the present attempt of a turn may cost."""
    turn = state.turns[key]
    repairing = evolve(turn, problem=turn.repairing) if turn.attempt else None
    return reservation(state, key, repairing)


def _panel(plan: _Plan, event: PanelChosen) -> None:
    contract = plan.state.contract
    if plan.state.phase is not Phase.SCHEDULED:
        return
    judged = contract.mode is not Mode.JUDGE or event.judge is not None
    if len(event.members) < contract.min_votes or not judged:
        _close(plan, Terminal.QUORUM_LOST, f"panel: {_missing(contract, event, judged)}")
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


def _answered(plan: _Plan, event: Answered) -> None:
    key = (event.phase, event.round, event.agent_id)
    turn = plan.state.turns.get(key)
    data = {
        **_where(key, event.attempt),
        "text": cut_text(shown_text(event.text.replace("\x00", "")), _kept_bytes(plan.state)),
        "seconds": max(0.0, round(event.seconds, 6)),
        **_bill(plan.state, key, event, turn),
    }
    if turn is None or not turn.open or not turn.running or turn.attempt != event.attempt:
        if turn is not None and (turn.running or (key, event.attempt) in plan.state.ledger.reserved):
            plan.add("late", data)
        return
    plan.add("answered", {**data, **_read(plan.state, key, event.text)})


def _kept_bytes(state: State) -> int:
    """Bytes of a reply, and of a rationale, that the journal keeps: what ``max_tokens`` can be, as an agent may ignore that."""
    return min(MAX_KEPT, TOKEN_BYTES * state.contract.max_tokens)


def _read(state: State, key: TurnKey, text: str) -> dict[str, Any]:
    try:
        answer = parse_reply(text.replace("\x00", ""), shape_of(state, key))
    except Malformed as problem:
        return {"problem": str(problem)}
    rationale = cut_text(answer.rationale, _kept_bytes(state))
    if rationale is not answer.rationale:
        answer = evolve(answer, rationale=rationale)
    return {"answer": _compared(state, key, answer).to_json()}


def _compared(state: State, key: TurnKey, answer: Answer) -> Answer:
    """The answer with agents' ids as the targets of its critiques, and with whether a revision changed it."""
    phase, round_, agent = key
    if phase is Phase.CRITIQUE:
        names = {peer.label: peer.agent for peer in ballots.peers(state, agent, round_)}
        return evolve(
            answer, critiques=tuple({**critique, "target": names[critique["target"]]} for critique in answer.critiques)
        )
    if phase is not Phase.REVISE or answer.choice is None:
        return answer
    before = ballots.answer_of(state, agent, round_ - 1)
    return evolve(answer, changed=before is None or _differs(state, str(before.choice), answer.choice))


def _differs(state: State, before: str, after: str) -> bool:
    kind = state.contract.answer_type
    if kind.kind.value == "number":
        return distance(before, after) > kind.tolerance
    return ballots.normal(before) != ballots.normal(after)


def _bill(state: State, key: TurnKey, event: Answered, turn: Turn | None) -> dict[str, Any]:
    """The bill by the usage that was reported, else by an estimate. Each copy of a repeated call is billed the same."""
    input_tokens, output_tokens, total = _believed(event)
    estimated = event.estimated
    known = key in state.turns
    if input_tokens + output_tokens == 0:
        prompt = prompt_estimate(state, key) if known else 0
        estimated = estimated or total == 0
        input_tokens = min(prompt, total) if total else prompt
        output_tokens = total - input_tokens if total else estimated_tokens(shown_text(event.text))
    copies = turn.copies if turn is not None else 1
    price = state.member(key[2]).price
    used = price.amount(input_tokens, output_tokens).times(copies)
    paid, overrun = state.ledger.bill((key, event.attempt), used)
    bill: dict[str, Any] = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "billed": paid.to_json(),
        "estimated": estimated or copies > 1,
    }
    if overrun:
        bill["overrun"] = overrun.to_json()
    return bill


def _believed(event: Answered) -> tuple[int, int, int]:
    """The reported tokens (input, output, total); all 0 if one of them is impossible. One such number would use up the
    whole budget, and a receipt could not carry sums with it exactly."""
    counts = (event.input_tokens, event.output_tokens, event.tokens)
    return counts if min(counts) >= 0 and max(counts) <= 2 * MAX_TOKENS else (0, 0, 0)


#: Faults that cost nothing, because the agent refused the connection or the request. Any other fault is billed at its
#: reservation: the agent may have done the work.
_FREE_FAULTS = frozenset({"http", "refusal", "cancelled_before"})


def _faulted(plan: _Plan, event: Faulted) -> None:
    key = (event.phase, event.round, event.agent_id)
    turn = plan.state.turns.get(key)
    if turn is None or turn.attempt != event.attempt or not turn.running:
        return
    reserved = plan.state.ledger.reserved.get((key, event.attempt), NOTHING)
    free = event.fault in _FREE_FAULTS and turn.copies == 1
    detail = shown_text(event.detail.replace("\x00", ""), MAX_DETAIL)
    data = {
        **_where(key, event.attempt),
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


def _tick(plan: _Plan, event: Tick) -> None:
    """Does nothing: ``step`` looks at the time before every event."""


def _cancelled(plan: _Plan, event: CancelAsked) -> None:
    _end(plan, Terminal.CANCELLED, "cancelled by request")


def _person(plan: _Plan, event: PersonAnswered) -> None:
    asked = plan.state.asked
    if plan.state.phase is not Phase.INPUT_REQUIRED or asked is None:
        return
    answer = asked["outcome"]["answer"]
    given = person.answer_record(plan.state.contract.answer_type, answer, event)
    plan.add("person_answered", given)
    terminal, reason, _ = person.settled(asked["terminal"], asked["reason"], answer, given)
    _end(plan, terminal, reason)


def _broken(plan: _Plan, event: Broken) -> None:
    _end(plan, Terminal.FAILED, event.detail[:MAX_DETAIL])


_HANDLERS: dict[type, Callable[[_Plan, Any], None]] = {
    Taken: _taken,
    PanelChosen: _panel,
    Answered: _answered,
    Faulted: _faulted,
    Tick: _tick,
    CancelAsked: _cancelled,
    PersonAnswered: _person,
    Broken: _broken,
}


# --- what follows -----------------------------------------------------------------------------------------------------


def _follows(plan: _Plan) -> bool:
    """Takes one step that the state itself asks for; False if it waits for answers or for time."""
    state = plan.state
    if state.phase in CALLING:
        return _calling(plan)
    if state.phase is Phase.AGGREGATE:
        _close(plan, *decision.terminal_of(state))
        return True
    if state.phase is Phase.EVALUATE:
        return _advance(plan)
    return False


def _calling(plan: _Plan) -> bool:
    state = plan.state
    broken = [key for key, turn in state.turns.items() if turn.open and turn.problem]
    if broken:
        _repair(plan, broken)
        return True
    if _begin(plan):
        return True
    still = state.open_turns()
    if still:
        return _give_up(plan, still)
    if state.phase is Phase.PROPOSE and _replace(plan):
        return True
    return _advance(plan)


def _begin(plan: _Plan) -> bool:
    """Announces the calls of a phase, or of a wave, that has just begun; False if nothing was journalled."""
    state = plan.state
    to_call = [key for key in _callees(state) if key not in state.turns]
    if not to_call:
        return False
    before = len(plan.records)
    _announce(plan, to_call)
    return len(plan.records) > before


def _callees(state: State) -> list[TurnKey]:
    """The turns that the present phase asks. A wave is asked as a whole before the next one is chosen."""
    phase, round_ = state.phase, state.round
    if phase is Phase.PROPOSE:
        return [] if _wave_is_out(state) else [(phase, 0, agent) for agent in decision.wave(state)]
    if phase is Phase.VOTE:
        return [(phase, round_, agent) for agent in state.agents]
    if phase is Phase.JUDGE:
        return [(phase, order, state.judge.agent_id) for order in (0, 1)] if state.judge else []
    return ballots.remembered(state, ("debaters", 2 * (round_ - 1), phase, round_), lambda: _debaters(state))


def _debaters(state: State) -> list[TurnKey]:
    """Who has an answer to revise, or is shown answers to criticise."""
    phase, round_ = state.phase, state.round
    named = ballots.answers(state, round_ - 1)
    if phase is Phase.CRITIQUE:
        return [(phase, round_, agent) for agent in named if ballots.peers(state, agent, round_)]
    return [(phase, round_, agent) for agent in named]


def _wave_is_out(state: State) -> bool:
    """Whether a wave was asked since PROPOSE was last entered."""
    return state.waves > state.waves_before


def _announce(plan: _Plan, keys: Sequence[TurnKey], attempt: int = 0) -> None:
    """Reserves and announces as many of these calls as the budget covers. An agent whose call is refused is asked later in
    PROPOSE, and abstains in any other phase. A repair that is refused ends its turn."""
    state = plan.state
    ledger = state.ledger
    calls, refused = [], []
    for key in keys:
        amount = reservation(state, key, state.turns[key] if attempt else None)
        if ledger.affords(amount) and key[2] not in state.overran:
            if not ledger.budget.unlimited:
                ledger = ledger.reserve({(key, attempt): amount})
            calls.append({"agent": key[2], "round": key[1], **amount.to_json()})
        else:
            refused.append(key)
    waits = state.phase is Phase.PROPOSE and not attempt
    if not calls and waits:
        return
    data: dict[str, Any] = {"phase": keys[0][0].value, "round": keys[0][1], "attempt": attempt, "calls": calls}
    if state.phase is Phase.PROPOSE and not attempt:
        data["wave"] = state.waves + 1
    if refused and not waits and not attempt:
        data["over_budget"] = [key[2] for key in refused]
    if calls or "over_budget" in data:
        plan.add("asked", data)
    if refused and attempt:
        _cut(plan, refused, "malformed", running=False)


def _repair(plan: _Plan, keys: list[TurnKey]) -> None:
    """Asks each agent again, ``MAX_REPAIRS`` times at most; then its turn ends as malformed."""
    hopeless = [key for key in keys if plan.state.turns[key].attempt >= MAX_REPAIRS]
    if hopeless:
        _cut(plan, hopeless, "malformed", running=False)
    for key in keys:
        if key not in hopeless:
            _announce(plan, [key], attempt=plan.state.turns[key].attempt + 1)


def _give_up(plan: _Plan, still: list[TurnKey]) -> bool:
    """Cuts stragglers: as cancelled if they cannot change the decision, as timed out if the phase's time is over."""
    state = plan.state
    patience_ends = _patience_ends(state)
    if patience_ends is not None and plan.now >= patience_ends:
        _cut(plan, still, "cancelled", running=False)
        return True
    if _cuttable(state) and plan.now >= phase_deadline(state):
        _cut(plan, still, "timeout", running=True)
        return True
    return False


def _cuttable(state: State) -> bool:
    """Whether the phase may cut its open turns when its time is over: not if only their answers can make a quorum."""
    if state.phase in (Phase.CRITIQUE, Phase.REVISE):
        return bool(state.open_turns())
    if state.phase is Phase.PROPOSE and state.open_turns():
        return len(ballots.answers(state, 0)) >= _quorum(state) or bool(state.pool and not state.replaced)
    if state.phase is Phase.VOTE and state.open_turns():
        cast = sum(1 for (p, r, _), turn in state.turns.items() if (p, r) == (Phase.VOTE, state.round) and turn.answer)
        return cast >= _quorum(state)
    return False


def _quorum(state: State) -> int:
    return ballots.electorate(state).quorum()


def _patience_ends(state: State) -> float | None:
    """Until when the open turns of the first round are waited for, if they cannot change the decision; else None."""
    if state.phase is not Phase.PROPOSE or not state.open_turns() or state.heard_at < state.wave_at:
        return None
    if not decision.can_be_lossless(state):
        return None
    at = decision.provisional(state, 0)
    settled = at.result.reached and decision.lossless(state, at) and not decision.contested(state, at)
    if not settled or at.result.cast < min(state.contract.min_votes, len(state.panel)):
        return None
    return state.heard_at + max(PATIENCE_S, state.heard_at - state.wave_at)


def _replace(plan: _Plan) -> bool:
    """Replaces members that gave no answer by agents of the pool: below quorum, and once in a deliberation."""
    state = plan.state
    silent = [agent for agent in state.agents if ballots.answer_of(state, agent, 0) is None]
    silent = [agent for agent in silent if state.turn(Phase.PROPOSE, 0, agent) is not None]
    short = len(state.agents) - len(silent) < _quorum(state)
    if not short or not state.pool or state.replaced or decision.unasked(state):
        return False
    new = state.pool[: len(silent)]
    plan.add(
        "replaced",
        {
            "gone": silent[: len(new)],
            "why": [decision.last_fault(state, agent) for agent in silent[: len(new)]],
            "members": [member.to_json() for member in new],
        },
    )
    before = len(plan.records)
    _announce(plan, [(Phase.PROPOSE, 0, member.agent_id) for member in new])
    return len(plan.records) > before


# --- transitions ------------------------------------------------------------------------------------------------------


def _advance(plan: _Plan) -> bool:
    """Enters the next phase by the first rule of the table that holds."""
    state = plan.state
    rule = next(rule for rule in TRANSITIONS[state.phase] if rule.guard == "" or _GUARDS[rule.guard](state))
    data: dict[str, Any] = {"phase": rule.to.value, "round": state.round}
    if rule.to is Phase.CRITIQUE:
        data["round"] = state.round + 1
    if rule.to is Phase.EVALUATE:
        data.update(_evaluation(plan))
    plan.add("phase", data)
    return True


def _evaluation(plan: _Plan) -> dict[str, Any]:
    """The provisional result, and the stop reason if there is one."""
    state = plan.state
    stop, at = decision.stop_reason_of(state, lambda: _affords_round(state), plan.now)
    if stop == "" and decision.wave(state) and not _affords_any(state):
        stop = "budget"
    return {
        "leader": at.result.leader,
        "reached": at.result.reached,
        "confidence": at.result.confidence,
        "share": at.result.uncalibrated_share,
        "cast": at.result.cast,
        "why": at.result.reason,
        "stop": stop,
    }


def _affords_round(state: State) -> bool:
    """Whether the budget covers critiques and revisions of everybody who has an answer, if they were asked now."""
    if state.ledger.budget.unlimited:
        return True
    ahead = replace(state, phase=Phase.CRITIQUE, round=state.round + 1)
    critics = [reservation(ahead, key) for key in _callees(ahead)]
    authors = [reservation(ahead, key) for key in _callees(replace(ahead, phase=Phase.REVISE))]
    return state.ledger.affords(_sum([*critics, *authors]))


def _affords_any(state: State) -> bool:
    return any(state.ledger.affords(reservation(state, (Phase.PROPOSE, 0, agent))) for agent in decision.wave(state))


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = NOTHING
    for amount in amounts:
        total += amount
    return total


_GUARDS: Mapping[str, Callable[[State], bool]] = {
    "texts_to_choose_from": lambda state: (
        ballots.is_text(state)
        and state.contract.mode is not Mode.JUDGE
        and len(ballots.candidates(state, state.round)) > 1
    ),
    "judge_is_due": lambda state: (
        bool(state.stop)
        and state.contract.mode is Mode.JUDGE
        and state.stop not in ("quorum", "budget")
        and bool(ballots.answers(state, 0))
    ),
    "stopped": lambda state: bool(state.stop),
    "wave_is_left": lambda state: bool(decision.wave(state)),
}


def _where(key: TurnKey, attempt: int) -> dict[str, Any]:
    return {"agent": key[2], "phase": key[0].value, "round": key[1], "attempt": attempt}


def _cut(plan: _Plan, keys: Sequence[TurnKey], fault: str, *, running: bool) -> None:
    """Ends turns without an answer. A turn whose call is not left running is billed at its reservation."""
    state = plan.state
    turns = []
    for key in keys:
        attempt = state.turns[key].attempt
        reserved = state.ledger.reserved.get((key, attempt))
        bill = {} if running or reserved is None else {"billed": reserved.to_json()}
        turns.append({**_where(key, attempt), **bill})
    plan.add("cut", {"fault": fault, "running": running, "turns": turns})


def _close(plan: _Plan, terminal: Terminal, reason: str) -> None:
    """The agents' part has ended: the deliberation ends so, unless the contract puts this end to a person."""
    data = _ending(plan.state, terminal, reason)
    contract, outcome = plan.state.contract, data["outcome"]
    if not person.is_due(contract.ask_person, terminal, outcome["confidence"]):
        plan.add("ended", data)
        return
    text = person.question_text(contract, terminal, outcome)
    plan.add("person_asked", {**data, "task_id": person.question_task_id(plan.state.request_id), "text": text})


def _end(plan: _Plan, terminal: Terminal, reason: str) -> None:
    plan.add("ended", _ending(plan.state, terminal, reason))


def _ending(state: State, terminal: Terminal, reason: str) -> dict[str, Any]:
    """The ``ended`` event. Once a person is asked, what the agents found is as it was then."""
    if state.asked is not None:
        return person.ending(state, terminal, reason)
    data: dict[str, Any] = {
        "terminal": terminal.value,
        "reason": reason,
        "outcome": decision.outcome(state, terminal, reason),
        "aggregation": None,
    }
    if state.panel:
        asked, round_ = decision.deciding(state)
        data.update(aggregation=asked.document(), aggregation_round=round_)
    return data
