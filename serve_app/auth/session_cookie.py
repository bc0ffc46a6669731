"""The cookies of logins: a browser's session, and what binds a login that has begun to the browser that began it.

Both are of this host alone, are sent to us only, and no page can read them. Under https the browser itself sees to that
(``__Host-``): neither a subdomain nor an answer over plain HTTP can plant one.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response

_SESSION: Final = "aragora-session"
_LOGIN: Final = "aragora-login"
#: Longer cookies are not ours.
MAX_CHARS: Final = 200


class Cookies:
    """The cookies of one origin."""

    def __init__(self, origin: str) -> None:
        self._is_secure = origin.startswith("https://")
        prefix = "__Host-" if self._is_secure else ""
        self._session, self._login = prefix + _SESSION, prefix + _LOGIN

    def session(self, connection: HTTPConnection) -> str | None:
        """The session's token, if the call has one."""
        return _sent(connection, self._session)

    def login(self, connection: HTTPConnection) -> str | None:
        """The secret of the login that this browser has begun."""
        return _sent(connection, self._login)

    def keep_session(self, response: Response, token: str, life_s: float) -> None:
        """Gives the browser a session."""
        self._set(response, self._session, token, life_s)

    def keep_login(self, response: Response, secret: str, life_s: float) -> None:
        """Gives the browser the secret of a login."""
        self._set(response, self._login, secret, life_s)

    def drop_session(self, response: Response) -> None:
        """Takes the session from the browser."""
        self._set(response, self._session, "", 0)

    def drop_login(self, response: Response) -> None:
        """Takes the secret of a login from the browser."""
        self._set(response, self._login, "", 0)

    def _set(self, response: Response, name: str, value: str, life_s: float) -> None:
        # Lax and not Strict: the provider's page leads the browser back here, which must send what binds the login to it.
        response.set_cookie(name, value, max_age=int(life_s), secure=self._is_secure, httponly=True, samesite="lax")


def _sent(connection: HTTPConnection, name: str) -> str | None:
    """The cookie of this name; None if there is none or there are several: one of them was planted."""
    # From the raw headers, as calls without a token are asked too: starlette would decode all of them.
    found = [
        value.strip()
        for header, text in connection.scope["headers"]
        if header == b"cookie"
        for key, _, value in (part.partition("=") for part in text.decode("latin-1").split(";"))
        if key.strip() == name
    ]
    return found[0] if len(found) == 1 and 0 < len(found[0]) <= MAX_CHARS else None
