"""An agent host: carries the agents that are called at an endpoint, thousands in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.messages import AgentCall, AgentReply
from cluster.directory import AGENT_ROWS, AgentDirectory
from cluster.domain.agents import Agent, TransportKind
from cluster.domain.errors import AgentUnavailable, ControlPlaneError
from cluster.exchange import ExchangeCall, ExchangeReply, ExchangeServer
from cluster.follower import LogFollower
from cluster.ports import AgentStore, Clock, Doorbell, Log

_logger = logging.getLogger(__name__)

#: Asks the agent's endpoint; raises PeerError.
AskAgent = Callable[[Agent, AgentCall], Awaitable[AgentReply]]


class AgentHost:
    """One semaphore per agent bounds what is asked of it at once."""

    def __init__(self, *, agents: AgentStore, log: Log, doorbell: Doorbell, clock: Clock, ask: AskAgent) -> None:
        self._directory = AgentDirectory(agents)
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._ask = ask
        self._exchange = ExchangeServer(self._handle, self._withdraw, clock)
        self._calls: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._gates: dict[tuple[str, str], tuple[int, asyncio.Semaphore]] = {}
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        cursor = await self._directory.load()
        follower = LogFollower(
            self._log,
            self._doorbell,
            self._clock,
            after=cursor,
            apply=self._directory.apply,
            only=AGENT_ROWS,
            linger_s=0.05,
        )
        self._follower = asyncio.create_task(follower.run())

    async def stop(self) -> None:
        tasks = [*self._calls.values(), *([self._follower] if self._follower else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def exchange(self, call: ExchangeCall) -> ExchangeReply:
        return await self._exchange.call(call)

    async def status(self) -> dict[str, Any]:
        return {"agents": len(list(self._directory.agents())), "calls": len(self._calls)}

    def _handle(self, caller: str, requests: Sequence[tuple[int, Any]]) -> None:
        for number, request in requests:
            task = asyncio.create_task(self._answer(caller, number, request))
            self._calls[caller, number] = task

    def _withdraw(self, caller: str, number: int) -> None:
        task = self._calls.pop((caller, number), None)
        if task is not None:
            task.cancel()

    async def _answer(self, caller: str, number: int, call: AgentCall) -> None:
        answer: AgentReply | ControlPlaneError
        try:
            answer = await self._one(call)
        except ControlPlaneError as error:
            answer = error
        except Exception as error:
            _logger.error("calling agent %s failed", call.agent_id, exc_info=error)
            answer = AgentUnavailable(f"Calling agent {call.agent_id} failed in the control plane.")
        finally:
            self._calls.pop((caller, number), None)
        self._exchange.answer(caller, number, answer)

    async def _one(self, call: AgentCall) -> AgentReply:
        agent = await self._directory.get(call.workspace, call.agent_id)
        if agent is None or agent.transport is TransportKind.PULL:
            raise AgentUnavailable(f"Agent {call.agent_id} has no endpoint to be called at.")
        async with self._gate(agent):
            return await self._ask(agent, call)

    def _gate(self, agent: Agent) -> asyncio.Semaphore:
        key = (agent.workspace, agent.agent_id)
        known = self._gates.get(key)
        if known is None or known[0] != agent.max_concurrency:
            known = self._gates[key] = (agent.max_concurrency, asyncio.Semaphore(agent.max_concurrency))
        return known[1]
