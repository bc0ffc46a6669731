"""Calls of the API's own routes for whoever made a call of another protocol (MCP, A2A).

Such a call goes the way that a client's call goes, in this process: through the door, the route with its checks, and the place
where words are withheld. To call the routes' functions was rejected, since each of these three would have to be repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.types import ASGIApp, Message

from serve_app.application import PREFIXES
from serve_app.http.body_bounds import replayed

#: What says how the body of the outer call comes, and what is of its protocol alone.
_OF_THE_OUTER: Final = (
    *(b"content-", b"transfer-encoding", b"accept", b"expect", b"idempotency-key"),
    *(b"mcp-", b"a2a-", b"last-event-id"),
)


class Refused(Exception):
    """A route has refused a call, or failed. ``error``: what it has answered, in the shape of all errors."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(error["error"])
        self.status = status
        self.error = error


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes, as the caller of ``request`` may call them. ``app``: what is inside of the layer of that protocol."""

    app: ASGIApp
    request: Request

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer to a GET. Raises: `Refused`."""
        return json.loads(await self.text("GET", path, query))

    async def post(self, path: str, body: Mapping[str, Any] | None = None, key: str | None = None) -> Any:
        """The JSON of an answer to a POST under an idempotency key. Raises: `Refused`."""
        headers = [] if key is None else [(b"idempotency-key", key.encode("ascii"))]
        return json.loads(await self.text("POST", path, headers=headers, body=body))

    async def text(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of an answer. ``path`` is under the API's prefix, and has no character that would need to be quoted.

        Raises: `Refused` if the answer is an error."""
        sent = b"" if body is None else json.dumps(body).encode()
        outer, whole = self.request.scope, PREFIXES[0] + path
        scope = {
            **outer,
            "method": method,
            "path": whole,
            "raw_path": whole.encode("ascii"),
            "query_string": urlencode(query or {}).encode("ascii"),
            "headers": [*_kept(outer["headers"]), *_about(sent), *headers],
            # Who calls was asked already, and the call was counted. What the route notes is its own.
            "state": dict(outer["state"]),
        }
        answer = _Collected()
        await self.app(scope, replayed(sent, self.request.receive), answer.send)
        text = answer.body.decode()
        if answer.status >= 400:
            raise Refused(answer.status, json.loads(text))
        return text


class _Collected:
    """An answer, as it is sent."""

    def __init__(self) -> None:
        self.status = 500
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    return [header for header in headers if not header[0].startswith(_OF_THE_OUTER)]


def _about(body: bytes) -> list[tuple[bytes, bytes]]:
    if not body:
        return []
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
