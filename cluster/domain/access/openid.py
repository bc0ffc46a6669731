"""Whom an OIDC provider names: the checks of an ID token, and what of its claims counts.

Pure: keys, the time and the provider's answers are handed in. Signatures are checked by the keys of tokens (`token_keys`), the
claims that OpenID Connect adds by Authlib. It is loaded where logins are enabled, and nowhere else: it takes 0.2 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from cluster.domain.access.principal import ISSUERS_SUBJECT
from cluster.domain.access.token_keys import Algorithm, TokenKey
from cluster.domain.access.tokens import LEEWAY_S, MAX_GROUPS, MAX_SUBJECT_CHARS, SignedToken, signed_payload
from cluster.domain.base.errors import Forbidden, InvalidRequest, Unauthenticated
from cluster.domain.base.json_values import check_text

_GMAIL: Final = "gmail.com"
_EMAIL = re.compile(r"[^@\s/:]+@([^@\s/:]+)")
_SAFE: Final = "-._~"
_REFUSED: Final = "The OIDC provider's ID token does not count here; log in again."


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenRules:
    """What an ID token must say. ``nonce``: of the login that it answers; None in a device login, which has none."""

    issuer: str
    client_id: str
    nonce: str | None
    access_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRules:
    """What of a person's claims counts. ``domains``: those of the e-mail addresses that may log in; empty: all. ``is_google``:
    Google is the authority for addresses of its own domain and of those that it hosts, and for no other, however verified."""

    groups_claim: str
    domains: frozenset[str] = frozenset()
    is_google: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who logged in: the name in role bindings and log rows, and the names of the groups."""

    principal: str
    groups: tuple[str, ...]


def id_token_claims(token: SignedToken, keys: Iterable[TokenKey], rules: IdTokenRules, now: float) -> Mapping[str, Any]:
    """The claims of an ID token that is the provider's, is meant for this client and this login, and counts now.

    Raises: `Unauthenticated` if it is not."""
    if token.algorithm is Algorithm.HS256:  # its key would be the client's secret, which is none of the provider's keys
        raise Unauthenticated(_REFUSED)
    payload = signed_payload(token, keys)
    found = CodeIDToken(
        payload,
        {"alg": token.algorithm.value},
        options={
            "iss": {"essential": True, "value": rules.issuer},
            "aud": {"essential": True, "value": rules.client_id},
        },
        params={"client_id": rules.client_id, "nonce": rules.nonce, "access_token": rules.access_token},
    )
    try:
        found.validate(now=int(now), leeway=int(LEEWAY_S))
    except (JoseError, AuthlibBaseError, TypeError, ValueError):  # the last two for members that are not of their kind
        raise Unauthenticated(_REFUSED) from None
    return payload


def lacks(claims: Mapping[str, Any], rules: PersonRules) -> bool:
    """Whether userinfo may have what the ID token has not."""
    return "email" not in claims or rules.groups_claim not in claims


def merged(claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims with those of userinfo that they lack. An address and whether it is verified come from one of the two.

    Raises: `Unauthenticated` if userinfo is about somebody else."""
    if not isinstance(userinfo.get("sub"), str) or userinfo["sub"] != claims["sub"]:
        raise Unauthenticated("The OIDC provider's userinfo is about somebody else than its ID token; log in again.")
    more = dict(userinfo)
    if "email" in claims:
        for name in ("email", "email_verified", "hd"):
            more.pop(name, None)
    return {**more, **claims}


def person_of(claims: Mapping[str, Any], rules: PersonRules, issuer: str) -> Person:
    """Who logged in. Without a verified address it is the subject, with the issuer's host, so that it passes for no address and
    for no subject of another issuer.

    Raises: `Unauthenticated` if a claim is not of its kind, `Forbidden` if the address is not of one of the domains."""
    email = _verified_email(claims, rules)
    if rules.domains and (email is None or _domain(email) not in rules.domains):
        raise Forbidden(
            "Your e-mail address is not verified, or not of a domain that may log in here (ARAGORA_OAUTH_ALLOWED_DOMAINS); "
            "log in with another account.",
            "login_refused",
        )
    subject = quote(_text(claims.get("sub")), safe=_SAFE)
    principal = f"user:{ISSUERS_SUBJECT}{urlsplit(issuer).hostname}/{subject}" if email is None else f"user:{email}"
    return Person(principal=principal, groups=_groups(claims.get(rules.groups_claim)))


def _verified_email(claims: Mapping[str, Any], rules: PersonRules) -> str | None:
    """The address in lower case; None unless the provider has verified it and can be asked about it."""
    if claims.get("email_verified") is not True or "email" not in claims:
        return None
    email = _text(claims["email"]).lower()
    if _EMAIL.fullmatch(email) is None:
        return None
    hosted = claims.get("hd")
    is_authority = not rules.is_google or _domain(email) == _GMAIL or hosted == _domain(email)
    return email if is_authority else None


def _domain(email: str) -> str:
    return email.rpartition("@")[2]


def _groups(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_GROUPS:
        raise Unauthenticated(
            f"The OIDC provider's groups are no list of at most {MAX_GROUPS} names; ask its administrator."
        )
    return tuple(dict.fromkeys(_text(group) for group in value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SUBJECT_CHARS or not value.isprintable():
        raise Unauthenticated(_REFUSED)
    try:
        check_text(value, "A claim")
    except InvalidRequest:
        raise Unauthenticated(_REFUSED) from None
    return value
