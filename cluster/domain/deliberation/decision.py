"""When to stop asking, whom to ask next, and whether a debate may overturn round 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.domain.consensus.aggregate import Aggregation, aggregate, counting_weights
from cluster.domain.consensus.effort import Asker, Effort, asking_order, relative_costs
from cluster.domain.consensus.result import Result
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.waves import decided_regardless, next_wave, tally_of
from cluster.domain.deliberation import ballots
from cluster.domain.deliberation.answers import AnswerKind
from cluster.domain.deliberation.derived import BEFORE_ANSWERS
from cluster.domain.deliberation.state import Phase, State, Turn, TurnKey

#: Time before the deadline that is kept free for the aggregation and for writing the end.
RESERVE_S = 0.5

#: Every stop reason, in the order in which they are tried. Docs print this table.
STOP_REASONS: Mapping[str, str] = {
    "quorum": "too few votes, and nobody is left to ask",
    "lossless": "the answers still outstanding cannot change the decision",
    "agree_k": "the first k answers agree",
    "gain": "no further answer is worth its call to `config.effort`",
    "posterior": "the calibrated confidence has reached `tau`",
    "unanimous": "everybody answers alike",
    "decided": "the rule has decided, and the contract asks for no debate on it",
    "stable": "nobody changed an answer in the last round",
    "cycle": "the answers are as they were after an earlier round",
    "rounds": "no debate round is left",
    "budget": "the budget left does not cover the next calls",
    "time": "the time left does not cover the next round",
}
#: Modes in which first choices alone decide.
_TOPS = frozenset({Mode.PLURALITY, Mode.AGREE_K, Mode.WEIGHTED, Mode.LEARNED, Mode.MAJORITY, Mode.SUPERMAJORITY})


@dataclass(frozen=True, slots=True)
class ProvisionalResult:
    """The decision as it stands after a round."""

    round: int
    asked: Aggregation
    result: Result

    @property
    def score(self) -> float:
        """The calibrated confidence, else the leader's share; in a tie, the share of one of the tied options."""
        if self.result.confidence is not None:
            return self.result.confidence
        return self.result.uncalibrated_share if self.result.leader is not None else self.result.support


class _Held(NamedTuple):
    """A provisional result, and the turns and the kind of stop that it was computed for."""

    turns: Mapping[TurnKey, Turn]
    settled: bool
    result: ProvisionalResult


def provisional(state: State, round_: int) -> ProvisionalResult:
    """The provisional result of a round, computed once for the same input: stop reasons, outcome and receipt all need it.

    Turns are compared first, as that is one look. Most new turns, and most stops, leave the input of an earlier round as
    it was; so the input is compared next, before it is aggregated again.
    """
    settled = state.stop == "" or state.stop in ballots.SETTLED

    def renew(held: _Held | None) -> _Held:
        if held is not None and held.turns is state.turns and held.settled == settled:
            return held
        asked = ballots.aggregation(state, round_)
        if held is not None and held.result.asked == asked:
            return _Held(state.turns, settled, held.result)
        return _Held(state.turns, settled, ProvisionalResult(round_, asked, aggregate(asked, state.snapshot)))

    return state.derived.renewed(2 * round_, "provisional", renew).result


def last_round(state: State) -> int:
    """The last complete round: a debate round that was cut short does not count."""
    unfinished = state.phase in (Phase.CRITIQUE, Phase.REVISE, Phase.VOTE)
    return max(0, state.round - 1) if unfinished else state.round


def final(state: State) -> tuple[ProvisionalResult, ProvisionalResult]:
    """(result of round 0, result that counts). A debate that does not raise the confidence changes nothing."""
    first = provisional(state, 0)
    if last_round(state) == 0:
        return first, first
    last = provisional(state, last_round(state))
    return first, last if _earned(state, first, last) else first


