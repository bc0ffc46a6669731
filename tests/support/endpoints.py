"""Real HTTP servers that play agents' endpoints and providers."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.support.servers import serving_app


@contextlib.asynccontextmanager
async def serving(answer: Callable[[Request], Any]) -> AsyncIterator[str]:
    """The base URL of a server on loopback. ``answer`` gives an httpx.Response, one of Starlette's (whose bytes go out as they
    are), an iterator of chunks (a stream of server-sent events), or a coroutine of any; the request's body has been read."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        value = answer(request)
        value = await value if inspect.isawaitable(value) else value
        response: Response
        if isinstance(value, httpx.Response):
            headers = {k: v for k, v in value.headers.items() if k not in ("content-length", "content-type")}
            media = value.headers.get("content-type")
            response = Response(value.content, value.status_code, headers, media)
        elif isinstance(value, Response):
            response = value
        else:
            response = StreamingResponse(value, media_type="text/event-stream")
        await response(scope, receive, send)

    async with serving_app(application, lifespan="off") as server:
        yield server.url


def completion(text: str, **changes: Any) -> httpx.Response:
    value = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return httpx.Response(200, json=value | changes)


def a2a_server(url: list[str], result: Any) -> Any:
    """An agent card and JSON-RPC, as A2A 1.0 has them. ``url`` holds the server's own, once it is known."""
    card = {
        "name": "Agent",
        "description": "An agent.",
        "version": "1",
        "capabilities": {},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [],
    }

    async def answer(request: Any) -> httpx.Response:
        if request.url.path == "/.well-known/agent-card.json":
            interface = {"url": f"{url[0]}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            return httpx.Response(200, json=card | {"supportedInterfaces": [interface]})
        body = json.loads(await request.body())
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "result": result(body)})

    return answer
