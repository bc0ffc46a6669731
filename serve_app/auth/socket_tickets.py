"""Tickets of WebSockets: a page asks for one with its credential, and opens a socket with ``?ticket=`` once.

A ticket is redeemed before the resolver is asked, which then finds the credential that the ticket was made with
(`serve_app.auth.bearer`) and checks it as if the call had brought it. So a ticket never outlives nor widens that.
"""

from __future__ import annotations

import os
from typing import Final

from starlette.requests import HTTPConnection

from cluster.domain.access.principal import Principal
from cluster.domain.access.sealing import NONCE_BYTES
from cluster.domain.access.tickets import (
    LIFE_S,
    TICKET_BYTES,
    TICKET_CHARS,
    Ticketed,
    name_of,
    seal,
    ticket_of,
    unseal,
)
from cluster.domain.base.errors import InvalidRequest, Unauthenticated
from cluster.ports.clock import Clock
from cluster.ports.tickets import Tickets
from serve_app.auth.bearer import TICKETED, Proof, has_token, sent_token
from serve_app.auth.session_cookie import Cookies

_PARAMETER: Final = "ticket"
_SPENT: Final = (
    "This ticket does not count: it was used, is older than 30 seconds, or was never made; ask for a new one at "
    "POST /api/control-plane/auth/ticket."
)
_SEVERAL: Final = "Send one ticket, and neither a key nor a token beside it."


class SocketTickets:
    """The tickets that one replica makes and redeems. ``cookies`` are those of sessions, if people can log in."""

    def __init__(self, *, tickets: Tickets, cookies: Cookies | None, clock: Clock) -> None:
        self._tickets = tickets
        self._cookies = cookies
        self._clock = clock

    async def make(self, connection: HTTPConnection, principal: Principal) -> tuple[str, float]:
        """A ticket for the caller in its workspace, and when it ends (epoch seconds).

        Raises: `InvalidRequest` if the caller shows a certificate, `StoreUnavailable`."""
        state = connection.scope["state"]
        if "certificate" in state:
            raise InvalidRequest(
                "Whoever has a client certificate opens the WebSocket with it; ask for a ticket with an API key, a token or a "
                "session.",
                "ticket_of_certificate",
            )
        proof: Proof = state["proof"]
        now = self._clock.now()
        token, is_cookie = self._credential(connection)
        ticketed = Ticketed(token, is_cookie, principal.workspace, min(now + LIFE_S, proof.ends_at()))
        ticket = ticket_of(os.urandom(TICKET_BYTES))
        sealed = seal(ticket, ticketed, os.urandom(NONCE_BYTES))
        await self._tickets.keep(name_of(ticket), sealed, ticketed.expires_at - now)
        return ticket, ticketed.expires_at

    def _credential(self, connection: HTTPConnection) -> tuple[str, bool]:
        cookie = None if self._cookies is None or has_token(connection) else self._cookies.session(connection)
        return (sent_token(connection), False) if cookie is None else (cookie, True)

    async def redeem(self, connection: HTTPConnection) -> None:
        """Puts what the ticket of a WebSocket stands for where the resolver finds it. Nothing if there is no ticket.

        Raises: `Unauthenticated` if the ticket does not count, `StoreUnavailable` if that cannot be found out."""
        if connection.scope["type"] != "websocket":
            return
        sent = connection.query_params.getlist(_PARAMETER)
        if not sent:
            return
        if len(sent) > 1 or has_token(connection):
            raise Unauthenticated(_SEVERAL)
        (ticket,) = sent
        kept = await self._tickets.take(name_of(ticket)) if len(ticket) == TICKET_CHARS else None
        ticketed = None if kept is None else unseal(ticket, kept)
        if ticketed is None or ticketed.expires_at <= self._clock.now():
            raise Unauthenticated(_SPENT)
        connection.scope["state"][TICKETED] = ticketed
