"""Watches the fleet: reads heartbeats, probes endpoints, and writes changes of liveness and health to the registry.

It is the only writer of both. Whoever acts on a change (the shard that releases leases, the API's copies) learns of it
from the log. Probe histories and breakers are stored, so that a restart changes no verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from actors.agent_expiry import AgentExpiry
from actors.endpoint_probes import PRINCIPAL, EndpointProbes, Probe, Push, or_later, status_changed
from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.agents.breaker import Breaker, CallOutcome, admit, step
from cluster.domain.agents.liveness import (
    DEAF_TIMEOUTS,
    Activity,
    Verdict,
    Watch,
    next_watch,
    sweep,
)
from cluster.domain.base.errors import TryLater
from cluster.domain.base.log import LogRecord, LogRow
from cluster.log.agent_directory import AGENT_ROWS, AgentDirectory, Key
from cluster.log.follower import LogFollower
from cluster.ports.agents import AgentChange, AgentStore
from cluster.ports.breakers import BreakerStore, StoredBreaker
from cluster.ports.clock import Clock
from cluster.ports.log import Log
from cluster.ports.presence import HeartbeatRecord, HeartbeatStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: A heartbeat is written to the registry if it is this much newer than the one written before.
WRITE_BEHIND_S = 60.0
#: Name of the breaker that spares the store of heartbeats.
HEARTBEAT_STORE = "redis"
#: Between two reads of the log.
APART_S = 0.1


class HealthMonitor:
    """A pull agent without a heartbeat for ``timeout_s`` is offline; a sweep looks for such agents every ``sweep_s``. An
    agent that is gone for ``expiry_s`` is deregistered."""

    def __init__(
        self,
        *,
        log: Log,
        doorbell: Doorbell,
        clock: Clock,
        agents: AgentStore,
        breakers: BreakerStore,
        heartbeats: HeartbeatStore,
        probe: Probe,
        push: Push,
        timeout_s: float,
        sweep_s: float,
        expiry_s: float = 86_400.0,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._agents = agents
        self._breakers = breakers
        self._heartbeats = heartbeats
        self._timeout_s = timeout_s
        self._sweep_s = sweep_s
        self._expiry = AgentExpiry(agents, heartbeats, doorbell, expiry_s=expiry_s, principal=PRINCIPAL)
        self._started_at = clock.now()
        # Copy of the registry, kept current by the log.
        self._directory = AgentDirectory(agents)
        # Since when silence counts, and which life of the heartbeat store was read last.
        self._watch = Watch(since=clock.now())
        # The newest heartbeat that was written to the registry, of agents in the last sweep.
        self._written: dict[Key, float] = {}
        # Spares the heartbeat store while it is away; stored, like the agents' breakers.
        self._heartbeat_store = Breaker(name=HEARTBEAT_STORE, threshold=3, reset_s=sweep_s * 2)
        self._loops = Loops(on_fatal)
        #: What probes endpoints.
        self.probes = EndpointProbes(
            directory=self._directory,
            breakers=breakers,
            clock=clock,
            probe=probe,
            push=push,
            change=self._change,
            loops=self._loops,
        )

    async def start(self) -> None:
        self._started_at = self._clock.now()
        self._watch = Watch(since=self._started_at)
        cursor = await self._directory.load()
        await self.probes.load()
        for stored in await self._breakers.load(""):
            if stored.breaker.name == HEARTBEAT_STORE:
                self._heartbeat_store = replace(
                    stored.breaker, threshold=self._heartbeat_store.threshold, reset_s=self._heartbeat_store.reset_s
                )
        follower = LogFollower(
            self._log,
            self._doorbell,
            self._clock,
            after=cursor,
            apply=self._apply,
            only=AGENT_ROWS,
            topics=(WakeTopic.AGENTS,),
            apart_s=APART_S,
        )
        self._loops.start(
            follower.run(),
            self._forever(self.sweep_once, self._sweep_s),
            self.probes.run(),
            self.probes.run_new(),
            self.probes.run_breakers(),
        )

    async def stop(self) -> None:
        await self._loops.stop()

    async def alive(self) -> bool:
        """Whether its loops are running."""
        return self._loops.running

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        await self._directory.apply(rows)
        self.probes.apply(rows)

    async def _forever(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await or_later(work())
            await self._clock.sleep(every_s)

    # --- liveness ------------------------------------------------------------------------------------------------

    async def sweep_once(self) -> None:
        """Judges agents that pull by their heartbeats. Silence counts only if the heartbeat store answers and has not lost
        what it was told."""
        now = self._clock.now()
        pulling = [agent for agent in self._directory.agents() if agent.transport is TransportKind.PULL]
        activity = await self._read_activity(pulling, now)
        if activity is None:
            return
        waiting = await self._breakers.waiting_work(now - self._timeout_s * DEAF_TIMEOUTS)
        verdicts = sweep(
            pulling, activity, waiting, now=now, watching_since=self._watch.since, timeout_s=self._timeout_s
        )
        if verdicts and waiting:
            verdicts = await self._confirmed(verdicts, activity, waiting, now)
        await self._change([self._liveness_change(verdict) for verdict in verdicts])
        await self._write_behind(activity)
        await self._expiry.deregister_expired(
            self._directory.agents(), activity.last, self.probes.history, now=now, watching_since=self._started_at
        )

    async def _confirmed(
        self, verdicts: Sequence[Verdict], activity: Activity, waiting: Any, now: float
    ) -> list[Verdict]:
        """The verdicts, judged again by the agents as they are stored: whether an agent is deaf depends on the tasks that it
        runs, which the copy does not know."""
        keys = [(verdict.workspace, verdict.agent_id) for verdict in verdicts]
        read_again = (await self._agents.get_many(keys)).values()
        return sweep(
            read_again, activity, waiting, now=now, watching_since=self._watch.since, timeout_s=self._timeout_s
        )

    async def _read_activity(self, agents: Iterable[Agent], now: float) -> Activity | None:
        """The heartbeats of agents; None if the heartbeat store does not answer, or its breaker is open."""
        self._heartbeat_store, admitted = admit(self._heartbeat_store, now)
        if not admitted:
            self._watch = next_watch(self._watch, None, now)
            return None
        try:
            life = await self._heartbeats.life()
            activity = await self._activity_of(agents)
        except TryLater as error:
            _logger.warning("heartbeats cannot be read, so no agent is judged by its silence: %s", error)
            self._watch = next_watch(self._watch, None, now)
            await self._store_was(CallOutcome.FAILURE, now)
            return None
        self._watch = next_watch(self._watch, life, now)
        await self._store_was(CallOutcome.SUCCESS, now)
        return activity

    async def _store_was(self, outcome: CallOutcome, now: float) -> None:
        before = self._heartbeat_store
        self._heartbeat_store = step(before, outcome, now)
        if self._heartbeat_store.state is not before.state or outcome is CallOutcome.FAILURE:
            data = {"name": HEARTBEAT_STORE, "state": self._heartbeat_store.state.value}
            record = LogRecord(
                at=now,
                workspace="system",
                kind="breaker.changed",
                entity=HEARTBEAT_STORE,
                principal=PRINCIPAL,
                data=data,
            )
            stored = StoredBreaker(workspace="", agent_id=None, breaker=self._heartbeat_store)
            await self._breakers.save([stored], [record])

    async def _activity_of(self, agents: Iterable[Agent]) -> Activity:
        by_workspace: dict[str, list[str]] = {}
        for agent in agents:
            by_workspace.setdefault(agent.workspace, []).append(agent.agent_id)
        last: dict[Key, float] = {}
        last_activity: dict[Key, float] = {}
        for workspace, ids in by_workspace.items():
            heard = await self._heartbeats.last(workspace, ids)
            last |= {(workspace, agent_id): at for agent_id, at in heard.items()}
            active_at = await self._heartbeats.last_activity(workspace, ids)
            last_activity |= {(workspace, agent_id): at for agent_id, at in active_at.items()}
        return Activity(last=last, last_activity=last_activity)

    async def _write_behind(self, activity: Activity) -> None:
        """Writes heartbeats to the registry now and then, so that a last one is known if Redis loses its own."""
        newer = [
            HeartbeatRecord(workspace=key[0], agent_id=key[1], at=at)
            for key, at in activity.last.items()
            if at - self._written.get(key, 0.0) >= WRITE_BEHIND_S
        ]
        await self._agents.record_heartbeats(newer)
        self._written = {key: self._written.get(key, 0.0) for key in activity.last} | {
            (heartbeat.workspace, heartbeat.agent_id): heartbeat.at for heartbeat in newer
        }

    def _liveness_change(self, verdict: Verdict) -> AgentChange:
        return AgentChange(
            workspace=verdict.workspace,
            agent_id=verdict.agent_id,
            liveness=verdict.now,
            record=status_changed(
                self._clock.now(),
                (verdict.workspace, verdict.agent_id),
                verdict.was.value,
                verdict.now.value,
                verdict.reason,
            ),
        )

    async def _change(self, changes: Sequence[AgentChange]) -> None:
        if changes:
            await self._agents.change(changes)
            await self._doorbell.notify(WakeTopic.AGENTS)