def _earned(state: State, first: ProvisionalResult, last: ProvisionalResult) -> bool:
    """Whether the last round may replace round 0. Without calibration a higher share is not enough, because changes of mind
    are partly noise: the new answer must also be well ahead in the votes of both rounds together."""
    if state.contract.mode is Mode.JUDGE:
        return True
    if not last.result.reached:
        return not first.result.reached and last.result.leader is not None and last.score > first.score
    before = ballots.text_of(state, first.result.leader, 0)
    after = ballots.text_of(state, last.result.leader, last.round)
    if before is not None and ballots.normal(before) == ballots.normal(str(after)):
        return True
    if last.score <= first.score:
        return False
    calibrated = first.result.confidence is not None and last.result.confidence is not None
    return calibrated or before is None or _ahead(state, (first, last), str(before), str(after))


def _ahead(state: State, rounds: Sequence[ProvisionalResult], before: str, after: str) -> bool:
    """Whether ``after`` has more of the votes of these rounds than ``before``, by half a panel at least."""
    votes = [
        (ballots.normal(text), ballot.strength)
        for at in rounds
        for ballot in at.asked.ballots.values()
        if (text := ballots.text_of(state, ballot.top(), at.round)) is not None
    ]
    lead = sum(weight * ((text == ballots.normal(after)) - (text == ballots.normal(before))) for text, weight in votes)
    return 2 * lead >= len(state.panel)


# --- stops ------------------------------------------------------------------------------------------------------------


def stop_reason_of(state: State, afford: Callable[[], bool], now: float) -> tuple[str, ProvisionalResult]:
    """(the first stop reason that applies, the provisional result); "" if asking goes on. ``afford``: whether the budget
    covers the next round."""
    at = provisional(state, state.round)
    always = state.contract.debate_on == "always"
    if at.result.cast < at.result.quorum and not unasked(state):
        return "quorum", at
    if not always and (stop := _settled(state, at)):
        return stop, at
    if wave(state):
        return "", at
    if not always and (stop := _idle(state, at)):
        return stop, at
    if state.round >= state.contract.rounds:
        return "rounds", at
    if not afford():
        return "budget", at
    return ("time" if _too_late(state, now) else ""), at


def _settled(state: State, at: ProvisionalResult) -> str:
    """Stop reasons that depend on the answers alone."""
    result = at.result
    if not result.reached or result.cast < min(state.contract.min_votes, len(state.panel)):
        return ""
    if lossless(state, at) and not contested(state, at):
        return "lossless"
    effort, by_gain = state.contract.effort, _asker(state) is not None
    if result.applied is Mode.AGREE_K and not by_gain and effort is not Effort.ALL:
        return "agree_k"
    if result.confidence is not None and result.confidence >= state.contract.tau and effort is not Effort.ALL:
        return "posterior"
    if not result.dissent and not unasked(state):
        return "unanimous"
    if wave(state) or contested(state, at):
        return ""
    return "gain" if by_gain and unasked(state) else "decided"


def _idle(state: State, at: ProvisionalResult) -> str:
    """Stop reasons of a debate that changes nothing more, and of one that nobody asked for."""
    if state.contract.mode in (Mode.NONE, Mode.JUDGE) and state.contract.debate_on == "auto":
        return "decided"
    if len(set(ballots.options(state, state.round).values())) < 2 and not ballots.voted(state, state.round):
        return "unanimous"
    if state.round == 0:
        return ""
    if not ballots.changed_in(state, state.round):
        return "stable"
    now = ballots.options(state, state.round)
    return "cycle" if any(ballots.options(state, step) == now for step in range(state.round)) else ""


def contested(state: State, at: ProvisionalResult) -> bool:
    """Whether the contract asks for a debate on this result."""
    wish = state.contract.debate_on
    if state.contract.rounds == 0:
        return False
    if wish == "always" or not at.result.reached:
        return True
    undisputed = not at.result.dissent or state.contract.mode in (Mode.JUDGE, Mode.NONE)
    return wish != "undecided" and not undisputed and (wish == "disagreement" or state.snapshot is None)


