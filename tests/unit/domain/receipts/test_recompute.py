"""Recomputation: the decision of a receipt follows from its votes, or the difference is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.consensus.ballots import Ballot, Denominator, approval, choice, ranking
from cluster.domain.consensus.calibration import IsotonicMap
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak
from cluster.domain.consensus.snapshot import Gate, WeightSnapshot
from cluster.domain.receipts.document import make_receipt, redact
from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import parse, verify
from tests.support.deliberations import Journal, Vote, decided
from tests.support.panels import World, contract, members, says
from tests.support.receipts import OTHER, played, receipt_of, with_events

AGENTS = ("ada", "bob", "cyd", "dan")
ARRAY = ("Postgres", "Redis", "SQLite")
SNAPSHOT = WeightSnapshot(
    learned={"ada": 1.31, "bob": 0.27, "cyd": 0.55},
    log_odds={"ada": 2.1, "bob": 0.4, "cyd": 0.9},
    accuracy={"ada": 0.8, "bob": 0.5, "cyd": 0.6},
    gate=Gate(choice=Mode.LEARNED, plurality=0.6, weighted=0.65, learned=0.7, gain=0.1, gain_se=0.02),
    owner_cap=0.4,
    ridge=1.0,
    outcomes=200,
    outcomes_digest="00" * 32,
    calibration={
        name: IsotonicMap(knots=(0.2, 0.9), values=(0.3, 0.95)) for name in ("share", "weighted", "learned", "agree_k")
    },
)

_BALLOTS = st.one_of(
    st.none(),
    st.sampled_from(ARRAY).map(choice),
    st.builds(choice, st.sampled_from(ARRAY), strength=st.just(0.5)),
    st.lists(st.sampled_from(ARRAY), min_size=1, unique=True).map(lambda given: approval(*given)),
    st.permutations(ARRAY).map(lambda given: ranking(*given)),
)
_RULES = st.builds(
    ConsensusRule,
    mode=st.sampled_from([mode for mode in Mode if mode is not Mode.JUDGE]),
    denominator=st.sampled_from(Denominator),
    tie_break=st.sampled_from(TieBreak),
    seed=st.just("s"),
)


@given(
    rule=_RULES,
    ballots=st.lists(_BALLOTS, min_size=4, max_size=4),
    snapshot=st.sampled_from([None, SNAPSHOT]),
    min_votes=st.integers(1, 4),
)
def test_every_decision_can_be_recomputed(
    rule: ConsensusRule, ballots: list[Ballot | None], snapshot: WeightSnapshot | None, min_votes: int
) -> None:
    votes = [Vote(agent, ballot) for agent, ballot in zip(AGENTS, ballots, strict=True)]
    journal = decided(votes, rule=rule, options=ARRAY, snapshot=snapshot, min_votes=min_votes)
    receipt = parse(canonical_bytes(receipt_of(journal)))
    again = recompute(receipt)
    assert verify(receipt).valid
    assert again.verdict is Recomputed.EQUAL, again
    assert again.result is not None
    assert again.result["tally"] == journal.events[-1].data["outcome"]["tally"]


def _signed_anew(journal: Journal, **ended: Any) -> dict[str, Any]:
    """What a server that lies about its own votes would sign."""
    last = journal.events[-1]
    return receipt_of(with_events(journal, [*journal.events[:-1], replace(last, data={**last.data, **ended})]), OTHER)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("confidence", 0.6666666666666667),
        ("tally", {"Postgres": 2.0000000000000004, "Redis": 1.0}),
        ("dissent", []),
        ("abstained", [{"agent": "cyd", "reason": "timeout"}]),
        ("tie_path", ["alpha"]),
        ("cast", 2),
        ("option", "Redis"),
    ],
)
def test_an_outcome_that_does_not_follow_from_the_votes_is_found(field: str, value: Any) -> None:
    journal = played()
    outcome = journal.events[-1].data["outcome"]
    assert outcome.get(field) != value or field == "confidence"
    if field == "confidence":
        value = float.fromhex("0x1.5555555555556p-1")
        assert value != outcome["confidence"]
    receipt = _signed_anew(journal, outcome={**outcome, field: value})
    assert verify(receipt).valid, "it is signed, and whole"
    again = recompute(receipt)
    assert again.verdict is Recomputed.DIFFERENT
    assert field in again.differences


@pytest.mark.parametrize("terminal", ["NO_CONSENSUS", "QUORUM_LOST"])
def test_a_terminal_that_does_not_follow_is_found(terminal: str) -> None:
    again = recompute(_signed_anew(played(), terminal=terminal))
    assert (again.verdict, again.differences) == (Recomputed.DIFFERENT, ("decision",))


def test_a_deadline_ends_what_votes_have_decided() -> None:
    assert recompute(_signed_anew(played(), terminal="DEADLINE_EXCEEDED")).verdict is Recomputed.EQUAL


def test_ballots_that_nobody_cast_are_found() -> None:
    """The result follows from the ballots, but the ballots not from what the agents are journalled to have said."""
    honest = played()
    turned = decided([Vote("ada", choice("Postgres")), Vote("bob", choice("Redis")), Vote("cyd", choice("Redis"))])
    forged = make_receipt(
        OTHER,
        request_id=honest.request_id,
        contract=honest.contract,
        events=[*honest.events[:-1], turned.events[-1]],
    )
    again = recompute(forged)
    assert again.verdict is Recomputed.DIFFERENT
    assert again.differences == ("ballot of cyd",)


def test_a_ranking_that_nobody_handed_in_is_found() -> None:
    rule = ConsensusRule(mode=Mode.BORDA)
    honest = decided([Vote(agent, ranking("Redis", "Postgres")) for agent in AGENTS], rule=rule)
    turned = decided([Vote(agent, ranking("Postgres", "Redis")) for agent in AGENTS], rule=rule)
    assert recompute(receipt_of(honest)).verdict is Recomputed.EQUAL
    forged = receipt_of(with_events(honest, [*honest.events[:-1], turned.events[-1]]), OTHER)
    assert recompute(forged).differences == tuple(f"ballot of {agent}" for agent in AGENTS)


def test_a_vote_among_texts_that_nobody_cast_is_found() -> None:
    """Free texts are counted by their labels; each must be the one that the agent voted for in the deciding round."""
    voices = {
        name: says(text) for name, text in zip(AGENTS, ("use one", "use two", "use two", "use three"), strict=True)
    }
    world = World.of(contract(rounds=0, consensus="plurality"), voices).start(members(*AGENTS)).run()
    honest = Journal(contract=world.state.contract.to_json(), request_id="r", events=world.journal)
    assert "asked:VOTE" in world.kinds()
    assert recompute(receipt_of(honest)).verdict is Recomputed.EQUAL
    vote = next(e for e in world.journal if e.kind == "answered" and e.data["phase"] == "VOTE")
    other = {"#1": "#2"}.get(vote.data["answer"]["choice"], "#1")
    turned = replace(vote, data={**vote.data, "answer": {**vote.data["answer"], "choice": other}})
    forged = with_events(honest, [turned if event is vote else event for event in honest.events])
    assert recompute(receipt_of(forged, OTHER)).differences == (f"ballot of {vote.data['agent']}",)
    withheld = redact(receipt_of(honest), vote.n)
    assert recompute(withheld).verdict is Recomputed.EQUAL


def test_other_weights_make_another_decision() -> None:
    votes = [Vote("ada", choice("Postgres")), Vote("bob", choice("Redis")), Vote("cyd", choice("Redis"))]
    journal = decided(votes, rule=ConsensusRule(mode=Mode.LEARNED), snapshot=SNAPSHOT)
    without = {name: value for name, value in journal.events[0].data.items() if name != "snapshot"}
    first = replace(journal.events[0], data=without)
    again = recompute(receipt_of(with_events(journal, [first, *journal.events[1:]]), OTHER))
    assert again.verdict is Recomputed.DIFFERENT
    assert "confidence" in again.differences


def test_withheld_words_do_not_hinder_recomputation() -> None:
    receipt = receipt_of(played())
    for n in [event["n"] for event in receipt["events"] if event["text"]]:
        receipt = redact(receipt, n)
    assert recompute(receipt).verdict is Recomputed.EQUAL
    assert recompute(redact(receipt, 0)).verdict is Recomputed.EQUAL


@pytest.mark.parametrize("lost", ["aggregation", "tie_path", "option", "snapshot"])
def test_a_decision_with_missing_records_is_not_recomputable(lost: str) -> None:
    journal = played(recorded=lost != "aggregation")
    data = dict(journal.events[-1].data)
    if lost in ("tie_path", "option"):
        data["outcome"] = {name: value for name, value in data["outcome"].items() if name != lost}
    events = [*journal.events[:-1], replace(journal.events[-1], data=data)]
    if lost == "snapshot":
        events[0] = replace(events[0], data={**events[0].data, "snapshot": {"learned": {}}})
    again = recompute(receipt_of(with_events(journal, events)))
    assert again.verdict is Recomputed.NOT_RECOMPUTABLE
    assert again.reason


@given(
    aggregation=st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.dictionaries(
            st.sampled_from(["rule", "electorate", "ballots", "mode", "eligible", "judgement"]), inner, max_size=4
        ),
    )
)
def test_votes_that_make_no_sense_are_not_recomputable(aggregation: Any) -> None:
    receipt = receipt_of(played())
    receipt["events"][-1]["data"]["aggregation"] = aggregation
    assert recompute(receipt).verdict is Recomputed.NOT_RECOMPUTABLE
