"""Calls of agents within their slots, their rate and their breaker. What breakers learn is stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from cluster.domain.agents.agent import Agent
from cluster.domain.agents.breaker import Breaker, BreakerState, CallOutcome, admit, agent_breaker, postponed, step
from cluster.domain.agents.calls import Reply
from cluster.domain.agents.options import Rate
from cluster.domain.agents.token_bucket import TokenBucket, refund, take
from cluster.domain.base.errors import (
    AgentLimited,
    AgentMalformed,
    AgentNotCalled,
    AgentTimeout,
    AgentUnavailable,
    ControlPlaneError,
)
from cluster.domain.base.log import HOST_PRINCIPAL, LogRecord
from cluster.domain.tasks.retries import MAX_RETRY_AFTER_S
from cluster.log.agent_directory import Key
from cluster.ports.agent_transport import Ask
from cluster.ports.breakers import BreakerStore, StoredBreaker
from cluster.ports.clock import Clock
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import ended

_logger = logging.getLogger(__name__)

#: How long a leased task waits for a slot of its agent that a deliberation's call has taken meanwhile.
SLOT_WAIT_S = 5.0

#: Asks the agent over its transport; raises PeerError.
AskAgent = Callable[[Ask], Awaitable[Reply]]
#: Returns when a call may leave the region; raises AgentNotCalled.
MayLeave = Callable[[], Awaitable[None]]


class BoundedCalls:
    """``changed`` is told whose breaker has changed, or has one trial less."""

    def __init__(
        self,
        *,
        breakers: BreakerStore,
        clock: Clock,
        ask: AskAgent,
        changed: Callable[[Key], None],
        may_leave: MayLeave | None = None,
    ) -> None:
        self._store_of_breakers = breakers
        self._clock = clock
        self._ask = ask
        self._changed = changed
        #: None in a region alone, whose calls wait for no other.
        self._may_leave = may_leave
        #: The slots of each agent that was called, with their number. Another number makes another semaphore; an agent that
        #: is deregistered loses its own.
        self._gates: dict[Key, tuple[int, asyncio.Semaphore]] = {}
        #: The token bucket of each agent with a rate, and the option that it was made from: another rate makes another
        #: bucket. Removed when the agent is deregistered.
        self._buckets: dict[Key, tuple[Rate, TokenBucket]] = {}
        #: The breaker of each agent that was called. `load` reads what was stored, calls change it, and what they learn is
        #: stored. Removed when the agent is deregistered.
        self._breakers: dict[Key, Breaker] = {}
        #: Changes of breakers on their way to the store: one commit stores the latest of each agent.
        self._saving: GroupCommit[tuple[StoredBreaker, LogRecord], None] = GroupCommit(self._save)
        #: The tasks that wait for these commits. No call waits for them; `stop` cancels what is left.
        self._saves: set[asyncio.Task[None]] = set()

    async def load(self, only: Key | None) -> None:
        """Reads the breakers of all agents, or of ``only`` one. Raises: `StoreUnavailable`."""
        for stored in await self._store_of_breakers.load():
            if stored.agent_id is not None and only in (None, (stored.workspace, stored.agent_id)):
                self._breakers[stored.workspace, stored.agent_id] = stored.breaker
                self._changed((stored.workspace, stored.agent_id))

    async def stop(self) -> None:
        await ended(*self._saves)

    def breaker(self, key: Key) -> Breaker | None:
        """None for an agent that was never called."""
        return self._breakers.get(key)

    def forget(self, key: Key) -> None:
        """Forgets all of an agent that was deregistered."""
        self._gates.pop(key, None)
        self._buckets.pop(key, None)
        self._breakers.pop(key, None)

    def registered_again(self, key: Key) -> None:
        """Forgets when an agent wanted to be called again: that was its former server, or its operator knows better."""
        known = self._breakers.get(key)
        if known is not None and known.retry_at is not None:
            self._note(key, replace(known, retry_at=None))

    async def call(self, agent: Agent, ask: Ask, *, may_wait: bool = False) -> Reply:
        """Calls the agent within its slots, its rate and its breaker. Waiting for them takes from the call's own time.

        ``may_wait``: a call that the agent wants later waits for that within its time. A task does not: while it waited, it
        would hold a lease and run out of time, so it is given back."""
        started = self._clock.now()

        def left_s() -> float:
            return max(0.001, ask.timeout_s - (self._clock.now() - started))

        async with self._slot(
            agent, ask.timeout_s if may_wait else min(ask.timeout_s / 2, SLOT_WAIT_S), given_up=not may_wait
        ):
            await self._wait_for_rate(agent, left_s())
            if may_wait:
                await self._wait_for_its_time(agent, left_s())
            if self._may_leave is not None:
                await self._may_leave()
            return await self._guarded(agent, replace(ask, timeout_s=left_s()))

    @contextlib.asynccontextmanager
    async def _slot(self, agent: Agent, timeout_s: float, *, given_up: bool) -> AsyncIterator[None]:
        """One of the agent's slots. The time to wait for it ends here, not around the call: a call whose time is over would
        be cancelled from outside then, which the breaker cannot tell from one that was withdrawn. ``given_up``: the asker then
        gives its task back, rather than fail it for a call that was never made."""
        gate = self._gate(agent)
        try:
            async with asyncio.timeout(timeout_s):
                await gate.acquire()
        except TimeoutError:
            error = AgentNotCalled if given_up else AgentTimeout
            raise error(f"Agent {agent.agent_id} had no slot free within {timeout_s:.1f} s.") from None
        try:
            yield
        finally:
            gate.release()

    def _gate(self, agent: Agent) -> asyncio.Semaphore:
        key = (agent.workspace, agent.agent_id)
        known = self._gates.get(key)
        if known is None or known[0] != agent.max_concurrency:
            known = self._gates[key] = (agent.max_concurrency, asyncio.Semaphore(agent.max_concurrency))
        return known[1]

    async def _wait_for_rate(self, agent: Agent, timeout_s: float) -> None:
        key, rate, now = (agent.workspace, agent.agent_id), agent.options.rate, self._clock.now()
        if rate is None:
            return
        known = self._buckets.get(key)
        bucket = known[1] if known is not None and known[0] == rate else TokenBucket.of(rate, now)
        bucket, wait_s = take(bucket, now)
        if wait_s > timeout_s:
            self._buckets[key] = (rate, refund(bucket))
            raise AgentNotCalled(f"Agent {agent.agent_id} is called as often as its rate allows.", None, wait_s)
        self._buckets[key] = (rate, bucket)
        if wait_s > 0:
            await self._clock.sleep(wait_s)

    async def _wait_for_its_time(self, agent: Agent, timeout_s: float) -> None:
        """Waits until the agent wants to be called, if it has said so and that is within ``timeout_s``; else the breaker
        refuses the call."""
        breaker, now = self._breakers.get((agent.workspace, agent.agent_id)), self._clock.now()
        if breaker is None or breaker.retry_at is None:
            return
        if now < breaker.may_call_at(now) == breaker.retry_at < now + timeout_s:
            await self._clock.sleep(breaker.retry_at - now)

    def _admit(self, agent: Agent) -> None:
        """Raises: `AgentNotCalled` if the agent may not be called now."""
        key, now = (agent.workspace, agent.agent_id), self._clock.now()
        breaker = self._breakers.get(key) or Breaker(name=agent_breaker(agent.agent_id))
        self._breakers[key], admitted = admit(breaker, now)
        if self._breakers[key] is not breaker:  # half open: one trial less
            self._changed(key)
        if not admitted:
            may_at = breaker.may_call_at(now)
            why = "it wants to be called later" if may_at == breaker.retry_at else "its last calls failed"
            wait_s = may_at - now if may_at > now else None
            raise AgentNotCalled(f"Agent {agent.agent_id} is not called: {why}.", None, wait_s)

    async def _guarded(self, agent: Agent, ask: Ask) -> Reply:
        """Calls the agent if its breaker admits the call. Only an agent that is unavailable or silent counts as a failure: a
        wrong answer, an error or a refusal shows that it works. An agent that takes no more calls for now shows neither."""
        key = (agent.workspace, agent.agent_id)
        self._admit(agent)
        outcome = CallOutcome.SUCCESS
        retry_after_s: float | None = None
        try:
            async with asyncio.timeout(ask.timeout_s):
                return await self._ask(ask)
        except TimeoutError:
            outcome = CallOutcome.FAILURE
            raise AgentTimeout(f"Agent {agent.agent_id} did not answer within {ask.timeout_s:.1f} s.") from None
        except AgentLimited as busy:
            outcome, retry_after_s = CallOutcome.WITHDRAWN, busy.retry_after_s
            raise
        except AgentUnavailable as away:
            outcome, retry_after_s = CallOutcome.FAILURE, away.retry_after_s
            raise
        except AgentTimeout:
            outcome = CallOutcome.FAILURE
            raise
        except asyncio.CancelledError:
            outcome = CallOutcome.WITHDRAWN
            raise
        except AgentMalformed as odd:
            raise AgentMalformed(f"Agent {agent.agent_id}: {odd.message}") from odd
        finally:
            self._learned(key, outcome, retry_after_s)

    def _learned(self, key: Key, outcome: CallOutcome, retry_after_s: float | None) -> None:
        before, now = self._breakers.get(key), self._clock.now()
        if before is None:
            return
        after = step(before, outcome, now)
        if retry_after_s is not None:
            after = postponed(after, now + min(retry_after_s, MAX_RETRY_AFTER_S))
        unchanged = outcome is CallOutcome.SUCCESS and before.state is BreakerState.CLOSED and before.failures == 0
        if unchanged or (outcome is CallOutcome.WITHDRAWN and after.retry_at == before.retry_at):
            self._breakers[key] = after
            self._changed(key)
        else:
            self._note(key, after)

    def _note(self, key: Key, after: Breaker) -> None:
        """Keeps and stores what a breaker has become, and lets the claims of its agent follow."""
        self._breakers[key] = after
        self._changed(key)
        data: dict[str, Any] = {"agent_id": key[1], "name": after.name, "state": after.state.value}
        data |= {"failure_count": after.failures, "retry_at": after.retry_at}
        record = LogRecord(
            at=self._clock.now(),
            workspace=key[0],
            kind="breaker.changed",
            entity=key[1],
            principal=HOST_PRINCIPAL,
            data=data,
        )
        stored = StoredBreaker(workspace=key[0], agent_id=key[1], breaker=after)
        task = asyncio.create_task(self._store(stored, record))
        self._saves.add(task)
        task.add_done_callback(self._saves.discard)

    async def _store(self, breaker: StoredBreaker, record: LogRecord) -> None:
        try:
            await self._saving.put((breaker, record))
        except ControlPlaneError as error:
            _logger.warning("the breaker of agent %s could not be stored: %s", breaker.agent_id, error)

    async def _save(self, items: Sequence[tuple[StoredBreaker, LogRecord]]) -> Sequence[None]:
        latest = {(stored.workspace, stored.breaker.name): (stored, record) for stored, record in items}
        breakers = [stored for stored, _ in latest.values()]
        await self._store_of_breakers.save(breakers, [record for _, record in latest.values()])
        return [None] * len(items)


def ask_of(agent: Agent, key: str, timeout_s: float) -> Ask:
    """What every call says of its agent. ``key`` names the call for it, ``timeout_s`` is how long it may take."""
    return Ask(
        transport=agent.transport,
        endpoint=agent.endpoint or "",
        model=agent.model,
        messages=(),
        schema={},
        max_tokens=0,
        timeout_s=timeout_s,
        key=key,
        agent_id=agent.agent_id,
        options=agent.options,
        revision=agent.updated_at,
        credential=agent.credential,
    )
