"""Watches the fleet: sweeps signs of life, probes endpoints, writes what changed to the registry.

The one writer of liveness and health. Whoever acts on a change (the shard that releases leases, the API's copies)
learns of it from the log. What it remembers is in the store, so that a restart changes no verdict.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from cluster.domain.agents.agent import Agent, Health, Liveness, TransportKind
from cluster.domain.agents.breaker import Breaker, BreakerState, Outcome, admit, step
from cluster.domain.agents.liveness import (
    DEAF_TIMEOUTS,
    Activity,
    ProbeHistory,
    Verdict,
    Watch,
    look,
    probed,
    sweep,
)
from cluster.domain.base.errors import PeerError, TryLater
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
#: Those of endpoints that hang may be many of them.
PROBES_AT_ONCE = 200
#: Parts in which the agents are probed, evenly over the interval: thousands at a time would be felt by everything else.
PROBE_STEPS = 30
#: Signs of life are written behind when they are this much newer than what is stored.
WRITE_BEHIND_S = 60.0
#: Breakers that agents' hosts opened are looked at this often.
BREAKERS_S = 5.0
HEARTBEAT_STORE = "redis"
APART_S = 0.1

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
        breakers: BreakerStore,
        heartbeats: HeartbeatStore,
        probe: Probe,
        push: Push,
        timeout_s: float,
        sweep_s: float,
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
        self._directory = AgentDirectory(agents)
        self._watch = Watch(since=clock.now())
        self._history: dict[Key, ProbeHistory] = {}
        self._probe_step = 0
        self._gate = asyncio.Semaphore(PROBES_AT_ONCE)
        self._probing: set[Key] = set()
        self._open: dict[Key, Breaker] = {}
        self._written: dict[Key, float] = {}
        self._heartbeat_store = Breaker(name=HEARTBEAT_STORE, threshold=3, reset_s=sweep_s * 2)
        self._new: set[Key] = set()
        self._new_arrived = asyncio.Event()
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._watch = Watch(since=self._clock.now())
        cursor = await self._directory.load()
        self._history = await self._breakers.probes()
        for one in await self._breakers.load(""):
            if one.breaker.name == HEARTBEAT_STORE:
                self._heartbeat_store = replace(
                    one.breaker, threshold=self._heartbeat_store.threshold, reset_s=self._heartbeat_store.reset_s
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
            self._greet_forever(),
        )

    async def stop(self) -> None:
        await self._loops.stop()

    async def alive(self) -> bool:
        """Whether its loops run."""
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
        """Silence is judged only by a store of signs that answers and is the one that was told."""
        now = self._clock.now()
        pulling = [agent for agent in self._directory.agents() if agent.transport is TransportKind.PULL]
        activity = await self._read_activity(pulling, now)
        if activity is None:
            return
        offers = await self._breakers.offers(now - self._timeout_s * DEAF_TIMEOUTS)
        verdicts = sweep(
            pulling, activity, offers, now=now, watching_since=self._watch.since, timeout_s=self._timeout_s
        )
        if verdicts and offers:
            verdicts = await self._confirmed(verdicts, activity, offers, now)
        await self._change([self._liveness_change(verdict) for verdict in verdicts])
        await self._write_behind(activity)

    async def _confirmed(
        self, verdicts: Sequence[Verdict], activity: Activity, offers: Any, now: float
    ) -> list[Verdict]:
        """Deafness depends on load, which the copy does not know: judged again over the stored agents."""
        keys = [(verdict.workspace, verdict.agent_id) for verdict in verdicts]
        read_again = (await self._agents.get_many(keys)).values()
        return sweep(read_again, activity, offers, now=now, watching_since=self._watch.since, timeout_s=self._timeout_s)

    async def _read_activity(self, agents: Iterable[Agent], now: float) -> Activity | None:
        """None while the store of signs is away; its breaker spares it while it is."""
        self._heartbeat_store, admitted = admit(self._heartbeat_store, now)
        if not admitted:
            self._watch = look(self._watch, None, now)
            return None
        try:
            life = await self._heartbeats.life()
            activity = await self._activity_of(agents)
        except TryLater as error:
            _logger.warning("signs of life cannot be read, nobody is judged by silence: %s", error)
            self._watch = look(self._watch, None, now)
            await self._store_was(Outcome.FAILURE, now)
            return None
        self._watch = look(self._watch, life, now)
        await self._store_was(Outcome.SUCCESS, now)
        return activity

    async def _store_was(self, outcome: Outcome, now: float) -> None:
        before = self._heartbeat_store
        self._heartbeat_store = step(before, outcome, now)
        if self._heartbeat_store.state is not before.state or outcome is Outcome.FAILURE:
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
            last |= {(workspace, one): at for one, at in (await self._heartbeats.last(workspace, ids)).items()}
            last_activity |= {
                (workspace, one): at for one, at in (await self._heartbeats.last_activity(workspace, ids)).items()
            }
        return Activity(last=last, last_activity=last_activity)

    async def _write_behind(self, activity: Activity) -> None:
        """Durable facts of what Redis holds: good enough to answer from when it has lost them."""
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
        """Each part when its time has come: endpoints that hang delay the probes of no others."""
        while True:
            self._loops.start(_or_later(self.probe_some()))
            await self._clock.sleep(PROBE_INTERVAL_S / PROBE_STEPS)

    async def probe_some(self) -> None:
        """Those whose turn it is and whose last probe has ended; all of them in ``PROBE_STEPS`` calls."""
        self._probe_step = (self._probe_step + 1) % PROBE_STEPS
        agents = [agent for agent in self._directory.agents() if _has_endpoint(agent)]
        mine = {_key(agent): agent for agent in agents if _probe_step(agent) == self._probe_step}
        due = {key: agent for key, agent in mine.items() if key not in self._probing}
        self._probing |= due.keys()
        try:
            await self._probe_these(list(due.values()))
        finally:
            self._probing -= due.keys()

    async def _greet_forever(self) -> None:
        """A new endpoint is probed at once: until its first good probe the agent is starting."""
        while True:
            await self._new_arrived.wait()
            self._new_arrived.clear()
            new, self._new = self._new, set()
            found = [agent for key in new if (agent := self._directory.known(*key)) is not None]
            self._loops.start(_or_later(self._probe_these([agent for agent in found if _has_endpoint(agent)])))

    async def _probe_these(self, agents: Sequence[Agent]) -> None:
        async def one(agent: Agent) -> tuple[Agent, ProbeHistory]:
            key = _key(agent)
            before = self._history.get(key) or ProbeHistory(health=agent.health)
            async with self._gate:
                try:
                    latency_s = await self._probe(agent)
                except PeerError as error:
                    return agent, probed(before, False, 0.0, self._clock.now(), error.message[:500])
                return agent, probed(before, True, latency_s, self._clock.now())

        outcomes = await asyncio.gather(*(one(agent) for agent in agents))
        if not outcomes:
            return
        self._history |= {_key(agent): history for agent, history in outcomes}
        await self._breakers.save_probes(
            [
                StoredProbe(workspace=agent.workspace, agent_id=agent.agent_id, history=history)
                for agent, history in outcomes
            ]
        )
        await self._change([change for agent, _ in outcomes if (change := self._judge(agent)) is not None])
        await self._push([_counted(history.error is None) for _, history in outcomes])

    async def look_at_breakers(self) -> None:
        """What the hosts found out while calling agents counts as much as a probe."""
        now = self._clock.now()
        found = {
            (one.workspace, one.agent_id): one.breaker
            for one in await self._breakers.load()
            if one.agent_id is not None and one.breaker.state_at(now) is not BreakerState.CLOSED
        }
        concerned = {*found, *self._open}
        self._open = found
        agents = [agent for key in concerned if (agent := self._directory.known(*key)) is not None]
        await self._change([change for agent in agents if (change := self._judge(agent)) is not None])

    def _judge(self, agent: Agent) -> AgentChange | None:
        """The worse of what probes and calls say; None if that is what is known."""
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
        _logger.warning("the fleet cannot be watched now, will try again: %s", error)


def _key(agent: Agent) -> Key:
    return agent.workspace, agent.agent_id


def _has_endpoint(agent: Agent) -> bool:
    return agent.transport not in (TransportKind.PULL, TransportKind.IMPORT)


def _counted(ok: bool) -> Increment:
    status = Health.HEALTHY.value if ok else "unhealthy"
    return Increment(name="aragora_cp_agent_health_checks_total", labels=(status,))


def _probe_step(agent: Agent) -> int:
    return zlib.crc32(f"{agent.workspace}\x1f{agent.agent_id}".encode()) % PROBE_STEPS
