"""Questions of deliberations to the agents of a host: workers ask over the exchange, and one call of the agent answers each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from actors.agents.bounded_calls import BoundedCalls, ask_of
from actors.agents.pull_calls import PullCalls
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.base.errors import AgentUnavailable, ControlPlaneError, Misrouted
from cluster.log.agent_directory import AgentDirectory, Key
from cluster.ports.clock import Clock
from cluster.process.loops import ended
from cluster.process.traces import traced
from cluster.rpc.exchange import ExchangeServer

_logger = logging.getLogger(__name__)

#: A caller of the exchange without a parked call for this long is forgotten. One that was only slow asks again.
CALLER_SILENT_S = 10.0
HOUSEKEEPING_S = 1.0
#: How often a question asks an agent that is unavailable: a deliberation does not put it again, as a task's retries would.
QUESTION_TRIES = 3


class Questions:
    """``dedicated``: whether the host is one agent's own actor. ``changed`` hears when an agent has more or fewer free slots."""

    def __init__(
        self,
        *,
        directory: AgentDirectory,
        bounds: BoundedCalls,
        pull_calls: PullCalls,
        clock: Clock,
        dedicated: bool,
        changed: Callable[[Key], None],
    ) -> None:
        self._directory = directory
        self._bounds = bounds
        self._pull_calls = pull_calls
        self._clock = clock
        self._dedicated = dedicated
        self._changed = changed
        #: Where workers ask.
        self.exchange = ExchangeServer(self._handle, self._withdraw, clock)
        #: Calls under way for deliberation workers, by (caller, correlation number). `_handle` adds one; `_over` removes it
        #: at its end, `_withdraw` before.
        self._calls: dict[tuple[str, int], asyncio.Task[None]] = {}
        #: How many calls of deliberations have a slot of an agent or wait for one. `ask` counts; an agent without any has no
        #: entry. Tasks are claimed for the other slots only.
        self._asks: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def asked(self, agent: Key) -> int:
        """How many slots of an agent questions have or wait for."""
        return self._asks.get(agent, 0)

    async def stop(self) -> None:
        """Ends the calls under way."""
        await ended(*self._calls.values())

    async def withdraw_abandoned(self) -> None:
        """Withdraws the calls of deliberation workers that have died, since nobody waits for their answers: that frees the
        agents' slots and cancels pull calls."""
        while True:
            await self._clock.sleep(HOUSEKEEPING_S)
            for caller in self.exchange.expired(CALLER_SILENT_S):
                for number in [number for name, number in self._calls if name == caller]:
                    self._withdraw(caller, number)

    def _handle(self, caller: str, requests: Sequence[tuple[int, Any]]) -> None:
        for number, request in requests:
            task = self._calls[caller, number] = asyncio.create_task(self._answer(caller, number, request))
            task.add_done_callback(lambda ended, key=(caller, number): self._over(key, ended))  # type: ignore[misc]

    def _over(self, key: tuple[str, int], ended: asyncio.Task[None]) -> None:
        """Forgets a call that has ended. A caller that was forgotten may ask again under the same number: its new call stays."""
        if self._calls.get(key) is ended:
            del self._calls[key]

    def _withdraw(self, caller: str, number: int) -> None:
        """Cancels a call and answers it nevertheless, because the caller's exchange waits for an answer to it."""
        task = self._calls.pop((caller, number), None)
        if task is not None:
            task.cancel()
            self.exchange.answer(caller, number, AgentUnavailable("The call was withdrawn."))

    async def _answer(self, caller: str, number: int, call: AgentCall) -> None:
        answer: Reply | ControlPlaneError
        with traced(call.cause):
            try:
                answer = await self.ask(call)
            except ControlPlaneError as error:
                answer = error
            except Exception as error:
                _logger.error("calling agent %s failed", call.agent_id, exc_info=error)
                answer = AgentUnavailable(f"Calling agent {call.agent_id} failed in the control plane.")
        self.exchange.answer(caller, number, answer)

    async def ask(self, call: AgentCall) -> Reply:
        """One call of the agent. Raises: `PeerError`; `Misrouted` if another actor owns the agent."""
        agent = await self._directory.get(call.workspace, call.agent_id)
        if agent is None:
            raise AgentUnavailable(f"Agent {call.agent_id} is not registered.")
        if (agent.dedicated is not None) != self._dedicated:
            raise Misrouted(f"Agent {call.agent_id} has moved to another actor; try again in a moment.")
        if agent.transport is TransportKind.PULL:
            return await self._pull_calls.ask(agent, call)
        ask = replace(ask_of(agent, call.key, call.timeout_s), tries=QUESTION_TRIES)
        key = (agent.workspace, agent.agent_id)
        self._asks[key] = self._asks.get(key, 0) + 1
        self._changed(key)
        try:
            return await self._bounds.call(
                agent,
                replace(ask, messages=call.messages, schema=call.schema, max_tokens=call.max_tokens),
                may_wait=True,
            )
        finally:
            self._asks[key] -= 1
            if self._asks[key] == 0:
                del self._asks[key]
            self._changed(key)
