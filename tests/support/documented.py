"""Every answer that the API gives in a test is compared with the OpenAPI document: status, content type and body.

It is done at the server, so that it does not matter which client asked. Bodies are checked more strictly than the document says:
a field that it does not name is a difference too, or the document would fall behind unnoticed.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.application import PREFIXES, make_app

#: Of a list in an answer, so many entries are checked: the rest were made by the same code.
MOST_ENTRIES = 20


@dataclass(frozen=True, slots=True)
class DocumentedRoute:
    method: str
    path: str
    matches: re.Pattern[str]
    #: By status and content type; None for what is no JSON.
    answers: dict[tuple[int, str], Any]


class Documented:
    """The document, with its schemas compiled."""

    def __init__(self) -> None:
        self.document = make_app().openapi()
        self.error = self._compiled({"$ref": "#/components/schemas/Error"})
        self.frame = self._compiled({"$ref": "#/components/schemas/Frame"})
        # Paths with fewer variables first, as `/tasks/history` is no task.
        paths = sorted(self.document["paths"].items(), key=lambda item: item[0].count("{"))
        self.routes = [
            DocumentedRoute(method.upper(), path, compile_path(path)[0], dict(self._answers(operation)))
            for path, operations in paths
            for method, operation in operations.items()
        ]

    def _answers(self, operation: dict[str, Any]) -> Any:
        for status, response in operation["responses"].items():
            content = self._followed(response).get("content")
            if content is None:  # a redirect
                yield (int(status), ""), None
                continue
            for kind, media in content.items():
                compiled = self._compiled(media["schema"]) if kind == "application/json" else None
                yield (int(status), kind), compiled

    def _followed(self, value: Any) -> Any:
        if not isinstance(value, dict) or "$ref" not in value:
            return value
        found: Any = self.document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found

    def _compiled(self, schema: Any) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator(self._strict(schema))

    def _strict(self, schema: Any) -> Any:
        """The schema with its references written out, which makes checks fast, and no room for fields without a name."""
        schema = self._followed(schema)
        if isinstance(schema, list):
            return [self._strict(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        made = {name: self._strict(value) for name, value in schema.items()}
        if "properties" in made:
            made.setdefault("additionalProperties", False)
        return made

    def route(self, method: str, path: str) -> DocumentedRoute | None:
        if path.startswith(PREFIXES[1]):
            path = PREFIXES[0] + path.removeprefix(PREFIXES[1])
        found = [route for route in self.routes if route.matches.match(path)]
        return next((route for route in found if route.method == method), None)

    def difference(self, method: str, path: str, status: int, kind: str, body: bytes) -> str:
        """What is sent and not documented; empty if nothing is."""
        kind = kind.partition(";")[0]
        route = self.route(method, path)
        if route is None:
            return self._outside(status, kind, body)
        if (status, kind) not in route.answers:
            return f"{status} {kind or 'without a content type'} is not documented: {body[:200]!r}"
        compiled = route.answers[status, kind]
        if compiled is not None:
            return _problem(compiled, body)
        return "; ".join(filter(None, map(self.frame_difference, _events(body)))) if "event-stream" in kind else ""

    def _outside(self, status: int, kind: str, body: bytes) -> str:
        """Of a path or a method that is not in the document."""
        if status < 400:
            return "" if kind != "application/json" or b'"openapi"' in body[:20] else "the route is not documented"
        return _problem(self.error, body)

    def frame_difference(self, text: str | bytes) -> str:
        return _problem(self.frame, text)


def _events(body: bytes) -> list[bytes]:
    return [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]


def _problem(compiled: jsonschema.Draft202012Validator, body: str | bytes) -> str:
    try:
        value = _shortened(json.loads(body))
    except ValueError:
        return f"the body is not JSON: {body[:200]!r}"
    error = next(compiled.iter_errors(value), None)
    return "" if error is None else f"{error.json_path}: {error.message[:400]}"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: item[:MOST_ENTRIES] if isinstance(item, list) else item for name, item in value.items()}
    return value


@functools.cache
def documented() -> Documented:
    return Documented()


#: Of protocols of their own, whose clients check what they get.
_OTHER_PROTOCOLS = ("/mcp", "/a2a", "/a2a/keys", "/.well-known/agent-card.json")


@dataclass(slots=True)
class Witness:
    """Wraps the application and keeps what it sends beyond its document."""

    app: ASGIApp
    differences: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: dict[str, Any] = {}
        body: list[bytes] = []

        async def witnessed(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.append(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, witnessed)
        finally:
            if start and scope["method"] not in ("HEAD", "OPTIONS") and scope["path"] not in _OTHER_PROTOCOLS:
                self._compare(scope, start, b"".join(body))

    def _compare(self, scope: Scope, start: dict[str, Any], body: bytes) -> None:
        kind = next((value.decode() for name, value in start["headers"] if name.lower() == b"content-type"), "")
        declared = next(
            (int(value) for name, value in start["headers"] if name.lower() == b"content-length"), len(body)
        )
        if declared != len(body):
            return  # the client has hung up
        self._note(scope, documented().difference(scope["method"], scope["path"], start["status"], kind, body))

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def witnessed(message: Message) -> None:
            if message["type"] == "websocket.send":
                self._note(scope, documented().frame_difference(message.get("text") or b""))
            await send(message)

        await self.app(scope, receive, witnessed)

    def _note(self, scope: Scope, difference: str) -> None:
        if difference:
            self.differences.append(f"{scope.get('method', 'WebSocket')} {scope['path']}: {difference}")
