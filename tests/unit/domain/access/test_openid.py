"""Whom an OIDC provider's claims name."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.access.openid import PersonRules, person_of
from cluster.domain.base.errors import Forbidden, Unauthenticated

GOOGLE = PersonRules(groups_claim="groups", is_google=True)
SUBJECT = "user:subject/accounts.google.com/7"


@pytest.mark.parametrize(
    ("more", "principal"),
    [
        ({"email": "Ann@Gmail.com"}, "user:ann@gmail.com"),
        ({"email": "ann@example.com", "hd": "example.com"}, "user:ann@example.com"),
        ({"email": "ann@example.com"}, SUBJECT),  # an account at Google for an address that Google does not host
        ({"email": "ann@example.com", "hd": "example.org"}, SUBJECT),
        ({"email": "ann@example.com", "hd": "example.com", "email_verified": False}, SUBJECT),
    ],
    ids=str,
)
def test_google_is_asked_about_its_own_addresses_only(more: dict[str, Any], principal: str) -> None:
    claims = {"sub": "7", "email_verified": True, **more}
    assert person_of(claims, GOOGLE, "https://accounts.google.com").principal == principal


def test_domains_keep_out_addresses_that_google_does_not_host() -> None:
    rules = PersonRules(groups_claim="groups", is_google=True, domains=frozenset({"example.com"}))
    claims = {"sub": "7", "email_verified": True, "email": "ann@example.com"}
    with pytest.raises(Forbidden):
        person_of(claims, rules, "https://accounts.google.com")
    assert person_of({**claims, "hd": "example.com"}, rules, "https://accounts.google.com")


@pytest.mark.parametrize("sub", ["a/b", "../x", "ann@example.com", "é", "user:root@example.com"])
def test_no_subject_passes_for_an_address_or_for_one_of_another_issuer(sub: str) -> None:
    found = person_of({"sub": sub}, PersonRules(groups_claim="groups"), "https://id.example/realm").principal
    assert found.startswith("user:subject/id.example/")
    assert (found.count("/"), found.count(":"), "@" in found) == (2, 1, False)


@pytest.mark.parametrize("claims", [{"sub": 5}, {"sub": ""}, {"sub": "a\x00"}, {"sub": "a", "groups": ["x"] * 201}, {}])
def test_claims_of_another_kind_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        person_of(claims, PersonRules(groups_claim="groups"), "https://id.example")
