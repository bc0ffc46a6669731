"""Every rule: who wins, what shares are shares of, how a tie ends, and when nothing is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.aggregate import Aggregation, aggregate
from cluster.domain.consensus.ballots import (
    Ballot,
    BallotKind,
    Denominator,
    Electorate,
    abstain,
    approval,
    choice,
    ranking,
    scored,
)
from cluster.domain.consensus.calibration import IsotonicMap
from cluster.domain.consensus.result import Judgement, Result
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak, parse_mode
from cluster.domain.consensus.snapshot import Gate, WeightSnapshot, snapshot_from_document

OPTIONS = ("a", "b", "c")


def snapshot(choice_: Mode = Mode.LEARNED, **weights: float) -> WeightSnapshot:
    return WeightSnapshot(
        learned=weights,
        log_odds={agent: weight / 2 for agent, weight in weights.items()},
        accuracy=dict.fromkeys(weights, 0.5),
        gate=Gate(choice=choice_, plurality=0.5, weighted=0.5, learned=0.6, gain=0.1, gain_se=0.01),
        owner_cap=None,
        ridge=1.0,
        outcomes=100,
        outcomes_digest="0" * 64,
        calibration={
            name: IsotonicMap(knots=(0.0, 1.0), values=(0.0, 0.5), outcomes=100)
            for name in ("share", "weighted", "learned", "agree_k")
        },
    )


def asked(mode: Mode, ballots: dict[str, Ballot], *, panel: int | None = None, **rule: Any) -> Aggregation:
    named = {f"x{i}" for i in range(panel)} if panel is not None else set()
    return Aggregation(
        rule=ConsensusRule(mode=mode, **rule),
        electorate=Electorate(eligible=tuple(sorted(named | set(ballots))), options=OPTIONS),
        ballots=ballots,
    )


def votes(letters: str) -> dict[str, Ballot]:
    """``aab-``: x0 and x1 choose a, x2 chooses b, x3 abstains."""
    return {f"x{i}": abstain() if letter == "-" else choice(letter) for i, letter in enumerate(letters)}


def decided(mode: Mode, letters: str, **rule: Any) -> Result:
    return aggregate(asked(mode, votes(letters), **rule))


@pytest.mark.parametrize(
    ("mode", "letters", "denominator", "decision", "reason"),
    [
        (Mode.PLURALITY, "aabc", Denominator.ELIGIBLE, "a", ""),
        (Mode.PLURALITY, "a---", Denominator.ELIGIBLE, "a", ""),
        (Mode.PLURALITY, "aabb", Denominator.ELIGIBLE, None, "tie"),
        (Mode.PLURALITY, "----", Denominator.ELIGIBLE, None, "no_votes"),
        (Mode.MAJORITY, "aaab", Denominator.ELIGIBLE, "a", ""),
        (Mode.MAJORITY, "aabc", Denominator.ELIGIBLE, None, "threshold"),  # exactly half is no majority
        (Mode.MAJORITY, "aab--", Denominator.ELIGIBLE, None, "threshold"),  # 2 of 5
        (Mode.MAJORITY, "aab--", Denominator.CAST, "a", ""),  # 2 of 3
        (Mode.SUPERMAJORITY, "aab", Denominator.ELIGIBLE, "a", ""),  # 2/3 is reached at exactly 2 of 3
        (Mode.SUPERMAJORITY, "aaabb", Denominator.ELIGIBLE, None, "threshold"),
        (Mode.SUPERMAJORITY, "aa--", Denominator.ELIGIBLE, None, "threshold"),
        (Mode.SUPERMAJORITY, "aa--", Denominator.CAST, "a", ""),
        (Mode.UNANIMOUS, "aaaa", Denominator.ELIGIBLE, "a", ""),
        (Mode.UNANIMOUS, "aaa-", Denominator.ELIGIBLE, None, "threshold"),
        (Mode.UNANIMOUS, "aaa-", Denominator.CAST, "a", ""),
        (Mode.UNANIMOUS, "aaab", Denominator.CAST, None, "threshold"),
        (Mode.NONE, "aaaa", Denominator.ELIGIBLE, None, "mode_none"),
    ],
)
def test_counting_rules_use_their_denominators(
    mode: Mode, letters: str, denominator: Denominator, decision: str | None, reason: str
) -> None:
    result = decided(mode, letters, denominator=denominator)
    assert (result.decision, result.reason, result.reached) == (decision, reason, decision is not None)
    whole = len(letters) if denominator is Denominator.ELIGIBLE else len(letters.replace("-", ""))
    assert (result.denominator, result.denominator_value) == (denominator, whole)
    assert (result.eligible, result.cast) == (len(letters), len(letters.replace("-", "")))


def test_support_margin_dissent_and_abstentions_are_stated() -> None:
    result = decided(Mode.PLURALITY, "aaab-")
    assert (result.support, result.margin, result.uncalibrated_share) == (0.6, pytest.approx(0.4), 0.6)
    assert [(dissent.agent, dissent.options) for dissent in result.dissent] == [("x3", ("b",))]
    assert result.abstained == ("x4",)
    assert result.confidence is None, "nothing was recorded to calibrate with"


def test_nothing_is_decided_below_the_quorum() -> None:
    base = asked(Mode.PLURALITY, votes("aa---"))
    short = replace(base, electorate=replace(base.electorate, min_votes=2, quorum_ratio=0.5))
    result = aggregate(short)
    assert (result.reason, result.quorum, result.decision, result.leader) == ("quorum", 3, None, "a")
    # Who was not asked because the rest could not have changed it does not count against the quorum.
    early = replace(base, electorate=replace(short.electorate, asked=("x0", "x1")))
    assert aggregate(early).decision == "a"


def test_a_ballot_changed_without_a_reason_counts_half() -> None:
    ballots = votes("abb") | {"x1": choice("b", strength=0.5), "x2": choice("b", strength=0.4)}
    assert aggregate(asked(Mode.PLURALITY, ballots)).decision == "a"


def test_contract_weights_scale_votes_and_the_whole() -> None:
    base = asked(Mode.MAJORITY, votes("abb"))
    heavy = replace(base, electorate=replace(base.electorate, weights={"x0": 3.0}))
    result = aggregate(heavy)
    assert (result.decision, result.denominator_value, result.support) == ("a", 5.0, 0.6)


def test_approval_counts_every_approved_option() -> None:
    ballots = {"x0": approval("a", "b"), "x1": approval("b"), "x2": scored({"b": 1.0, "c": -1.0}), "x3": choice("a")}
    result = aggregate(asked(Mode.APPROVAL, ballots))
    assert (result.decision, dict(result.tally)) == ("b", {"a": 2.0, "b": 3.0})
    assert [dissent.agent for dissent in result.dissent] == ["x3"]


def test_ranked_rules_answer_with_their_pairwise_matrix() -> None:
    # b is nobody's worst: Borda and Schulze both choose it, plurality does not.
    ballots = {
        **{f"l{i}": ranking("a", "b", "c") for i in range(4)},
        **{f"r{i}": ranking("c", "b", "a") for i in range(3)},
        **{f"m{i}": ranking("b", "c", "a") for i in range(2)},
    }
    assert aggregate(asked(Mode.PLURALITY, ballots)).decision == "a"
    for mode in (Mode.BORDA, Mode.SCHULZE):
        result = aggregate(asked(mode, ballots))
        assert result.decision == "b"
        assert result.pairwise is not None
        assert (result.pairwise["b"]["a"], result.pairwise["a"]["b"]) == (5.0, 4.0)
        assert result.confidence is None


def test_weighted_and_learned_follow_their_weights() -> None:
    weights = snapshot(x0=3.0, x1=1.0, x2=1.0)
    for mode in (Mode.LEARNED, Mode.WEIGHTED):
        result = aggregate(asked(mode, votes("abb")), weights)
        assert (result.decision, result.applied, result.snapshot_id) == ("a", mode, weights.id)
        assert result.confidence is not None
        assert 0 < result.confidence <= 0.5, "read off the calibration map"
    assert decided(Mode.LEARNED, "abb").applied is Mode.PLURALITY, "without a snapshot all agents are equal"


@pytest.mark.parametrize("gate", [Mode.LEARNED, Mode.WEIGHTED, Mode.PLURALITY])
def test_learned_applies_what_the_gate_lets_through(gate: Mode) -> None:
    result = aggregate(asked(Mode.LEARNED, votes("abb")), snapshot(gate, x0=3.0, x1=1.0, x2=1.0))
    assert (result.applied, result.decision) == (gate, "b" if gate is Mode.PLURALITY else "a")


def test_an_unknown_agent_weighs_as_much_as_the_mean() -> None:
    result = aggregate(asked(Mode.LEARNED, votes("abb")), snapshot(x0=3.0, x1=1.0))
    assert dict(result.tally) == {"a": 3.0, "b": 3.0}


def test_agree_k_decides_when_k_agree_and_escalates_else() -> None:
    weights = snapshot(x0=3.0, x1=1.0, x2=1.0)
    first = asked(Mode.AGREE_K, votes("aa"), panel=3)
    assert aggregate(first, weights).applied is Mode.AGREE_K
    assert aggregate(first, weights).decision == "a"
    escalated = aggregate(asked(Mode.AGREE_K, votes("abb")), weights)
    assert (escalated.applied, escalated.decision) == (Mode.LEARNED, "a")
    # One answer is no agreement of two; it is weighed, and by plurality it still leads.
    assert aggregate(asked(Mode.AGREE_K, votes("a--"), escalate_to=Mode.MAJORITY)).decision is None


def test_a_judge_decides_only_if_the_order_did_not_sway_it() -> None:
    base = asked(Mode.JUDGE, votes("aab"))
    assert aggregate(base).reason == "no_judgement"
    same = replace(base, judgement=Judgement(judge="j", verdicts=("b", "b")))
    assert aggregate(same).decision == "b"
    assert aggregate(replace(base, judgement=Judgement(judge="j", verdicts=("a", "b")))).reason == "judge_inconsistent"
    invented = replace(base, judgement=Judgement(judge="j", verdicts=("z",)))
    assert aggregate(invented).reason == "judged_no_candidate"
    with pytest.raises(InvalidRequest, match="member of the panel"):
        aggregate(replace(base, judgement=Judgement(judge="x0", verdicts=("a",))))


def test_a_tie_goes_to_weights_then_rationales_then_the_chosen_rule() -> None:
    tied = asked(Mode.PLURALITY, votes("ab"))
    assert aggregate(tied).tied == ("a", "b")
    assert aggregate(tied).tie_path == ("no_consensus",)
    by_weight = aggregate(tied, snapshot(x0=1.0, x1=2.0))
    assert (by_weight.decision, by_weight.tie_path) == ("b", ("learned_score",))
    by_odds = aggregate(tied, snapshot(Mode.WEIGHTED, x0=1.0, x1=2.0))
    assert by_odds.tie_path == ("weighted_score",)
    equal = snapshot(x0=1.0, x1=1.0)
    by_rationale = aggregate(replace(tied, accepted={"b": 1}), equal)
    assert (by_rationale.decision, by_rationale.tie_path) == ("b", ("learned_score", "accepted_rationales"))
    alpha = aggregate(replace(tied, rule=replace(tied.rule, tie_break=TieBreak.ALPHA)))
    assert (alpha.decision, alpha.tie_path) == ("a", ("alpha",))


def test_a_seeded_draw_repeats_and_depends_on_the_seed() -> None:
    def drawn(seed: str) -> str | None:
        return decided(Mode.PLURALITY, "abc", tie_break=TieBreak.SEEDED, seed=seed).decision

    results = [drawn(str(seed)) for seed in range(60)]
    assert results == [drawn(str(seed)) for seed in range(60)]
    assert set(results) == {"a", "b", "c"}


def test_agents_outside_the_electorate_cannot_vote() -> None:
    with pytest.raises(InvalidRequest, match="not on the panel"):
        aggregate(
            Aggregation(
                rule=ConsensusRule(mode=Mode.PLURALITY),
                electorate=Electorate(eligible=("x0",)),
                ballots={"x1": choice("a")},
            )
        )


@pytest.mark.parametrize(
    "ballot",
    [
        {"kind": BallotKind.CHOICE},
        {"kind": BallotKind.CHOICE, "options": ("a", "b")},
        {"kind": BallotKind.RANKING, "options": ()},
        {"kind": BallotKind.RANKING, "options": ("a", "a")},
        {"kind": BallotKind.SCORES, "scores": {}},
        {"kind": BallotKind.SCORES, "scores": {"a": float("nan")}},
        {"kind": BallotKind.CHOICE, "options": ("a",), "strength": 0.0},
    ],
)
def test_invalid_ballots_are_refused(ballot: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="ballot is not valid"):
        Ballot(**ballot)


def test_mode_names_of_the_released_server_are_known_and_others_refused() -> None:
    assert (parse_mode("hybrid"), parse_mode("any")) == (Mode.JUDGE, Mode.PLURALITY)
    for name in ("byzantine", "quantum", ""):
        with pytest.raises(InvalidRequest, match="plurality, majority, supermajority"):
            parse_mode(name)


def test_a_snapshot_is_its_content() -> None:
    original = snapshot(x0=1.0, x1=0.5)
    again = snapshot_from_document(original.document())
    assert (again, again.id) == (original, original.id)
    assert snapshot(x0=1.0, x1=0.6).id != original.id
    with pytest.raises(InvalidRequest, match="not a weight snapshot"):
        snapshot_from_document({"learned": "no"})


_LETTERS = st.lists(st.sampled_from("abc-"), min_size=1, max_size=7).map("".join)
_MODES = st.sampled_from([mode for mode in Mode if mode is not Mode.JUDGE])


@given(_MODES, _LETTERS, st.randoms(use_true_random=False))
def test_the_order_of_ballots_never_matters(mode: Mode, letters: str, shuffle: Any) -> None:
    ballots = votes(letters)
    names = list(ballots)
    shuffle.shuffle(names)
    weights = snapshot(**{f"x{i}": 0.1 * (i + 1) for i in range(7)})
    straight = asked(mode, ballots)
    shuffled = replace(straight, ballots={name: ballots[name] for name in names})
    assert aggregate(straight, weights) == aggregate(shuffled, weights)


@given(_MODES, _LETTERS)
def test_a_reached_decision_is_a_unique_best_with_votes(mode: Mode, letters: str) -> None:
    result = decided(mode, letters)
    if result.reached:
        assert result.decision in letters
        assert result.tally[str(result.decision)] == max(result.tally.values())
        assert not result.tied
    else:
        assert result.decision is None
        assert result.reason
