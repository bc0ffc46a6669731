"""What a deliberation's state itself asks for, once an event is taken in: calls, their repair and their end, the next phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation import ballots, decision, outcome
from cluster.domain.deliberation.calls import reservation
from cluster.domain.deliberation.plan import Plan, close, cut, sum_of
from cluster.domain.deliberation.state import CALLING, TRANSITIONS, Phase, State, TurnKey
from cluster.domain.deliberation.timing import cuttable, patience_over_at, phase_deadline, quorum

MAX_REPAIRS = 1


def follows(plan: Plan) -> bool:
    """Takes one step that the state itself asks for; False if it waits for answers or for time."""
    state = plan.state
    if state.phase in CALLING:
        return _calling(plan)
    if state.phase is Phase.AGGREGATE:
        close(plan, *outcome.terminal_of(state))
        return True
    if state.phase is Phase.EVALUATE:
        return _advance(plan)
    return False


def _calling(plan: Plan) -> bool:
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


def _begin(plan: Plan) -> bool:
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
    return state.derived.value(2 * (round_ - 1), ("debaters", phase, round_), lambda: _debaters(state))


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


def _announce(plan: Plan, keys: Sequence[TurnKey], attempt: int = 0) -> None:
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
        cut(plan, refused, "malformed", running=False)


def _repair(plan: Plan, keys: list[TurnKey]) -> None:
    """Asks each agent again, ``MAX_REPAIRS`` times at most; then its turn ends as malformed."""
    hopeless = [key for key in keys if plan.state.turns[key].attempt >= MAX_REPAIRS]
    if hopeless:
        cut(plan, hopeless, "malformed", running=False)
    for key in keys:
        if key not in hopeless:
            _announce(plan, [key], attempt=plan.state.turns[key].attempt + 1)


def _give_up(plan: Plan, still: list[TurnKey]) -> bool:
    """Cuts stragglers: as cancelled if they cannot change the decision, as timed out if the phase's time is over."""
    state = plan.state
    patience_ends = patience_over_at(state)
    if patience_ends is not None and plan.now >= patience_ends:
        cut(plan, still, "cancelled", running=False)
        return True
    if cuttable(state) and plan.now >= phase_deadline(state):
        cut(plan, still, "timeout", running=True)
        return True
    return False


def _replace(plan: Plan) -> bool:
    """Replaces members that gave no answer by agents of the pool: below quorum, and once in a deliberation."""
    state = plan.state
    silent = [agent for agent in state.agents if ballots.answer_of(state, agent, 0) is None]
    silent = [agent for agent in silent if state.turn(Phase.PROPOSE, 0, agent) is not None]
    short = len(state.agents) - len(silent) < quorum(state)
    if not short or not state.pool or state.replaced or decision.unasked(state):
        return False
    new = state.pool[: len(silent)]
    plan.add(
        "replaced",
        {
            "gone": silent[: len(new)],
            "why": [outcome.last_fault(state, agent) for agent in silent[: len(new)]],
            "members": [member.to_json() for member in new],
        },
    )
    before = len(plan.records)
    _announce(plan, [(Phase.PROPOSE, 0, member.agent_id) for member in new])
    return len(plan.records) > before


def _advance(plan: Plan) -> bool:
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


def _evaluation(plan: Plan) -> dict[str, Any]:
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
    return state.ledger.affords(sum_of([*critics, *authors]))


def _affords_any(state: State) -> bool:
    return any(state.ledger.affords(reservation(state, (Phase.PROPOSE, 0, agent))) for agent in decision.wave(state))


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
