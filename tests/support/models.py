"""Language models behind an OpenAI-compatible endpoint, that say what the test wants them to say."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.api import Api
from tests.support.servers import serving_app

#: (model, last message) → text, now or later.
Says = Callable[[str, str], str | Awaitable[str]]


def vote(choice: str, rationale: str = "because") -> str:
    return json.dumps({"answer": choice, "rationale": rationale, "confidence": "high"})


@contextlib.asynccontextmanager
async def models(says: Says) -> AsyncIterator[str]:
    """The base URL."""

    async def complete(request: Request) -> JSONResponse:
        body: dict[str, Any] = await request.json()
        said = says(body["model"], body["messages"][-1]["content"])
        text = await said if inspect.isawaitable(said) else said
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return JSONResponse({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    async with serving_app(app) as server:
        yield f"http://127.0.0.1:{server.port}/v1"


async def register(api: Api, endpoint: str, *agents: str) -> None:
    """Agents whose model has their name."""
    for agent in agents:
        await api.post(
            "/agents",
            {
                "agent_id": agent,
                "capabilities": ["deliberation"],
                "transport": "openai",
                "endpoint": endpoint,
                "model": agent,
                "max_concurrency": 32,
            },
        )
