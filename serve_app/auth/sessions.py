"""Sessions at the door: a browser's cookie or a command line's bearer token, and whether a page may change something with it.

A browser sends the cookie with whatever call a page makes. So a call that changes something, or opens a WebSocket, must come
from a page of this origin or of one that ``ARAGORA_CORS_ORIGINS`` names, and a change has the session's token in
``X-CSRF-Token`` besides."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final, Protocol

from starlette.requests import HTTPConnection

from cluster.domain.access.identity import Identity, Method
from cluster.domain.access.sessions import Session, SessionKind, csrf_token, has_secret, parse_session
from cluster.domain.base.errors import Forbidden, Unauthenticated
from cluster.ports.clock import Clock
from serve_app.auth.session_cookie import Cookies

_CSRF: Final = b"x-csrf-token"
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_ENDED: Final = "This session has ended; log in again."


class SessionView(Protocol):
    """What a replica knows about sessions (`AccessDirectory`)."""

    def session(self, session_id: str) -> Session | None: ...

    def not_before(self, principal: str) -> float: ...

    async def find_session(self, session_id: str) -> Session | None: ...


class Sessions:
    """The sessions of one issuer. ``origin`` is that of our own pages, ``cors_origins`` are others that the operator named; ``*``
    names none."""

    def __init__(
        self, *, view: SessionView, issuer: str, origin: str, cors_origins: Iterable[str], clock: Clock
    ) -> None:
        self.cookies = Cookies(origin)
        self._view = view
        self._issuer = issuer
        self._origins = {origin.lower(), *(each for each in cors_origins if each != "*")}
        self._clock = clock

    async def find(self, token: str, kind: SessionKind) -> tuple[Session, str]:
        """The session of a token, and its secret.

        Raises: `Unauthenticated` if there is none that counts; `StoreUnavailable` if it may have begun elsewhere and cannot be
        read now."""
        id, secret = parse_session(token) or ("", "")
        session = await self._view.find_session(id) if id else None
        if session is None or session.kind is not kind or not self.counts(session.id, secret):
            raise Unauthenticated(_ENDED)
        return session, secret

    def counts(self, session_id: str, secret: str) -> bool:
        """Whether a session counts now, as far as this replica knows."""
        session = self._view.session(session_id)
        return (
            session is not None
            and has_secret(session, secret)
            and session.issuer == self._issuer
            and self._view.not_before(session.principal) <= session.began_at
            and self._clock.now() < session.expires_at
        )

    def check_page(self, connection: HTTPConnection, secret: str) -> None:
        """Returns if the page that makes a call with the cookie may.

        Raises: `Forbidden` (``csrf``) if it may not, or may be another's."""
        is_socket = connection.scope["type"] == "websocket"
        if not is_socket and connection.scope["method"] in _SAFE:
            return
        origins = [value.decode("latin-1") for name, value in connection.scope["headers"] if name == b"origin"]
        # A browser names the page's origin with every WebSocket, which has no other header that a page could set.
        if (is_socket and not origins) or any(origin.lower() not in self._origins for origin in origins):
            raise Forbidden(
                "A web page of another origin made this call with your session; name that origin in ARAGORA_CORS_ORIGINS if its "
                "pages may.",
                "csrf",
            )
        sent = [value for name, value in connection.scope["headers"] if name == _CSRF]
        if not is_socket and not (len(sent) == 1 and hmac.compare_digest(sent[0], csrf_token(secret).encode())):
            raise Forbidden(
                "Send the header X-CSRF-Token with the csrf_token of GET /api/control-plane/auth/session: a call with a cookie "
                "changes nothing without it.",
                "csrf",
            )


def identity_of(session: Session) -> Identity:
    """Who has a session."""
    return Identity(id=session.principal, method=Method.SESSION, subjects=session.subjects)
