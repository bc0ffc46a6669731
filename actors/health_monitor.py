"""Watches the fleet: sweeps signs of life, probes endpoints, writes what changed to the registry.

Whoever acts on a change (the shard that releases leases, the API's copies) learns of it from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cluster.directory import AGENT_ROWS, AgentDirectory
from cluster.domain.agents import Agent, Health, TransportKind
from cluster.domain.errors import PeerError, TryLater
from cluster.domain.liveness import ProbeHistory, Verdict, probed, sweep
from cluster.domain.log import LogRecord
from cluster.domain.metrics import Increment
from cluster.follower import LogFollower
from cluster.ports import AgentChange, AgentStore, Clock, Doorbell, Heartbeats, Log

_logger = logging.getLogger(__name__)

PRINCIPAL = "system:health-monitor"
PROBE_INTERVAL_S = 30.0
PROBES_AT_ONCE = 50

#: Answers the latency in seconds, raises PeerError when the endpoint is not well.
Probe = Callable[[Agent], Awaitable[float]]
Push = Callable[[Sequence[Increment]], Awaitable[Any]]


class HealthMonitor:
    """``timeout_s`` without a sign of life is offline; a sweep runs every ``sweep_s``."""

    def __init__(
        self,
        *,
        log: Log,
        doorbell: Doorbell,
        clock: Clock,
        agents: AgentStore,
        heartbeats: Heartbeats,
        probe: Probe,
        push: Push,
        timeout_s: float,
        sweep_s: float,
    ) -> None:
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._agents = agents
        self._heartbeats = heartbeats
        self._probe = probe
        self._push = push
        self._timeout_s = timeout_s
        self._sweep_s = sweep_s
        self._directory = AgentDirectory(agents)
        self._history: dict[tuple[str, str], ProbeHistory] = {}
        self._running: list[asyncio.Task[None]] = []
        self._watching_since = 0.0

    async def start(self) -> None:
        self._watching_since = self._clock.now()
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
        self._running = [
            asyncio.create_task(follower.run()),
            asyncio.create_task(self._forever(self.sweep_once, self._sweep_s)),
            asyncio.create_task(self._forever(self.probe_once, PROBE_INTERVAL_S)),
        ]

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _forever(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await work()
            except TryLater as error:
                _logger.warning("the fleet cannot be watched now, will try again: %s", error)
            await self._clock.sleep(every_s)

    async def sweep_once(self) -> None:
        agents = list(self._directory.agents())
        seen: dict[tuple[str, str], float] = {}
        by_workspace: dict[str, list[str]] = {}
        for agent in agents:
            by_workspace.setdefault(agent.workspace, []).append(agent.agent_id)
        for workspace, ids in by_workspace.items():
            for agent_id, at in (await self._heartbeats.last(workspace, ids)).items():
                seen[workspace, agent_id] = at
        verdicts = sweep(
            agents,
            seen,
            now=self._clock.now(),
            watching_since=self._watching_since,
            timeout_s=self._timeout_s,
        )
        if verdicts:
            await self._agents.change([self._liveness_change(verdict) for verdict in verdicts])
            await self._doorbell.ring()

    def _liveness_change(self, verdict: Verdict) -> AgentChange:
        data = {
            "agent_id": verdict.agent_id,
            "old_status": verdict.was.value,
            "new_status": verdict.now.value,
            "reason": "no sign of life" if verdict.now.value == "offline" else "signs of life",
        }
        return AgentChange(
            workspace=verdict.workspace,
            agent_id=verdict.agent_id,
            liveness=verdict.now,
            record=self._record(verdict.workspace, verdict.agent_id, data),
        )

    def _record(self, workspace: str, agent_id: str, data: dict[str, Any]) -> LogRecord:
        return LogRecord(
            at=self._clock.now(),
            workspace=workspace,
            kind="agent.status_changed",
            entity=agent_id,
            principal=PRINCIPAL,
            data=data,
        )

    async def alive(self) -> bool:
        """Whether its loops run."""
        return all(not task.done() for task in self._running)

    async def probe_once(self) -> None:
        pushed = [agent for agent in self._directory.agents() if agent.transport is not TransportKind.PULL]
        gate = asyncio.Semaphore(PROBES_AT_ONCE)

        async def one(agent: Agent) -> tuple[Agent, bool, float]:
            async with gate:
                try:
                    return agent, True, await self._probe(agent)
                except PeerError:
                    return agent, False, 0.0

        outcomes = await asyncio.gather(*(one(agent) for agent in pushed))
        changes = [change for outcome in outcomes if (change := self._judge(*outcome)) is not None]
        if changes:
            await self._agents.change(changes)
            await self._doorbell.ring()
        if outcomes:
            await self._push([_counted(ok) for _, ok, _ in outcomes])

    def _judge(self, agent: Agent, ok: bool, latency_s: float) -> AgentChange | None:
        key = (agent.workspace, agent.agent_id)
        before = self._history.get(key) or ProbeHistory(health=agent.health)
        after = self._history[key] = probed(before, ok, latency_s)
        if after.health is agent.health:
            return None
        data = {
            "agent_id": agent.agent_id,
            "old_status": agent.health.value,
            "new_status": after.health.value,
            "reason": "probe",
        }
        return AgentChange(
            workspace=agent.workspace,
            agent_id=agent.agent_id,
            health=after.health,
            record=self._record(agent.workspace, agent.agent_id, data),
        )


def _counted(ok: bool) -> Increment:
    status = Health.HEALTHY.value if ok else "unhealthy"
    return Increment(name="aragora_cp_agent_health_checks_total", labels=(status,))
