"""Tokens (JWT): by their algorithm they are checked with our own secrets or with an issuer's keys, and become an identity."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from cluster.domain.access.identity import Identity, Method
from cluster.domain.access.principal import ISSUERS_SUBJECT, user_name
from cluster.domain.access.token_keys import Algorithm, TokenKey, secret_key
from cluster.domain.access.tokens import LEEWAY_S, OWN, Claims, SignedToken, TokenRules, claims_of, read_token
from cluster.domain.base.errors import Unauthenticated
from cluster.http.key_sets import IssuerKeys
from serve_app.auth.access_view import AccessView

#: Kinds of principals that a token of ours can name. A key's calls are its own, and groups have a claim of their own.
_KINDS = ("user", "agent")
_EMAIL = re.compile(r"[^@\s/]+@[^@\s/]+")
_SAFE = "-._~"
MAX_PRINCIPAL_CHARS = 512
_REFUSED = "This token does not count here; get a new one."


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecrets:
    """The secret of HS256 tokens, and the one before it, which counts until ``previous_until`` (epoch seconds)."""

    current: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    previous_until: float = 0.0

    def keys(self, now: float) -> Sequence[TokenKey]:
        """The keys that count at this time."""
        counts = self.previous is not None and now < self.previous_until
        return [
            secret_key(secret) for secret in (self.current, self.previous if counts else None) if secret is not None
        ]

    def ends_at(self, token: SignedToken) -> float:
        """Until when the secret that has signed a token counts; infinity: as long as this process has it."""
        is_current = self.previous is None or secret_key(self.current).signed(token.content, token.signature)
        return math.inf if is_current else self.previous_until


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """Another issuer, and who its tokens must be for."""

    keys: IssuerKeys
    issuer: str
    audience: str


class TokenChecks:
    """Checks tokens. ``secrets`` None: HS256 does not count; ``issuer`` None: nothing else does. ``life_s``: the longest life
    of any token."""

    def __init__(self, *, secrets: SharedSecrets | None, issuer: TrustedIssuer | None, life_s: float) -> None:
        self.secrets = secrets
        self._issuer = issuer
        own = (
            frozenset({OWN, *([issuer.issuer] if issuer else [])}),
            frozenset({OWN, *([issuer.audience] if issuer else [])}),
        )
        self._own = TokenRules(issuers=own[0], audiences=own[1], life_s=life_s, strict=False)
        self._foreign = None
        if issuer is not None:
            self._foreign = TokenRules(
                issuers=frozenset({issuer.issuer}),
                audiences=frozenset({issuer.audience}),
                life_s=life_s,
                strict=True,
            )

    async def identity(self, text: str, view: AccessView, now: float) -> tuple[Identity, Claims, float]:
        """Whom a token names, and until when it counts unless it is revoked (epoch seconds). A call that stays open ends then,
        and not at the token's own time: as many seconds later as clocks may differ, a new one is let in.

        Raises: `Unauthenticated` if it does not count, or was revoked; `StoreUnavailable` if the issuer's keys are not known
        now."""
        token = read_token(text)
        claims = await self._claims(token, now)
        identity = _own_identity(claims) if token.algorithm is Algorithm.HS256 else _foreign_identity(claims)
        check_counts(identity, claims, view)
        ends_at = claims.expires_at + LEEWAY_S
        if token.algorithm is Algorithm.HS256 and self.secrets is not None:
            ends_at = min(ends_at, self.secrets.ends_at(token))
        return identity, claims, ends_at

    async def _claims(self, token: SignedToken, now: float) -> Claims:
        if token.algorithm is Algorithm.HS256:
            keys = self.secrets.keys(now) if self.secrets is not None else ()
            return claims_of(token, keys, self._own, now)
        if self._issuer is None or self._foreign is None:
            raise Unauthenticated(_REFUSED)
        key = await self._issuer.keys.find(token.algorithm, token.kid)
        return claims_of(token, () if key is None else (key,), self._foreign, now)


def check_counts(identity: Identity, claims: Claims, view: AccessView) -> None:
    """Returns if neither the token nor the tokens of its principal were revoked. Raises: `Unauthenticated` if they were."""
    revoked = claims.jti is not None and view.is_revoked(claims.jti)
    if revoked or claims.issued_at < view.not_before(identity.id):
        raise Unauthenticated("This token was revoked; get a new one.")


def _own_identity(claims: Claims) -> Identity:
    kind, _, rest = claims.subject.rpartition(":")
    kind = kind or "user"
    if kind not in _KINDS or not rest:
        raise Unauthenticated(_REFUSED)
    name = f"{kind}:{user_name(rest) if kind == 'user' else rest}"
    # A token of an agent acts for that agent, as its certificate does.
    return replace(_identity(name, claims), agents=frozenset({rest})) if kind == "agent" else _identity(name, claims)


def _foreign_identity(claims: Claims) -> Identity:
    if claims.email is not None and _EMAIL.fullmatch(claims.email):
        return _identity(f"user:{claims.email.lower()}", claims)
    return _identity(f"user:{ISSUERS_SUBJECT}{quote(claims.subject, safe=_SAFE)}", claims)


def _identity(name: str, claims: Claims) -> Identity:
    if len(name) > MAX_PRINCIPAL_CHARS:
        raise Unauthenticated(_REFUSED)
    return Identity(
        id=name,
        method=Method.JWT,
        subjects=(name, *(f"group:{group}" for group in claims.groups)),
        workspaces=claims.workspaces,
        grants=claims.grants,
    )
