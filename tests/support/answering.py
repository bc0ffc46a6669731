"""Agents as real HTTP servers that speak the plain agent contract."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.probes import eventually
from tests.support.servers import serving_app

#: (agent, the request's body) → text, (status, text), or None to hang until the caller goes away.
Answering = Callable[[str, dict[str, Any]], "str | tuple[int, str] | None"]


def phase_of(body: dict[str, Any]) -> str:
    return str(body["idempotency_key"]).split("/")[1]


def labels_of(body: dict[str, Any]) -> list[str]:
    """What may be answered, where that is a closed set."""
    return list(body["schema"]["properties"].get("answer", {}).get("enum", []))


def reply(answer: Any, **more: Any) -> str:
    return json.dumps({"answer": answer, "rationale": f"because {answer}", "confidence": "high"} | more)


def always(answer: Any) -> Answering:
    """Gives this answer, criticises nothing, votes for the candidate that says the same."""

    def say(agent: str, body: dict[str, Any]) -> str:
        if phase_of(body) == "CRITIQUE":
            return json.dumps({"critiques": []})
        labels = labels_of(body)
        if labels and answer not in labels:
            shown = body["messages"][1]["content"]
            found = re.search(rf'"(?:proposal|candidate)": "(#\d+)"[^\n]*{re.escape(str(answer))}', shown)
            return reply(found.group(1) if found else labels[0])
        return reply(answer)

    return say


class Agents:
    """``calls``: (agent, idempotency key) in the order in which they came."""

    def __init__(self) -> None:
        self.answering: dict[str, Answering] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.delay_s = 0.0
        self.url = ""

    def endpoint(self, agent: str) -> str:
        return f"{self.url}/{agent}"

    async def _handle(self, request: Request) -> Response:
        agent = request.path_params["agent"]
        body = await request.json()
        self.calls.append((agent, body["idempotency_key"]))
        self.bodies.append(body)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        said = self.answering[agent](agent, body)
        if said is None:
            await eventually(request.is_disconnected, timeout_s=600)
            return Response(status_code=499)
        if isinstance(said, tuple):
            return Response(said[1], status_code=said[0])
        return JSONResponse({"text": said, "input_tokens": 100, "output_tokens": 20})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Agents]:
        app = Starlette(routes=[Route("/{agent}", self._handle, methods=["POST"])])
        async with serving_app(app, lifespan="off", timeout_graceful_shutdown=0) as server:
            self.url = f"http://127.0.0.1:{server.port}"
            yield self


def registrations(agents: Agents, *names: str, **changes: Any) -> dict[str, Any]:
    """Body of ``POST /agents/batch``."""
    values: dict[str, Any] = {"capabilities": ["debate"], "model": "m", "transport": "http", "max_concurrency": 4}
    return {"agents": [{"agent_id": name, "endpoint": agents.endpoint(name)} | values | changes for name in names]}
