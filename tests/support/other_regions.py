"""Two servers in the place of two regions: each answers all calls, or says that another one has to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cluster.domain.residency import WrongZone
from tests.support.servers import serving_app

_EVENT = b'id: 7\ndata: {"type": "e", "timestamp": 1, "data": {}}\n\n'


@dataclass
class OtherRegion:
    """``elsewhere``: the address that it names instead. ``calls``: path, credential and body of each."""

    elsewhere: str | None = None
    calls: list[tuple[str, str | None, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.calls.append((request.url.path, request.headers.get("authorization"), await request.body()))
        answer: Response = JSONResponse({"task_id": "t"}, 201)
        if self.elsewhere is not None:
            error = WrongZone("eu", "eu-1", self.elsewhere)
            body = {"error": error.message, "code": error.code, "trace_id": "t", **error.details}
            answer = JSONResponse(body, error.status)
        elif request.url.path.endswith("/stream"):
            answer = Response(_EVENT, media_type="text/event-stream")
        await answer(scope, receive, send)


@contextlib.asynccontextmanager
async def two_regions() -> AsyncIterator[tuple[OtherRegion, str, OtherRegion, str]]:
    """Each with its address."""
    first, second = OtherRegion(), OtherRegion()
    async with serving_app(first, lifespan="off") as one, serving_app(second, lifespan="off") as two:
        yield first, one.url, second, two.url
