"""Sessions: what a login with an OIDC provider ends in. ``ars_ID_SECRET`` is a browser's cookie, or a command line's token.

Like an API key's, the secret is random and only its SHA-256 is stored. A signed cookie without a row was rejected: it could not
be ended, and its groups could be read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

from cluster.domain.access.api_key import digest_of

#: How a session's token begins. Neither an API key nor a token (JWT) begins so.
MARK = "ars_"
_TOKEN = re.compile(r"ars_([0-9a-z]{20,40})_([0-9a-z]{32})")


class SessionKind(StrEnum):
    """What holds a session. A cookie is sent by whatever page makes a browser call, a bearer token is not: one kind never passes
    for the other."""

    BROWSER = "browser"
    COMMAND_LINE = "command_line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as it is stored. Times are epoch seconds. ``principal`` and ``groups`` are as ``issuer`` said when it began."""

    id: str
    digest: bytes
    kind: SessionKind
    issuer: str
    principal: str
    groups: tuple[str, ...]
    began_at: float
    expires_at: float

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names that role bindings may use."""
        return (self.principal, *(f"group:{group}" for group in self.groups))


def session_token(session_id: str, secret: str) -> str:
    """The token of a session, which only its holder has."""
    return f"{MARK}{session_id}_{secret}"


def parse_session(token: str) -> tuple[str, str] | None:
    """(id, secret) of a session's token; None if it has not that form."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else (match[1], match[2])


def has_secret(session: Session, secret: str) -> bool:
    """Whether the secret is the session's. Compares in constant time."""
    return hmac.compare_digest(session.digest, digest_of(secret))


def csrf_token(secret: str) -> str:
    """What a page sends beside the cookie. Pages of other origins cannot read it, and the secret does not follow from it."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()
