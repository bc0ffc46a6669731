"""Watches the fleet: reads heartbeats, probes endpoints, and writes changes of liveness and health to the registry.

It is the only writer of both. Whoever acts on a change (the shard that releases leases, the API's copies) learns of it
from the log. Probe histories and breakers are stored, so that a restart changes no verdict.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from actors.agent_expiry import AgentExpiry
from cluster.domain.agents.agent import Agent, Health, Liveness, TransportKind
from cluster.domain.agents.breaker import Breaker, BreakerState, CallOutcome, admit, step
from cluster.domain.agents.liveness import (
    DEAF_TIMEOUTS,
    Activity,
    ProbeHistory,
    Verdict,
    Watch,
    next_watch,
    probed,
    sweep,
)
from cluster.domain.base.errors import AgentTimeout, PeerError, TryLater
from cluster.domain.base.log import LogRecord, LogRow
from cluster.domain.metrics import Increment
from cluster.log.agent_directory import AGENT_ROWS, AgentDirectory, Key
from cluster.log.follower import LogFollower
from cluster.ports.agents import AgentChange, AgentStore
from cluster.ports.breakers import BreakerStore, StoredBreaker, StoredProbe
from cluster.ports.clock import Clock
from cluster.ports.log import Log
from cluster.ports.presence import HeartbeatRecord, HeartbeatStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

PRINCIPAL = "system:health-monitor"
PROBE_INTERVAL_S = 30.0
#: So many, because endpoints that hang hold their probes for long.
PROBES_AT_ONCE = 200
#: The agents are probed in so many parts, evenly over the interval: thousands of probes at a time would slow down the rest.
PROBE_STEPS = 30
#: A heartbeat is written to the registry if it is this much newer than the one written before.
WRITE_BEHIND_S = 60.0
#: How often the breakers are read that agent hosts opened.
BREAKERS_S = 5.0
#: Name of the breaker that spares the store of heartbeats.
HEARTBEAT_STORE = "redis"
#: Between two reads of the log.
APART_S = 0.1

#: Returns the latency in seconds. Raises: ``PeerError`` if the endpoint is not healthy.
Probe = Callable[[Agent], Awaitable[float]]
Push = Callable[[Sequence[Increment]], Awaitable[Any]]


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
        self._probe = probe
        self._push = push
        self._timeout_s = timeout_s
        self._sweep_s = sweep_s
        self._expiry = AgentExpiry(agents, heartbeats, doorbell, expiry_s=expiry_s, principal=PRINCIPAL)
        self._started_at = clock.now()
        # Copy of the registry, kept current by the log.
        self._directory = AgentDirectory(agents)
        # Since when silence counts, and which life of the heartbeat store was read last.
        self._watch = Watch(since=clock.now())
        # Probes of each agent with an endpoint: read at the start, changed and stored with every probe, dropped when the
        # agent is deregistered.
        self._history: dict[Key, ProbeHistory] = {}
        # Which of the ``PROBE_STEPS`` parts was probed last.
        self._probe_step = 0
        self._probe_slots = asyncio.Semaphore(PROBES_AT_ONCE)
        # Agents whose regular probe has not ended: they are not probed again before it has.
        self._probing: set[Key] = set()
        # Breakers of agents that were not closed at the last look. An agent that is no longer in it is judged once more.
        self._open: dict[Key, Breaker] = {}
        # The newest heartbeat that was written to the registry, of agents in the last sweep.
        self._written: dict[Key, float] = {}
        # Spares the heartbeat store while it is away; stored, like the agents' breakers.
        self._heartbeat_store = Breaker(name=HEARTBEAT_STORE, threshold=3, reset_s=sweep_s * 2)
        # Agents that registered and have not been probed for the first time; the event wakes the loop that does it.
        self._new: set[Key] = set()
        self._new_arrived = asyncio.Event()
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._started_at = self._clock.now()
        self._watch = Watch(since=self._started_at)
        cursor = await self._directory.load()
        self._history = await self._breakers.probes()
        for stored in await self._breakers.load(""):
            if stored.breaker.name == HEARTBEAT_STORE:
                self._heartbeat_store = replace(
                    stored.breaker, threshold=self._heartbeat_store.threshold, reset_s=self._heartbeat_store.reset_s
                )
        self._new = {
            (agent.workspace, agent.agent_id)
            for agent in self._directory.agents()
            if agent.liveness is Liveness.STARTING
        }
        self._new_arrived.set()
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
            self._probe_forever(),
            self._forever(self.look_at_breakers, BREAKERS_S),
            self._probe_new_forever(),
        )

    async def stop(self) -> None:
        await self._loops.stop()

    async def alive(self) -> bool:
        """Whether its loops are running."""
        return self._loops.running

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        await self._directory.apply(rows)
        for row in rows:
            if row.kind == "agent.registered":
                self._new.add((row.workspace, row.entity))
                self._new_arrived.set()
            elif row.kind == "agent.unregistered":
                self._history.pop((row.workspace, row.entity), None)

    async def _forever(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await _or_later(work())
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
            self._directory.agents(), activity.last, self._history, now=now, watching_since=self._started_at
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
        reasons = {Liveness.OFFLINE: "no sign of life", Liveness.SUSPECT: "signs of life are late"}
        reasons |= {Liveness.DEAF: "takes no work that is offered"}
        return AgentChange(
            workspace=verdict.workspace,
            agent_id=verdict.agent_id,
            liveness=verdict.now,
            record=self._record(
                (verdict.workspace, verdict.agent_id),
                verdict.was.value,
                verdict.now.value,
                reasons.get(verdict.now, "signs of life"),
            ),
        )

    def _record(self, key: Key, old: str, new: str, reason: str) -> LogRecord:
        return LogRecord(
            at=self._clock.now(),
            workspace=key[0],
            kind="agent.status_changed",
            entity=key[1],
            principal=PRINCIPAL,
            data={"agent_id": key[1], "old_status": old, "new_status": new, "reason": reason},
        )

    async def _change(self, changes: Sequence[AgentChange]) -> None:
        if changes:
            await self._agents.change(changes)
            await self._doorbell.notify(WakeTopic.AGENTS)

    # --- health --------------------------------------------------------------------------------------------------

    async def _probe_forever(self) -> None:
        """Starts the probes of each part at its time, without waiting for the part before: endpoints that hang delay no
        other probes."""
        while True:
            self._loops.start(_or_later(self.probe_some()))
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
            await self._probe_these(list(due.values()))
        finally:
            self._probing -= due.keys()

    async def _probe_new_forever(self) -> None:
        """Probes a new endpoint at once, because its agent is starting until the first good probe."""
        while True:
            await self._new_arrived.wait()
            self._new_arrived.clear()
            new, self._new = self._new, set()
            found = [agent for key in new if (agent := self._directory.known(*key)) is not None]
            self._loops.start(_or_later(self._probe_these([agent for agent in found if _has_endpoint(agent)])))

    async def _probe_these(self, agents: Sequence[Agent]) -> None:
        async def probe_agent(agent: Agent) -> tuple[Agent, ProbeHistory, str]:
            key = _key(agent)
            before = self._history.get(key) or ProbeHistory(health=agent.health)
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
        self._history |= {_key(agent): history for agent, history, _ in outcomes}
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

    def _judge(self, agent: Agent) -> AgentChange | None:
        """The change to the worse health of what probes and calls show; None if nothing changes."""
        key = _key(agent)
        history = self._history.get(key)
        health = history.health if history is not None else agent.health
        breaker = self._open.get(key)
        if breaker is not None:
            open_now = breaker.state_at(self._clock.now()) is BreakerState.OPEN
            health = Health.FAILED if open_now or health is Health.FAILED else Health.DEGRADED
        starts = agent.liveness is Liveness.STARTING and history is not None and history.successes > 0
        if health is agent.health and not starts:
            return None
        reason = "calls failed" if breaker is not None else "probe"
        return AgentChange(
            workspace=agent.workspace,
            agent_id=agent.agent_id,
            health=health,
            liveness=Liveness.ALIVE if starts else None,
            record=self._record(key, agent.health.value, health.value, reason),
        )


async def _or_later(work: Awaitable[None]) -> None:
    try:
        await work
    except TryLater as error:
        _logger.warning("agents cannot be watched now, will try again: %s", error)


def _key(agent: Agent) -> Key:
    return agent.workspace, agent.agent_id


def _has_endpoint(agent: Agent) -> bool:
    return agent.transport not in (TransportKind.PULL, TransportKind.IMPORT)


def _counted(outcome: str) -> Increment:
    return Increment(name="aragora_cp_agent_health_checks_total", labels=(outcome,))


def _probe_step(agent: Agent) -> int:
    return zlib.crc32(f"{agent.workspace}\x1f{agent.agent_id}".encode()) % PROBE_STEPS
