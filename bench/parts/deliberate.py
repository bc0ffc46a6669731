"""A deliberation worker in a process of its own, without Ray: ``python -m bench.parts.deliberate SCHEMA INDEX WORKERS``.

Agents are functions that answer at once, or after a delay; everything else is the product's: admission, journal, protocol,
aggregation, on a real store.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from actors.deliberation import DeliberationWorker
from actors.messages import AgentCall, AgentReply
from bench.parts.loop import Handlers, run
from cluster.clock import SystemClock
from cluster.domain.agents import NewAgent, TransportKind
from cluster.domain.deliberation.answers import AnswerKind, AnswerType
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberations import NewDeliberation
from cluster.domain.ids import sortable_id
from cluster.domain.log import Origin
from cluster.learner import Learner, owners_from
from cluster.ports import RegisterItem, record_for
from cluster.postgres.stores import Stores, open_stores
from cluster.redis.doorbell import RedisDoorbell
from cluster.redis.pool import connect

ORIGIN = Origin(workspace="bench", principal="user:bench")
AGENTS = ("one", "two", "three")
ROUNDS = 3
CALLS = len(AGENTS) * (1 + 2 * ROUNDS)
_CRITIQUE = json.dumps({"critiques": []})
_ANSWER = json.dumps({"answer": "Postgres", "rationale": "It is there.", "confidence": "high"})


def contract(timeout_s: float) -> Contract:
    """Every agent answers, then criticises and revises three times: 21 calls."""
    return Contract(
        question="Which database should the team use?",
        answer_type=AnswerType(kind=AnswerKind.CHOICE, options=("Postgres", "Redis")),
        agents=AGENTS,
        rounds=ROUNDS,
        debate_on="always",
        timeout_s=timeout_s,
    )


class Engine:
    def __init__(self, stores: Stores, bell: RedisDoorbell, index: int, workers: int) -> None:
        self.stores = stores
        self.bell = bell
        self.delay_s = 0.0
        self.calls = 0
        self.cpu = 0.0
        self.worker = DeliberationWorker(
            name="bench",
            index=index,
            workers=workers,
            store=stores.deliberations,
            agents=stores.agents,
            weights=Learner(stores.outcomes, owners_from(stores.agents), SystemClock()),
            log=stores.log,
            doorbell=bell,
            clock=SystemClock(),
            call_agent=self.call,
        )

    async def start(self) -> None:
        now = time.time()
        await self.stores.agents.register(
            [
                RegisterItem(
                    agent=NewAgent(
                        agent_id=one,
                        origin=ORIGIN,
                        registered_at=now,
                        capabilities=("deliberation",),
                        transport=TransportKind.HTTP,
                        endpoint="http://127.0.0.1:9/",
                        max_concurrency=10_000,
                    ),
                    record=record_for(ORIGIN, now, "agent.registered", one),
                )
                for one in AGENTS
            ]
        )
        await self.worker.start()

    async def call(self, call: AgentCall) -> AgentReply:
        self.calls += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        text = _CRITIQUE if call.key.split("/")[1] == "CRITIQUE" else _ANSWER
        return AgentReply(text=text, tokens=50, input_tokens=40, output_tokens=10)

    async def expect(self, delay_s: float) -> dict[str, Any]:
        """What comes next is counted from here."""
        self.delay_s, self.calls, self.cpu = delay_s, 0, time.process_time()
        return {}

    async def spent(self) -> dict[str, Any]:
        return {"cpu": time.process_time() - self.cpu, "calls": self.calls}

    async def deliberate(self, total: int) -> dict[str, Any]:
        """Admits all at once, for whichever worker they belong to; ends when the last has its decision."""
        timeout_s = 300.0
        agreed = contract(timeout_s)
        document, digest = agreed.to_json(), agreed.digest()
        started = time.perf_counter()
        for first in range(0, total, 100):
            await self.stores.deliberations.admit(
                [self._new(document, digest, timeout_s) for _ in range(first, min(first + 100, total))]
            )
            await self.bell.ring()
        while await self._open():  # noqa: ASYNC110 - what ends them is another process's business too
            await asyncio.sleep(0.02)
        return {"seconds": time.perf_counter() - started}

    def _new(self, document: dict[str, Any], digest: bytes, timeout_s: float) -> NewDeliberation:
        now = time.time()
        return NewDeliberation(
            request_id=sortable_id("delib", now, os.urandom(10)),
            task_id=sortable_id("task", now, os.urandom(10)),
            origin=ORIGIN,
            admitted_at=now,
            deadline_at=now + timeout_s,
            contract=document,
            contract_digest=digest,
            mode="async",
        )

    async def _open(self) -> int:
        return int(await self.stores.pool.value("select count(*) from deliberations where terminal is null"))


async def make() -> Handlers:
    schema, index, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    stores = await open_stores(os.environ["BENCH_DATABASE_URL"], schema, "bench", max_connections=4)
    engine = Engine(stores, RedisDoorbell(connect(os.environ["BENCH_REDIS_URL"]), schema), index, workers)
    await engine.start()
    return {"expect": engine.expect, "deliberate": engine.deliberate, "spent": engine.spent}


if __name__ == "__main__":
    run(make)
