"""Owns the metrics of a region: it counts what the log tells, and takes increments of what the log does not.

It serves ``/metrics`` on a port of its own, so that Prometheus reads the same numbers however many API replicas there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.failing_commits import FailingCommits
from actors.readings import Ask, Readings
from cluster.domain.agents.agent import Liveness
from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.base.log import LogRow
from cluster.domain.metric_families import METRICS_COMPLETE, STORE_READABLE
from cluster.domain.metrics import Increment, Labels, Metrics
from cluster.domain.tasks.task import Priority
from cluster.log.agent_directory import AgentDirectory
from cluster.log.follower import LogFollower
from cluster.ports.agents import AgentStore
from cluster.ports.audit import AuditTrail
from cluster.ports.clock import Clock
from cluster.ports.log import Log
from cluster.ports.readings import ReadingStore
from cluster.ports.tasks import TaskStore
from cluster.ports.telemetry import AgentCounters, TelemetryStore
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.telemetry.exposition import OPENMETRICS, TEXT, asks_for_openmetrics, exposition
from cluster.telemetry.process_figures import ProcessFigures, ShownFigures

_logger = logging.getLogger(__name__)

NAME = "metrics"
#: Between two saves. After a restart the log is counted again from the last save; increments pushed since then are lost.
SAVE_S = 2.0
#: How long an answer waits for the store before it gives the numbers that are known. To give up takes up to a second more, and
#: whoever scrapes gets an answer within 5 s.
READ_S = 2.0
LOG_LAG = "aragora_cp_log_lag_seconds"
#: Between two tries to bind the port.
BIND_RETRY_S = 0.5


class Telemetry:
    """``listen``: where ``/metrics`` is served; None if it is not. ``followers`` and ``region``: as of `Readings`."""

    def __init__(
        self,
        *,
        log: Log,
        clock: Clock,
        agents: AgentStore,
        tasks: TaskStore,
        audit: AuditTrail,
        zone: str,
        store: TelemetryStore,
        listen: tuple[str, int] | None,
        readings: ReadingStore,
        followers: Mapping[str, Ask],
        region: Ask,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._log = log
        self._clock = clock
        self._agents = agents
        self._tasks = tasks
        self._audit = audit
        self._zone = zone
        self._store = store
        self._listen = listen
        self._directory = AgentDirectory(agents)
        self._metrics = Metrics()
        self._failing_commits = FailingCommits()
        self._figures = ShownFigures()
        self._readings = Readings(
            store=readings,
            followers=followers,
            region=region,
            show=lambda gauge, series: self._metrics.set_gauge(gauge, series),
            clock=clock,
        )
        # Increments of each agent's counters since the last save began, by (workspace, agent id).
        self._counters: dict[tuple[str, str], AgentCounters] = {}
        # What the last save wrote, until it is known to have succeeded.
        self._unsaved: tuple[int, dict[str, Any], tuple[AgentCounters, ...]] | None = None
        # The cursor of the last save that succeeded.
        self._saved_cursor = 0
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        cursor, snapshot = await self._store.load(NAME)
        self._metrics = Metrics.restore(snapshot)
        await self._directory.load()
        self._follower = LogFollower(self._log, None, self._clock, after=cursor, apply=self._apply)
        while await self._follower.catch_up():
            pass
        self._saved_cursor = cursor
        self._loops.start(self._follower.run(), self._save_forever())
        if self._listen is not None:  # nobody looks at what is measured else
            self._loops.start(self._readings.run(), self._serve(*self._listen))

    async def stop(self) -> None:
        await self._loops.stop()

    async def push(self, increments: Sequence[Increment], figures: ProcessFigures | None = None) -> None:
        """Adds what a process has counted, and takes what it says about itself."""
        now = self._clock.now()
        self._metrics.merge(increments, now)
        self._failing_commits.count(increments, now)
        if figures is not None:
            self._figures.take(figures, now)

    async def measure(self) -> None:
        """Measures now what is measured beside the answers."""
        await self._readings.measure()

    async def show(self, gauge: str, series: Mapping[Labels, float]) -> None:
        """Replaces all values of a gauge that another actor measures."""
        self._metrics.set_gauge(gauge, series)

    async def status(self) -> dict[str, Any]:
        """Answers from memory: readiness asks often, and must not wait for the database behind a rendering. ``lag_s``: how
        long ago the log was last read to its end."""
        now = self._clock.now()
        return {
            "serving": self._loops.running,
            "cursor": self._follower.cursor,
            "lag_s": max(0.0, now - self._follower.whole_at),
            "warnings": self._failing_commits.warnings(now),
        }

    async def render(self, openmetrics: bool = False) -> str:
        """The metrics as text, in the format of OpenMetrics with exemplars. Cheap gauges are computed now, counters as far as the
        log has been read. Without the store both are as they were last known, and a gauge says so: an operator needs them exactly
        then."""
        readable = True
        self._show_processes()
        try:
            async with asyncio.timeout(READ_S):
                await self._follower.catch_up()
                await self._gauges()
        except (StoreUnavailable, TimeoutError) as error:
            _logger.warning("the metrics are shown as they were last known: %s", error or "the store hangs")
            readable = False
        self._metrics.set_gauge(STORE_READABLE, {(): float(readable)})
        self._metrics.set_gauge(METRICS_COMPLETE, {(): 1.0})
        return exposition(self._metrics, openmetrics=openmetrics)

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        # First what may fail or be cut: the rows are applied again then, and each may be counted only once.
        await self._directory.apply(rows)
        for row in rows:
            self._metrics.apply(row)
            self._count_agent(row)

    def _count_agent(self, row: LogRow) -> None:
        completed = row.kind == "task.completed"
        failed = row.kind in ("task.failed", "task.retried", "task.dead_lettered", "task.timeout")
        agent_id = row.data.get("agent_id")
        if not (completed or failed) or not isinstance(agent_id, str):
            return
        key = (row.workspace, agent_id)
        old = self._counters.get(key) or AgentCounters(workspace=row.workspace, agent_id=agent_id)
        self._counters[key] = AgentCounters(
            workspace=row.workspace,
            agent_id=agent_id,
            completed=old.completed + completed,
            failed=old.failed + failed,
            latency_ms_sum=old.latency_ms_sum + (row.data.get("duration_seconds", 0.0) * 1000 if completed else 0.0),
        )

    def _show_processes(self) -> None:
        now = self._clock.now()
        gauges = dict(self._figures.gauges(now))
        lags = {("metrics",): max(0.0, now - self._follower.whole_at), **self._readings.log_lags}
        gauges[LOG_LAG] = {**gauges[LOG_LAG], **lags}
        for gauge, series in gauges.items():
            self._metrics.set_gauge(gauge, series)

    async def _gauges(self) -> None:
        active: Counter[Labels] = Counter()
        liveness: dict[Labels, float] = {(each.value,): 0.0 for each in Liveness}
        for agent in self._directory.agents():
            liveness[(agent.liveness.value,)] += 1
            if agent.takes_work and agent.liveness is not Liveness.OFFLINE:
                active.update((name,) for name in agent.capabilities or ("none",))
        self._metrics.set_gauge("aragora_cp_agents_active", active)
        self._metrics.set_gauge("aragora_cp_agents", liveness)
        waiting = await self._tasks.waiting()
        depth: dict[Labels, float] = {(p.wire_name,): float(waiting.get(p, 0)) for p in Priority}
        self._metrics.set_gauge("aragora_cp_task_queue_depth", depth)
        unsealed = await self._audit.unsealed(self._zone)
        lag_s = 0.0 if unsealed.since is None else max(0.0, self._clock.now() - unsealed.since)
        self._metrics.set_gauge("aragora_audit_lag_seconds", {(): lag_s})
        self._metrics.set_gauge("aragora_audit_lag_rows", {(): float(unsealed.rows)})

    async def save(self) -> None:
        """Saves the metrics, their cursor and the agents' counters in one transaction, so that nothing is counted twice.

        A save whose outcome is unknown is repeated unchanged; the store accepts a cursor only once.
        """
        if self._unsaved is None:
            if self._follower.cursor == self._saved_cursor:
                return
            counters, self._counters = tuple(self._counters.values()), {}
            self._unsaved = (self._follower.cursor, self._metrics.snapshot(), counters)
        cursor, snapshot, counters = self._unsaved
        await self._store.save(NAME, cursor, snapshot, counters)
        self._saved_cursor, self._unsaved = cursor, None

    async def _save_forever(self) -> None:
        while True:
            await self._clock.sleep(SAVE_S)
            try:
                await self.save()
            except StoreUnavailable as error:
                _logger.warning("metrics could not be saved, will try again: %s", error)

    async def _serve(self, host: str, port: int) -> None:
        """Serves ``/metrics``. If a predecessor still holds the port, it tries again; the API's own ``/metrics`` does not
        depend on this port."""
        app = Starlette(routes=[Route("/metrics", self._scrape)])
        while True:
            config = uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,  # uvicorn's own would take its records, and all others' of it, out of this process's log
                log_level="error",
                lifespan="off",
                access_log=False,
                proxy_headers=False,
            )
            try:
                await uvicorn.Server(config).serve()
                return
            except (SystemExit, OSError) as error:
                _logger.warning("the metrics port %d is not free yet: %s", port, error)
                await self._clock.sleep(BIND_RETRY_S)

    async def _scrape(self, request: Request) -> Response:
        wants = asks_for_openmetrics(request.headers.get("accept", ""))
        return Response(await self.render(openmetrics=wants), media_type=OPENMETRICS if wants else TEXT)
