"""A deliberation worker in a process of its own, without Ray: ``python -m bench.parts.deliberate SCHEMA INDEX WORKERS``.

Agents are functions that answer at once or after a delay. Everything else is the product's: admission, journal, protocol
and aggregation, on a real store.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from typing import Any

from actors.deliberation.worker import DeliberationWorker
from bench.parts.loop import Handlers, run
from cluster.domain.agents.agent import NewAgent, TransportKind
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.base.errors import AgentTimeout, AgentUnavailable
from cluster.domain.base.ids import sortable_id
from cluster.domain.base.log import Origin, record_for
from cluster.domain.deliberation.answers import AnswerKind, AnswerType
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.fold import apply, initial
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.learning.weight_learner import Learner, owners_from
from cluster.ports.agents import RegisterItem
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from cluster.process.memory import settle_memory
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell

ORIGIN = Origin(workspace="bench", principal="user:bench")
AGENTS = ("one", "two", "three")
ROUNDS = 3
CALLS = len(AGENTS) * (1 + 2 * ROUNDS)
_CRITIQUE = json.dumps({"critiques": []})
_ANSWER = json.dumps({"answer": "Postgres", "rationale": "It is there.", "confidence": "high"})


def contract(timeout_s: float, budget_tokens: int | None = None) -> Contract:
    """A contract of 21 calls: every agent answers, then criticises and revises three times."""
    return Contract(
        question="Which database should the team use?",
        answer_type=AnswerType(kind=AnswerKind.CHOICE, options=("Postgres", "Redis")),
        agents=AGENTS,
        rounds=ROUNDS,
        debate_on="always",
        timeout_s=timeout_s,
        budget_tokens=budget_tokens,
    )


def _fault(call: AgentCall) -> str:
    """The fault of a call, always the same for one call: 10 % hang, 10 % answer nonsense, 5 % fail with a server error."""
    roll = random.Random(call.key).random()
    return "hang" if roll < 0.10 else "nonsense" if roll < 0.20 else "error" if roll < 0.25 else ""


async def _nobody_asked(request: Any) -> Any:
    raise AssertionError("nobody is asked here")


class Engine:
    def __init__(self, stores: Stores, bell: RedisDoorbell, index: int, workers: int) -> None:
        self.stores = stores
        self.bell = bell
        self.delay_s = 0.0
        self.faulty = False
        self.calls = 0
        self.cpu = 0.0
        self.worker = DeliberationWorker(
            name="bench",
            index=index,
            workers=workers,
            store=stores.deliberations,
            agents=stores.agents,
            tasks=stores.tasks,
            workspaces=stores.access,
            weights=Learner(stores.outcomes, owners_from(stores.agents), SystemClock()),
            log=stores.log,
            doorbell=bell,
            clock=SystemClock(),
            call_agent=self.call,
            shard=_nobody_asked,
            region="default",
        )

    async def start(self) -> None:
        now = time.time()
        await self.stores.agents.register(
            [
                RegisterItem(
                    agent=NewAgent(
                        agent_id=agent_id,
                        origin=ORIGIN,
                        registered_at=now,
                        capabilities=("deliberation",),
                        transport=TransportKind.HTTP,
                        endpoint="http://127.0.0.1:9/",
                        max_concurrency=10_000,
                    ),
                    record=record_for(ORIGIN, now, "agent.registered", agent_id),
                )
                for agent_id in AGENTS
            ]
        )
        await self.worker.start()

    async def call(self, call: AgentCall) -> Reply:
        self.calls += 1
        fault = _fault(call) if self.faulty else ""
        if fault == "hang":
            await asyncio.sleep(call.timeout_s)
            raise AgentTimeout("no answer")
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if fault == "error":
            raise AgentUnavailable("503")
        if fault == "nonsense":
            return Reply(text="I would rather not say.", tokens=50, input_tokens=40, output_tokens=10)
        text = _CRITIQUE if call.key.split("/")[1] == "CRITIQUE" else _ANSWER
        return Reply(text=text, tokens=50, input_tokens=40, output_tokens=10)

    async def expect(self, delay_s: float, faulty: bool = False) -> dict[str, Any]:
        """Sets how agents behave, and counts calls and CPU from here on."""
        self.delay_s, self.faulty, self.calls, self.cpu = delay_s, faulty, 0, time.process_time()
        return {}

    async def spent(self) -> dict[str, Any]:
        return {"cpu": time.process_time() - self.cpu, "calls": self.calls}

    async def deliberate(
        self, total: int, timeout_s: float = 300.0, budget_tokens: int | None = None
    ) -> dict[str, Any]:
        """Admits deliberations for all workers, and returns when the last one has ended."""
        agreed = contract(timeout_s, budget_tokens)
        document, digest = agreed.to_json(), agreed.digest()
        started = time.perf_counter()
        for first in range(0, total, 100):
            await self.stores.deliberations.admit(
                [self._new(document, digest, timeout_s) for _ in range(first, min(first + 100, total))]
            )
            await self.bell.notify(WakeTopic.DELIBERATIONS)
        while await self._open():  # noqa: ASYNC110 - other processes end deliberations too, so there is no event to wait for
            await asyncio.sleep(0.02)
        return {"seconds": time.perf_counter() - started}

    async def kept_to(self) -> dict[str, Any]:
        """Checks the deliberations of this schema: how late they ended, and whether an event ever exceeded a budget."""
        rows = await self.stores.pool.rows(
            "select request_id, terminal, completed_at - deadline_at as late from deliberations"
        )
        breaches = 0
        for row in rows:
            stored = await self.stores.deliberations.get_any(row["request_id"])
            assert stored is not None
            state = initial(stored.request_id, Contract.from_json(stored.contract), stored.admitted_at)
            over = False
            for event in await self.stores.deliberations.journal(stored.workspace, stored.request_id):
                state = apply(state, event.kind, event.data, event.at)
                over = over or not state.ledger.budget.holds(state.ledger.held)
            breaches += over
        return {
            "late_ms": max(row["late"] for row in rows) * 1000,
            "breaches": breaches,
            "open": sum(row["terminal"] is None for row in rows),
            "ends": Counter(row["terminal"] for row in rows),
        }

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
    settle_memory()
    return {"expect": engine.expect, "deliberate": engine.deliberate, "spent": engine.spent, "kept_to": engine.kept_to}


if __name__ == "__main__":
    run(make)
