"""How long the phases of a deliberation wait, and when something changes although no event comes."""

from __future__ import annotations

import math

from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation import ballots, decision
from cluster.domain.deliberation.sla import next_crossing_s
from cluster.domain.deliberation.state import Phase, State

#: A straggler that cannot change the decision is waited for, after the last answer, for as long again as that answer took,
#: and at least this long.
PATIENCE_S = 0.25
#: The share of the timeout after which a phase no longer waits: SCHEDULED for a complete panel, the others for answers.
#: Debate rounds divide the time between the end of PROPOSE and ``_DEBATE_ENDS`` evenly.
PHASE_SHARE = {Phase.SCHEDULED: 0.25, Phase.PROPOSE: 0.50, Phase.VOTE: 0.90, Phase.JUDGE: 0.97}
_DEBATE_ENDS = 0.80
#: Of PROPOSE, if no phase that asks can follow it.
_LAST_CALL = 0.97


def phase_deadline(state: State) -> float:
    """When the present phase stops waiting for its open turns, if it may (``cuttable``)."""
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
    if cuttable(state):
        times.append(phase_deadline(state))
    patience_ends = patience_over_at(state)
    if patience_ends is not None:
        times.append(patience_ends)
    return min(times)


def cuttable(state: State) -> bool:
    """Whether the phase may cut its open turns when its time is over: not if only their answers can make a quorum."""
    if state.phase in (Phase.CRITIQUE, Phase.REVISE):
        return bool(state.open_turns())
    if state.phase is Phase.PROPOSE and state.open_turns():
        return len(ballots.answers(state, 0)) >= quorum(state) or bool(state.pool and not state.replaced)
    if state.phase is Phase.VOTE and state.open_turns():
        cast = sum(1 for (p, r, _), turn in state.turns.items() if (p, r) == (Phase.VOTE, state.round) and turn.answer)
        return cast >= quorum(state)
    return False


def quorum(state: State) -> int:
    return ballots.electorate(state).quorum()


def patience_over_at(state: State) -> float | None:
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
