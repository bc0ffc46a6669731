"""Faults of agents all together on the live protocol: real application, worker, host and transports, agents as HTTP servers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.fold import apply, initial
from tests.support.answering import Agents, phase_of, registrations, reply
from tests.support.api import Api
from tests.support.probes import eventually

PANEL = [f"u{index}" for index in range(7)]
NUMBER = 20
TIMEOUT_S = 6.0
#: What stores may take over the last commits on a busy machine. A call or a round that ignored the deadline would take longer.
OVERRUN_S = 3.0
BUDGET = 8_000


@pytest.fixture
async def agents() -> AsyncIterator[Agents]:
    async with Agents().running() as running:
        yield running


class Lag:
    """How late this process wakes up, at worst: everything runs in it, and what the machine takes is no overrun of ours."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.worst_s = max(self.worst_s, loop.time() - due)


class Unreliable:
    """10 % of the calls hang, 10 % are answered with nonsense, 5 % with a server error, whatever is asked."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()

    def __call__(self, agent: str, body: dict[str, Any]) -> str | tuple[int, str] | None:
        rng = random.Random(body["idempotency_key"])
        roll = rng.random()
        if roll < 0.10:
            self.faults["timeout"] += 1
            return None
        if roll < 0.20:
            self.faults["malformed"] += 1
            return "I would rather not say."
        if roll < 0.25:
            self.faults["server error"] += 1
            return 503, "out of order"
        if phase_of(body) == "CRITIQUE":
            return '{"critiques": []}'
        return reply(rng.choice(["A", "B"]), because="none")


async def test_every_deliberation_ends_in_time_and_within_its_budget(api: Api, agents: Agents) -> None:
    unreliable = Unreliable()
    agents.answering = dict.fromkeys(PANEL, unreliable)
    await api.post("/agents/batch", registrations(agents, *PANEL, max_concurrency=100))
    config = {"options": ["A", "B"], "consensus": "majority", "budget": {"tokens": BUDGET}}
    body = {"content": "Which?", "config": config, "async": True, "timeout_seconds": TIMEOUT_S}
    ids = [f"faults-{number}" for number in range(NUMBER)]
    lag = Lag()
    watching = asyncio.create_task(lag.watch())
    await asyncio.gather(*(api.post("/deliberations", {**body, "request_id": request_id}) for request_id in ids))

    async def all_ended() -> bool:
        return not await api.stores.deliberations.open()

    await eventually(all_ended, timeout_s=60)
    watching.cancel()
    for request_id in ids:
        await _within_time_and_budget(api, request_id, OVERRUN_S + lag.worst_s)
    assert set(unreliable.faults) == {"timeout", "malformed", "server error"}


async def _within_time_and_budget(api: Api, request_id: str, overrun_s: float) -> None:
    deliberation = await api.stores.deliberations.get_any(request_id)
    assert deliberation is not None
    assert deliberation.terminal is not None
    assert deliberation.completed_at is not None
    assert deliberation.completed_at <= deliberation.deadline_at + overrun_s
    state = initial(request_id, Contract.from_json(deliberation.contract), deliberation.admitted_at)
    for event in await api.stores.deliberations.journal(deliberation.workspace, request_id):
        state = apply(state, event.kind, event.data, event.at)
        assert state.ledger.held.tokens <= BUDGET, f"{request_id} after event {event.n}"
    record = await api.get(f"/deliberations/{request_id}")
    assert record["result"]["cost"]["tokens"] == state.ledger.held.tokens
