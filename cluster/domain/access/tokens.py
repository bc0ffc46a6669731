"""Tokens (JWT, by RFC 8725): who they name, whether they count, and how ours are made.

Pure: keys and the time are handed in. PyJWT computes the signatures; what a token must hold is checked here, since PyJWT takes
a far ``exp``, a missing claim and a claim that is there twice without complaint.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.domain.access.token_keys import ALGORITHMS, MAX_KID_CHARS, Algorithm, TokenKey, sign
from cluster.domain.base.errors import InvalidRequest, Unauthenticated
from cluster.domain.base.json_values import check_text

#: A longer token is not looked at. Tokens with many groups have some 4,000 characters.
MAX_TOKEN_CHARS = 8192
#: How far clocks may differ.
LEEWAY_S = 30.0
#: Issuer and audience of the tokens that we make.
OWN = "aragora"
MAX_SUBJECT_CHARS = 256
MAX_GROUPS = 200
_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
#: What a token may say that it is. Others (``logout+jwt``, ``dpop+jwt``) are meant for somebody else.
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
#: One sentence for every token that does not count, so that a guesser learns nothing from it.
_REFUSED = "This token does not count here; get a new one."
_EXPIRED = "This token has expired; get a new one."


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token of which nothing is proven yet. ``payload`` is read by `claims_of` alone, after its signature was checked."""

    algorithm: Algorithm
    kid: str | None
    content: bytes
    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say. ``issuers`` and ``audiences``: those that are accepted; ``strict``: both must be named, as in
    tokens of another issuer. ``life_s``: the longest life."""

    issuers: frozenset[str]
    audiences: frozenset[str]
    life_s: float
    strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a proven token says. ``email`` is None unless the issuer has verified it. ``workspaces`` and ``grants`` restrict
    a token of ours; another issuer's are not read."""

    subject: str
    issued_at: float
    expires_at: float
    jti: str | None = None
    email: str | None = None
    groups: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()


def read_token(token: str) -> SignedToken:
    """Takes a token apart. Nothing in its header but the algorithm and the name of its key is used: ``jku``, ``x5u`` and
    ``jwk`` would let a token bring its own key.

    Raises: `Unauthenticated` if it has not the form of a token, its header is not accepted, or asks for what is not known
    here (``crit``)."""
    match = _FORM.fullmatch(token) if len(token) <= MAX_TOKEN_CHARS else None
    if match is None:
        raise Unauthenticated(_REFUSED)
    header = _object(_bytes(match[1]))
    name, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    algorithm = ALGORITHMS.get(name) if isinstance(name, str) else None
    fits = isinstance(kid, str | None) and isinstance(kind, str | None) and len(kid or "") <= MAX_KID_CHARS
    if algorithm is None or not fits or "crit" in header or "b64" in header or (kind and kind.lower()) not in _TYPES:
        raise Unauthenticated(_REFUSED)
    content = f"{match[1]}.{match[2]}".encode()
    return SignedToken(algorithm, kid, content, _bytes(match[2]), _bytes(match[3]))


def claims_of(token: SignedToken, keys: Iterable[TokenKey], rules: TokenRules, now: float) -> Claims:
    """What a token says, if one of the keys has signed it and it counts now.

    Raises: `Unauthenticated` if none has, or a claim is missing, is not of its kind, or does not hold now."""
    found = signed_payload(token, keys)
    issued_at, expires_at = _times(found, rules, now)
    _check_origin(found, rules)
    try:
        return _claims(found, rules, issued_at, expires_at)
    except InvalidRequest:  # a text that cannot be stored
        raise Unauthenticated(_REFUSED) from None


def signed_payload(token: SignedToken, keys: Iterable[TokenKey]) -> Mapping[str, Any]:
    """All that a token says, if one of the keys has signed it. Whether it counts is not checked yet.

    Raises: `Unauthenticated` if none has, or it says no JSON object."""
    fitting = [key for key in keys if key.algorithm is token.algorithm]
    if not any(key.signed(token.content, token.signature) for key in fitting):
        raise Unauthenticated(_REFUSED)
    return _object(token.payload)


def _times(found: Mapping[str, Any], rules: TokenRules, now: float) -> tuple[float, float]:
    issued_at, expires_at = _time(found.get("iat")), _time(found.get("exp"))
    begins_at = _time(found.get("nbf", issued_at))
    if max(issued_at, begins_at) > now + LEEWAY_S or not 0 < expires_at - issued_at <= rules.life_s:
        raise Unauthenticated(_REFUSED)
    if now >= expires_at + LEEWAY_S:
        raise Unauthenticated(_EXPIRED)
    return issued_at, expires_at


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2**53:
        raise Unauthenticated(_REFUSED)
    return float(value)


def _check_origin(found: Mapping[str, Any], rules: TokenRules) -> None:
    issuer, audience = found.get("iss"), found.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(each, str) for each in (issuer, *audiences) if each is not None):
        raise Unauthenticated(_REFUSED)
    named = (issuer is not None or not rules.strict) and (audience is not None or not rules.strict)
    fits = issuer in (None, *rules.issuers) and (audience is None or not rules.audiences.isdisjoint(audiences))
    if not (named and fits):
        raise Unauthenticated(_REFUSED)


def _claims(found: Mapping[str, Any], rules: TokenRules, issued_at: float, expires_at: float) -> Claims:
    email = found.get("email") if found.get("email_verified") is True else None
    return Claims(
        subject=_text(found.get("sub")),
        issued_at=issued_at,
        expires_at=expires_at,
        jti=None if found.get("jti") is None else _text(found["jti"]),
        email=None if email is None else _text(email),
        groups=_texts(found.get("groups")),
        workspaces=() if rules.strict else _texts(found.get("workspaces")),
        grants=() if rules.strict else _texts(found.get("grants")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SUBJECT_CHARS or not value.isprintable():
        raise Unauthenticated(_REFUSED)
    check_text(value, "A claim")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_GROUPS:
        raise Unauthenticated(_REFUSED)
    return tuple(_text(each) for each in value)


def _bytes(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise Unauthenticated(_REFUSED) from None


def _object(content: bytes) -> dict[str, Any]:
    """A JSON object in which no member is there twice: parsers disagree about which one counts."""
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Unauthenticated(_REFUSED) from None
    if not isinstance(found, dict):
        raise Unauthenticated(_REFUSED)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(name: str) -> float:
    raise ValueError(name)


def make_token(claims: Claims, secret: bytes) -> str:
    """A token of ours, signed with the shared secret."""
    content = {
        "iss": OWN,
        "aud": OWN,
        "sub": claims.subject,
        # With its fractions: a token that is made in the second of a revocation, but after it, counts.
        "iat": claims.issued_at,
        "exp": int(claims.expires_at),
        "jti": claims.jti,
    }
    for name in ("groups", "workspaces", "grants"):
        if getattr(claims, name):
            content[name] = list(getattr(claims, name))
    head = f"{_part({'alg': 'HS256', 'typ': 'at+jwt'})}.{_part(content)}"
    return f"{head}.{_encoded(sign(head.encode(), secret))}"


def _part(content: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(content, separators=(",", ":")).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
