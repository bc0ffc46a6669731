"""A deliberation worker without Ray: real stores, agents as functions of this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from actors.deliberation.worker import DeliberationWorker
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.deliberation.config import make_contract
from cluster.domain.deliberation.stored import Deliberation, NewDeliberation
from cluster.learning.weight_learner import Learner, owners_from
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from cluster.redis.wake_ups import RedisDoorbell
from tests.support.probes import eventually
from tests.support.samples import ASKER, registration

#: What an agent makes of a call. Raises PeerError.
Agent = Callable[[AgentCall], Awaitable[str]]


def phase_of(call: AgentCall) -> str:
    return call.key.split("/")[1]


def saying(answer: Any) -> Agent:
    async def agent(call: AgentCall) -> str:
        if phase_of(call) == "CRITIQUE":
            return '{"critiques": []}'
        return json.dumps({"answer": answer, "rationale": f"because {answer}", "confidence": "high"})

    return agent


async def _no_shard(request: Any) -> Any:
    raise AssertionError(f"no shard was expected to be asked {request!r}")


class Workshop:
    """``calls``: the key of every call that reached an agent."""

    def __init__(self, stores: Stores, bell: RedisDoorbell) -> None:
        self.stores = stores
        self.bell = bell
        self.clock = SystemClock()
        self.agents: dict[str, Agent] = {}
        self.calls: list[str] = []
        self.tokens = 100
        #: What the scheduler shard does with a request; where nobody is asked, none comes.
        self.shard: Callable[[Any], Awaitable[Any]] = _no_shard
        self._generation = 0

    async def register(self, **agents: Agent) -> None:
        self.agents.update(agents)
        await self.stores.agents.register([registration(name, capabilities=("debate",)) for name in agents])

    async def call_agent(self, call: AgentCall) -> Reply:
        self.calls.append(call.key)
        text = await self.agents[call.agent_id](call)
        half = self.tokens // 2
        return Reply(text=text, tokens=self.tokens, input_tokens=half, output_tokens=self.tokens - half)

    def worker(self, store: Any = None) -> DeliberationWorker:
        """Another one, that has not been started."""
        self._generation += 1
        return DeliberationWorker(
            name=f"worker-{self._generation}",
            index=0,
            workers=1,
            store=store or self.stores.deliberations,
            agents=self.stores.agents,
            tasks=self.stores.tasks,
            workspaces=self.stores.access,
            weights=Learner(self.stores.outcomes, owners_from(self.stores.agents), self.clock),
            log=self.stores.log,
            doorbell=self.bell,
            clock=self.clock,
            call_agent=self.call_agent,
            shard=self.shard,
            region="default",
        )

    def admission(self, request_id: str, timeout_s: float = 60.0, **config: Any) -> NewDeliberation:
        agreed = make_contract(
            question="Which?",
            decision_type="debate",
            config=config,
            required_capabilities=("deliberation",),
            timeout_s=timeout_s,
            seed="seed",
        )
        now = self.clock.now()
        return NewDeliberation(
            request_id=request_id,
            task_id=request_id,
            origin=ASKER,
            admitted_at=now,
            deadline_at=now + agreed.timeout_s,
            contract=agreed.to_json(),
            contract_digest=agreed.digest(),
            mode="async",
        )

    async def admit(self, *items: NewDeliberation) -> None:
        await self.stores.deliberations.admit(items)
        await self.bell.notify(*WakeTopic)

    async def ended(self, request_id: str, timeout_s: float = 30.0) -> Deliberation:
        async def over() -> Deliberation | None:
            deliberation = await self.stores.deliberations.get_any(request_id)
            return deliberation if deliberation is not None and deliberation.terminal is not None else None

        found: Deliberation = await eventually(over, timeout_s=timeout_s, what=f"the end of {request_id}")
        return found


async def run_all(shop: Workshop, items: list[NewDeliberation], timeout_s: float = 60.0) -> list[Deliberation]:
    worker = shop.worker()
    await worker.start()
    try:
        await shop.admit(*items)
        await eventually(lambda: _none_open(shop), timeout_s=timeout_s, what="all of them to end")
    finally:
        await worker.stop()
    return [
        deliberation
        for item in items
        if (deliberation := await shop.stores.deliberations.get_any(item.request_id)) is not None
    ]


async def _none_open(shop: Workshop) -> bool:
    await asyncio.sleep(0.02)
    return not await shop.stores.deliberations.open()