def lossless(state: State, at: ProvisionalResult) -> bool:
    """Whether the outstanding answers cannot change the decision, even if all are for one option."""
    contract = state.contract
    if not can_be_lossless(state) or at.result.leader is None:
        return False
    weights = counting_weights(at.asked, state.snapshot)
    waiting = [agent for agent in state.agents if _outstanding(state, agent)]
    whole = float(len(state.agents))
    needed = {Mode.MAJORITY: whole / 2 + 1e-6, Mode.SUPERMAJORITY: whole * contract.q}.get(contract.mode, 0.0)
    votes = {agent: option for agent, option in ballots.options(state, 0).items() if agent not in waiting}
    return decided_regardless(tally_of(votes, weights), sum(weights[agent] for agent in waiting), needed)


def can_be_lossless(state: State) -> bool:
    """Whether first choices alone decide, and further answers cannot change what earlier ones count for. Numbers within a
    tolerance can: a new one may group them differently."""
    contract = state.contract
    fuzzy = contract.answer_type.kind is AnswerKind.NUMBER and contract.answer_type.tolerance > 0
    return contract.mode in _TOPS and not ballots.is_text(state) and not fuzzy and contract.debate_on != "always"


def _outstanding(state: State, agent: str) -> bool:
    turn = state.turn(Phase.PROPOSE, 0, agent)
    return turn is None or turn.open


def _too_late(state: State, now: float) -> bool:
    """Whether the next round would not fit into the time left, if each of its steps took as long as the slowest twentieth
    of the calls so far."""
    ordered = sorted(state.seconds)
    slow = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0.0
    steps = 3 if ballots.is_text(state) else 2
    return slow * steps > state.deadline - RESERVE_S - now


def unasked(state: State) -> tuple[str, ...]:
    return tuple(agent for agent in state.agents if state.turn(Phase.PROPOSE, 0, agent) is None)


def wave(state: State) -> tuple[str, ...]:
    """The agents to ask for a first answer now: all at once, unless k that agree may be enough."""
    left = unasked(state)
    contract = state.contract
    if not left or state.round > 0:
        return ()
    if not ballots.asks_some(state):
        return left
    at_least = min(contract.min_votes, len(state.panel))
    enough = max(contract.k, at_least)
    named = ballots.options(state, 0)
    answers = {agent: named.get(agent) for agent in state.agents if agent not in left}
    asker = _asker(state)
    if asker is not None:
        return asker.next(answers, state.waves, enough, at_least)
    if not answers:
        return left[: max(2, enough)]
    found = next_wave(
        order=state.agents,
        answers=answers,
        weights=counting_weights(ballots.aggregation(state, 0), state.snapshot),
        waves=state.waves,
        agree_k=0 if contract.effort is Effort.ALL else enough,
    )
    # Fewer answers than the contract requires are never enough, whatever they are.
    return found or (left if len(named) < min(contract.min_votes, len(state.panel)) else ())


def _asker(state: State) -> Asker | None:
    """Who chooses by expected gain; None if the contract does not ask for that, or nothing was learned to do it by."""
    if not state.contract.asks_by_gain or not ballots.asks_some(state):
        return None
    return state.derived.value(BEFORE_ANSWERS, "asker", lambda: _new_asker(state))


def _new_asker(state: State) -> Asker | None:
    snapshot, contract = state.snapshot, state.contract
    if snapshot is None or snapshot.precedents is None or contract.effort is None:
        return None
    weights = counting_weights(ballots.aggregation(state, 0), snapshot)
    prices = {member.agent_id: sum(member.price.to_json().values()) for member in state.panel}
    return Asker(
        snapshot.precedents,
        asking_order(weights, state.agents),
        weights,
        contract.kind if snapshot.knows(contract.kind) else None,
        contract.effort,
        relative_costs(prices),
    )
