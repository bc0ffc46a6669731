"""The input of an aggregation survives JSON: what is read back decides the same, bit for bit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.aggregate import Aggregation, aggregate, aggregation_from_document
from cluster.domain.consensus.ballots import (
    Ballot,
    Confidence,
    Denominator,
    Electorate,
    abstain,
    approval,
    choice,
    ranking,
    scored,
)
from cluster.domain.consensus.result import Judgement
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak

AGENTS = ("a", "b", "c", "d")
OPTIONS = ("x", "y", "z")
_options = st.lists(st.sampled_from(OPTIONS), min_size=1, unique=True)


def ballots() -> st.SearchStrategy[Ballot]:
    return st.one_of(
        st.builds(
            choice,
            st.sampled_from(OPTIONS),
            st.one_of(st.none(), st.sampled_from(Confidence)),
            st.sampled_from([0.5, 1.0, 1 / 3]),
        ),
        _options.map(lambda named: approval(*named)),
        _options.map(lambda named: ranking(*named)),
        st.dictionaries(st.sampled_from(OPTIONS), st.floats(-10, 10), min_size=1).map(scored),
        st.sampled_from(["timeout", ""]).map(abstain),
    )


def aggregations() -> st.SearchStrategy[Aggregation]:
    return st.builds(
        Aggregation,
        rule=st.builds(
            ConsensusRule,
            mode=st.sampled_from(Mode),
            denominator=st.sampled_from(Denominator),
            tie_break=st.sampled_from(TieBreak),
            seed=st.text(max_size=4),
        ),
        electorate=st.builds(
            Electorate,
            eligible=st.just(AGENTS),
            options=st.sampled_from([(), OPTIONS]),
            asked=st.sampled_from([None, ("a", "b")]),
            owners=st.sampled_from([{}, {"a": "o", "b": "o"}]),
            weights=st.dictionaries(st.sampled_from(AGENTS), st.floats(0, 10)),
            min_votes=st.integers(1, 4),
            quorum_ratio=st.floats(0, 1),
        ),
        ballots=st.dictionaries(st.sampled_from(AGENTS), ballots()),
        judgement=st.sampled_from([None, Judgement(judge="j", verdicts=("x", "x"))]),
        accepted=st.dictionaries(st.sampled_from(OPTIONS), st.integers(0, 3)),
    )


@given(aggregations())
def test_an_aggregation_reads_back_unchanged(asked: Aggregation) -> None:
    document = asked.document()
    again = aggregation_from_document(json.loads(canonical_bytes(document)))
    assert again == asked
    assert canonical_bytes(again.document()) == canonical_bytes(document)
    assert aggregate(again) == aggregate(asked)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": {"mode": "dice"}}, "not the input"),
        ({"electorate": {"eligible": []}}, "at least one agent"),
        ({"ballots": {"a": {"kind": "choice", "options": ["x", "y"]}}}, "exactly one option"),
    ],
)
def test_an_invalid_document_is_refused_with_a_sentence(change: dict[str, object], says: str) -> None:
    asked = Aggregation(
        rule=ConsensusRule(mode=Mode.PLURALITY), electorate=Electorate(eligible=AGENTS), ballots={"a": choice("x")}
    )
    with pytest.raises(InvalidRequest, match=says):
        aggregation_from_document({**asked.document(), **change})
