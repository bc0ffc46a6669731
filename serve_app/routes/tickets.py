"""The route of WebSocket tickets."""

from __future__ import annotations

import os
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.access.tickets import LIFE_S, TICKET_BYTES, ticket_of
from serve_app.auth.admission import Caller, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.socket_tickets import SocketTickets
from serve_app.gateway import gateway
from serve_app.http.idempotency import Idempotency

router = GuardedRouter(tags=["stream"])


@router.post("/auth/ticket")
@requires(Permission.STREAM_READ)
async def make_ticket(request: Request, caller: Caller, key: Idempotency) -> dict[str, Any]:
    """A ticket that opens one WebSocket, with ``?ticket=``, until ``expires_at``: within 30 seconds. It is worth what the
    credential of this call is worth, in its workspace, when it is used. Every call makes another one, whatever its key. 400
    (`InvalidRequest`, ``ticket_of_certificate``) with a client certificate, 503 while Redis is away."""
    tickets: SocketTickets | None = request.app.state.tickets
    if tickets is None:  # authentication is off, and sockets look at no ticket
        return {"ticket": ticket_of(os.urandom(TICKET_BYTES)), "expires_at": gateway(request).clock.now() + LIFE_S}
    ticket, expires_at = await tickets.make(request, caller)
    return {"ticket": ticket, "expires_at": expires_at}
