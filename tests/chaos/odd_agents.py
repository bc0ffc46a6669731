"""Called agents that answer garbage among their answers: a real HTTP server, and tasks that go to it.

Which answer a call gets is drawn from the run's seed. Every task ends, whatever it was answered, and nobody else notices.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.endpoints import serving

AGENTS = ("odd-0", "odd-1")
#: JSON to Python that no store holds, JSON that is no answer, and bodies that are no JSON.
_BODIES = (
    '{"result": NaN}',
    '{"result": -Infinity}',
    '{"result": 1e999}',
    '{"result": ' + "9" * 5000 + "}",
    '{"result": "\\ud800"}',
    '{"result": {"\\udfff": 1}}',
    '{"error": "\\u0000"}',
    '{"error": "half \\ud83d"}',
    '{"error": null}',
    '{"result": ' + "[" * 300 + "]" * 300 + "}",
    "[" * 5000,
    "null",
    "5",
    '"words"',
    '{"result": ',
    "",
    "<html><body>Bad gateway</body></html>",
)
_STATUSES = (400, 404, 422, 429, 500, 501, 502, 503, 504)
#: None that asks for a long wait: that would be granted, and the run would wait too.
_RETRY_AFTER = ("soon", "-1", "nan", "", "0.5", "Wed, 21 Oct 2015 07:28:00 GMT")


def draw(rng: random.Random) -> httpx.Response:
    """Half of the answers are good."""
    kind = rng.random()
    if kind < 0.5:
        return httpx.Response(200, json={"result": {"n": rng.randrange(1000)}})
    if kind < 0.8:
        return httpx.Response(200, content=rng.choice(_BODIES).encode(), headers={"content-type": "application/json"})
    headers = {"retry-after": rng.choice(_RETRY_AFTER)} if rng.random() < 0.5 else {}
    return httpx.Response(rng.choice(_STATUSES), content=rng.choice(_BODIES).encode(), headers=headers)


@asynccontextmanager
async def odd_agents(seed: int) -> AsyncIterator[dict[str, Any]]:
    """Serves the agents, and yields the body of ``POST /agents/batch`` that registers them."""
    rng = random.Random(f"{seed}/odd-agents")

    def answer(request: Any) -> httpx.Response:
        return httpx.Response(200) if request.method == "GET" else draw(rng)

    async with serving(answer) as url:
        agents = [
            {"agent_id": agent, "capabilities": ["odd"], "endpoint": f"{url}/{agent}", "max_concurrency": 4}
            for agent in AGENTS
        ]
        yield json.loads(json.dumps({"agents": agents}))
