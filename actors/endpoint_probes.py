"""Probes endpoints of agents, and writes their health to the registry. A part of the health monitor."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cluster.domain.agents.agent import Agent, Liveness, TransportKind
from cluster.domain.agents.breaker import Breaker, BreakerState
from cluster.domain.agents.endpoint_health import ProbeHistory, judge, probed
from cluster.domain.base.errors import AgentTimeout, PeerError, TryLater
from cluster.domain.base.log import LogRecord, LogRow
from cluster.domain.metrics import Increment
from cluster.log.agent_directory import AgentDirectory, Key
from cluster.ports.agents import AgentChange
from cluster.ports.breakers import BreakerStore, StoredProbe
from cluster.ports.clock import Clock
from cluster.process.loops import Loops

_logger = logging.getLogger(__name__)

PRINCIPAL = "system:health-monitor"
PROBE_INTERVAL_S = 30.0
#: So many, because endpoints that hang hold their probes for long.
PROBES_AT_ONCE = 200
#: The agents are probed in so many parts, evenly over the interval: thousands of probes at a time would slow down the rest.
PROBE_STEPS = 30
#: How often the breakers are read that agent hosts opened.
BREAKERS_S = 5.0

#: Returns the latency in seconds. Raises: ``PeerError`` if the endpoint is not healthy.
Probe = Callable[[Agent], Awaitable[float]]
Push = Callable[[Sequence[Increment]], Awaitable[Any]]
Change = Callable[[Sequence[AgentChange]], Awaitable[None]]


class EndpointProbes:
    """``change`` writes what changes to the registry, ``push`` counts probes, and ``loops`` run what probes at once."""

    def __init__(
        self,
        *,
        directory: AgentDirectory,
        breakers: BreakerStore,
        clock: Clock,
        probe: Probe,
        push: Push,
        change: Change,
        loops: Loops,
    ) -> None:
        self._directory = directory
        self._breakers = breakers
        self._clock = clock
        self._probe = probe
        self._push = push
        self._change = change
        self._loops = loops
        # Probes of each agent with an endpoint: read at the start, changed and stored with every probe, dropped when the
        # agent is deregistered.
        self.history: dict[Key, ProbeHistory] = {}
        # Which of the ``PROBE_STEPS`` parts was probed last.
        self._probe_step = 0
        self._probe_slots = asyncio.Semaphore(PROBES_AT_ONCE)
        # Agents whose regular probe has not ended: they are not probed again before it has.
        self._probing: set[Key] = set()
        # Breakers of agents that were not closed at the last look. An agent that is no longer in it is judged once more.
        self._open: dict[Key, Breaker] = {}
        # Agents that registered and have not been probed for the first time; the event wakes the loop that does it.
        self._new: set[Key] = set()
        self._new_arrived = asyncio.Event()

    async def load(self) -> None:
        """Reads what is stored of probes. Agents that are starting are probed first."""
        self.history = await self._breakers.probes()
        self._new = {_key(agent) for agent in self._directory.agents() if agent.liveness is Liveness.STARTING}
        self._new_arrived.set()

    def apply(self, rows: Sequence[LogRow]) -> None:
        """Takes rows of agents, which the directory has by now."""
        for row in rows:
            if row.kind == "agent.registered":
                self._new.add((row.workspace, row.entity))
                self._new_arrived.set()
            elif row.kind == "agent.unregistered":
                self.history.pop((row.workspace, row.entity), None)

    async def run(self) -> None:
        """Starts the probes of each part at its time, without waiting for the part before: endpoints that hang delay no
        other probes."""
        while True:
            self._loops.start(or_later(self.probe_some()))
            await self._clock.sleep(PROBE_INTERVAL_S / PROBE_STEPS)

    async def probe_some(self) -> None:
        """Probes the next part of the agents, without those whose last probe has not ended. ``PROBE_STEPS`` calls probe all
        agents."""
        self._probe_step = (self._probe_step + 1) % PROBE_STEPS
        agents = [agent for agent in self._directory.agents() if _has_endpoint(agent)]
        mine = {_key(agent): agent for agent in agents if _probe_step(agent) == self._probe_step}
        due = {key: agent for key, agent in mine.items() if key not in self._probing}
        self._probing |= due.keys()
        try:
            await self.probe_these(list(due.values()))
        finally:
            self._probing -= due.keys()

    async def run_new(self) -> None:
        """Probes a new endpoint at once, because its agent is starting until the first good probe."""
        while True:
            await self._new_arrived.wait()
            self._new_arrived.clear()
            new, self._new = self._new, set()
            found = [agent for key in new if (agent := self._directory.known(*key)) is not None]
            self._loops.start(or_later(self.probe_these([agent for agent in found if _has_endpoint(agent)])))

    async def probe_these(self, agents: Sequence[Agent]) -> None:
        async def probe_agent(agent: Agent) -> tuple[Agent, ProbeHistory, str]:
            key = _key(agent)
            before = self.history.get(key) or ProbeHistory(health=agent.health)
            async with self._probe_slots:
                try:
                    latency_s = await self._probe(agent)
                except PeerError as error:
                    outcome = "timeout" if isinstance(error, AgentTimeout) else "unhealthy"
                    return agent, probed(before, False, 0.0, self._clock.now(), error.message[:500]), outcome
                return agent, probed(before, True, latency_s, self._clock.now()), "healthy"

        outcomes = await asyncio.gather(*(probe_agent(agent) for agent in agents))
        if not outcomes:
            return
        self.history |= {_key(agent): history for agent, history, _ in outcomes}
        await self._breakers.save_probes(
            [
                StoredProbe(workspace=agent.workspace, agent_id=agent.agent_id, history=history)
                for agent, history, _ in outcomes
            ]
        )
        await self._change([change for agent, _, _ in outcomes if (change := self._judge(agent)) is not None])
        await self._push([_counted(outcome) for _, _, outcome in outcomes])

    async def look_at_breakers(self) -> None:
        """Judges agents by the breakers that hosts opened while calling them: a failed call counts as much as a probe."""
        now = self._clock.now()
        found = {
            (stored.workspace, stored.agent_id): stored.breaker
            for stored in await self._breakers.load()
            if stored.agent_id is not None and stored.breaker.state_at(now) is not BreakerState.CLOSED
        }
        concerned = {*found, *self._open}
        self._open = found
        agents = [agent for key in concerned if (agent := self._directory.known(*key)) is not None]
        await self._change([change for agent in agents if (change := self._judge(agent)) is not None])

    async def run_breakers(self) -> None:
        """Looks at the breakers that hosts opened, now and then."""
        while True:
            await or_later(self.look_at_breakers())
            await self._clock.sleep(BREAKERS_S)

    def _judge(self, agent: Agent) -> AgentChange | None:
        key = _key(agent)
        now = self._clock.now()
        verdict = judge(agent, self.history.get(key), self._open.get(key), now)
        if verdict is None:
            return None
        return AgentChange(
            workspace=agent.workspace,
            agent_id=agent.agent_id,
            health=verdict.health,
            liveness=verdict.liveness,
            record=status_changed(now, key, agent.health.value, verdict.health.value, verdict.reason),
        )


async def or_later(work: Awaitable[None]) -> None:
    """Awaits work that is repeated anyway: a store that is away is not its end."""
    try:
        await work
    except TryLater as error:
        _logger.warning("agents cannot be watched now, will try again: %s", error)


def status_changed(now: float, key: Key, old: str, new: str, reason: str) -> LogRecord:
    """The row of an agent whose liveness or health has changed."""
    return LogRecord(
        at=now,
        workspace=key[0],
        kind="agent.status_changed",
        entity=key[1],
        principal=PRINCIPAL,
        data={"agent_id": key[1], "old_status": old, "new_status": new, "reason": reason},
    )


def _key(agent: Agent) -> Key:
    return agent.workspace, agent.agent_id


def _has_endpoint(agent: Agent) -> bool:
    return agent.transport not in (TransportKind.PULL, TransportKind.IMPORT)


def _counted(outcome: str) -> Increment:
    return Increment(name="aragora_cp_agent_health_checks_total", labels=(outcome,))


def _probe_step(agent: Agent) -> int:
    return zlib.crc32(f"{agent.workspace}\x1f{agent.agent_id}".encode()) % PROBE_STEPS
