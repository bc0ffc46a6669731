"""Conditions of a search: what each means, and the sentence about one that cannot be meant."""

from __future__ import annotations

import pytest

from cluster.domain.base.conditions import (
    CONDITIONS,
    MAX_CONDITION_CHARS,
    MAX_CONDITIONS,
    Search,
    Term,
    parse_search,
)
from cluster.domain.base.errors import InvalidRequest


def _terms(*terms: Term) -> Search:
    return Search(terms=terms)


MEANT = {
    "metadata.pr=17": _terms(Term(kind="m", key="pr", value="17")),
    "metadata.a.b=": _terms(Term(kind="m", key="a.b", value="")),
    "metadata.query=a=b and c": _terms(Term(kind="m", key="query", value="a=b and c")),
    "tag=nightly build": _terms(Term(kind="g", value="nightly build")),
    "tenant=acme": _terms(Term(kind="t", value="acme")),
    "agent=a-1": Search(agent="a-1"),
    "id~01k": Search(id_contains="01k"),
    "type~%_": Search(type_contains="%_"),
    "created>=1700000000.5": Search(created_from=1700000000.5),
    "created<2026-11-29": Search(created_to=1795910400.0),
    "ended>=2026-11-29T20:00:00Z": Search(ended_from=1795982400.0),
    "ended<2026-11-29T21:00:00+01:00": Search(ended_to=1795982400.0),
}


@pytest.mark.parametrize("condition", MEANT)
def test_each_condition_says_one_thing(condition: str) -> None:
    assert parse_search([condition]) == MEANT[condition]


def test_every_documented_condition_has_an_example_here() -> None:
    begins = [documented.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for documented in CONDITIONS]
    begins = [begin.removesuffix("KEY=") for begin in begins]
    assert all(any(condition.startswith(begin) for condition in MEANT) for begin in begins)


def test_conditions_are_joined_in_one_search() -> None:
    search = parse_search(["tag=a", "tag=b", "created>=1", "created<2"])
    assert [term.value for term in search.terms] == ["a", "b"]
    assert (search.created_from, search.created_to) == (1.0, 2.0)


@pytest.mark.parametrize(
    "condition",
    [
        *(
            "",
            "=",
            "pr=17",
            "metadata",
            "metadata.=1",
            "metadata.pr",
            "tag",
            "tag=",
            "tag~x",
            "agent=",
            "agent=a b",
            "id=x",
        ),
        *(
            "created=1",
            "created>1",
            "created>=",
            "created>=soon",
            "created<-1",
            "created<1e400",
            "ended<nan",
            "ended>=inf",
        ),
        *(
            "created<253402300800",
            "created<0001-01-01",
            "created>=2026-13-01",
            "created<\u0661",
            "tag=\x00",
            "tag=\ud800",
        ),
        "tag=" + "a" * MAX_CONDITION_CHARS,
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(condition: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_search([condition])
    refused.value.message.encode()
    assert refused.value.message.endswith(".")
    assert len(refused.value.message) < 400


def test_too_many_conditions_and_two_of_one_kind_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="at most 16"):
        parse_search(["tag=a"] * (MAX_CONDITIONS + 1))
    with pytest.raises(InvalidRequest, match="two conditions created<"):
        parse_search(["created<1", "created<2"])


def test_only_metadata_and_tags_are_words_of_somebody() -> None:
    assert [condition for condition in MEANT if parse_search([condition]).of_words] == list(MEANT)[:4]
