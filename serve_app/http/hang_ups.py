"""Clients that break the connection while they wait for an answer."""

from __future__ import annotations

from starlette.types import Receive


async def hung_up(receive: Receive) -> None:
    """Returns when the client has broken the connection. Its body has to be read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
