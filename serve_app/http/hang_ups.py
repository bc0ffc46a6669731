"""Clients that break the connection while they wait for an answer."""

from __future__ import annotations

from fastapi import Request


async def hung_up(request: Request) -> None:
    """Returns when the client has broken the connection."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
