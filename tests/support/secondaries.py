"""The API's layers of a region that is not the primary, in front of its own routes, on a real server and database."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.http.forwarding import RegionForwarding
from cluster.postgres.stores import Stores
from serve_app.auth.clients import Clients
from serve_app.http.body_bounds import BodyBounds
from serve_app.http.forwarded import leave_forwarding_to_us
from serve_app.http.middleware import RequestMiddleware
from serve_app.http.replicated import ReplicatedAnswers
from serve_app.http.to_primary import ToPrimary
from tests.support.gates import GatedRegion, gated
from tests.support.servers import serving_app

EAST, WEST = "east", "west"
#: More than the body of any test that is to be taken.
MAX_BODY_BYTES = 3_000_000
#: How long the primary may take to answer.
ANSWER_S = 120.0


@dataclass
class Secondary:
    """Region ``east``, which is told that ``west`` is the primary."""

    region: GatedRegion
    url: str = ""

    async def names(self, primary: str) -> None:
        """Whom the leader calls the primary."""
        await self.region.tell(1, 0, primary=primary)


async def _own_routes(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"by": EAST})(scope, receive, send)


@asynccontextmanager
async def a_secondary(
    stores: Stores,
    urls: dict[str, str],
    *,
    tls: ssl.SSLContext | None = None,
    clients: Clients | None = None,
    answer_s: float = ANSWER_S,
    around: Callable[[ASGIApp], ASGIApp] = lambda inner: inner,
) -> AsyncIterator[Secondary]:
    """``urls`` may be changed while it runs. ``around``: a layer outside of that which forwards."""
    leave_forwarding_to_us()
    clients = clients or Clients()
    forwarding = RegionForwarding(tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), answer_s)
    async with gated(stores, urls) as region:
        to_primary = ToPrimary(EAST, forwarding, clients)
        layer: Any = ReplicatedAnswers(_own_routes, lambda: region.gate, lambda: to_primary, region.stores.pool.ping)
        layer = BodyBounds(around(layer), max_bytes=MAX_BODY_BYTES)
        layer = RequestMiddleware(layer, observe=lambda *_: None, clients=clients)
        secondary = Secondary(region)
        await secondary.names(WEST)
        async with serving_app(layer, lifespan="off") as server:
            secondary.url = server.url
            yield secondary
        await to_primary.close()
