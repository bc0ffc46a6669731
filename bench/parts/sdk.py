"""The released SDK, unmodified, one call per step: ``python -m bench.parts.sdk URL AGENT``."""

from __future__ import annotations

import sys
import time
from typing import Any

from aragora_sdk import AragoraClient

from bench.parts.loop import Handlers, run

URL, AGENT = sys.argv[1], sys.argv[2]
client = AragoraClient(URL)


async def product(rounds: int) -> dict[str, Any]:
    """Submit, claim, complete."""
    api = client.control_plane
    started = time.perf_counter()
    for _ in range(rounds):
        api.create_task(task_type="noop", payload={})
        task = api.claim_task(agent_id=AGENT, block_ms=20_000)["task"]
        api.complete_task(task["id"])
    return {"seconds": time.perf_counter() - started}


async def noop(rounds: int) -> dict[str, Any]:
    """The same number of calls with the same bodies, to routes that do nothing."""
    started = time.perf_counter()
    for _ in range(rounds):
        client.request("POST", "/bench/submit", json={"task_type": "noop", "payload": {}})
        client.request("POST", "/bench/claim", json={"agent_id": AGENT, "block_ms": 20_000})
        client.request("POST", "/bench/complete")
    return {"seconds": time.perf_counter() - started}


async def make() -> Handlers:
    client.control_plane.register_agent(agent_id=AGENT, capabilities=[])
    return {"product": product, "noop": noop}


if __name__ == "__main__":
    run(make)
