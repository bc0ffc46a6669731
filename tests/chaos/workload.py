"""Load with a plan: submitters, workers that sometimes go silent, a client that follows the stream.

Whatever a client decides is drawn from a generator of its own, seeded with the run's seed and the client's name, so
that the n-th decision of a client is the same in every run with that seed, whatever the timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import asyncpg
import httpx

from cluster.domain.tasks.machine import TRANSITIONS, TransitionRule
from serve_app.streams.hub import frame_type
from tests.chaos.clients import CP, TRY_AGAIN_S, Client
from tests.chaos.history import FinalTask, History, Leased, LogEvent, ReportKind, Submit
from tests.chaos.shipped_workers import SHIPPED

WORK, ORDER, SHARES, ODD = "work", "order", "shares", "odd"
TENANTS = ("ann", "ben", "cid")
BATCH = 100
STALLED_S = 60.0
KINDS = {
    frame_type(kind): kind for rule in TRANSITIONS.values() if isinstance(rule, TransitionRule) for kind in rule.kinds
} | {"task_submitted": "task.submitted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much of what. ``run`` keeps apart several loads on one system; ``duration_s`` paces the consumers of what is
    preloaded, so that it lasts for the run."""

    seed: int
    duration_s: float
    run: str = ""
    submitters: int = 2
    submit_every_s: float = 0.1
    workers: int = 6
    #: Tasks of shipped workers and of called agents that answer garbage, per submit of the others. 0: there are none.
    outsiders: float = 0.0
    slots: int = 4
    ordered: int = 300
    shared: int = 300

    def random(self, client: str) -> random.Random:
        return random.Random(f"{self.seed}/{client}")


class Conduct(StrEnum):
    """What a worker does with a lease. The last two keep silent until the lease has run out."""

    COMPLETE = "complete"
    FAIL = "fail"
    COME_BACK_LATE = "come_back_late"
    VANISH = "vanish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a worker: how much it asks for, and what becomes of each lease."""

    max_tasks: int
    work_s: float
    beats: bool
    conduct: tuple[Conduct, ...]
    silence: float

    @classmethod
    def draw(cls, rng: random.Random, slots: int) -> Turn:
        weights = {Conduct.COMPLETE: 90, Conduct.FAIL: 6, Conduct.COME_BACK_LATE: 3, Conduct.VANISH: 1}
        return cls(
            max_tasks=rng.randint(1, slots),
            work_s=rng.uniform(0.0, 0.3),
            beats=rng.random() < 0.3,
            conduct=tuple(rng.choices(list(weights), list(weights.values()), k=slots)),
            silence=rng.uniform(1.2, 2.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosTarget:
    """Where the load goes: the API, and the database that only the last look at the log's numbers needs."""

    api_url: str
    database_url: str
    schema: str
    workspace: str
    heartbeat_timeout_s: float


@dataclass(slots=True)
class Workload:
    """``submitted_all`` set: nobody submits any more. ``client.stopping`` set: everybody goes home."""

    target: ChaosTarget
    load: Load
    history: History
    client: Client
    submitted_all: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, target: ChaosTarget, load: Load) -> AsyncIterator[Workload]:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(base_url=target.api_url, limits=limits) as http:
            history = History(expected_shares={f"{SHARES}/{tenant}": 1 / len(TENANTS) for tenant in TENANTS})
            yield cls(target, load, history, Client(http, history))

    # --- the run -------------------------------------------------------------------------------------------------

    async def preload(self) -> None:
        """Everything that has an order or a share is waiting before anybody can claim it."""
        ordered = [(ORDER, None)] * self.load.ordered
        shared = [(f"{SHARES}/{tenant}", tenant) for _ in range(self.load.shared // len(TENANTS)) for tenant in TENANTS]
        await self._preload(ORDER, ordered)
        await self._preload(SHARES, shared)

    async def _preload(self, capability: str, groups: list[tuple[str, str | None]]) -> None:
        for start in range(0, len(groups), BATCH):
            keyed = [
                (f"{self.load.run}{group}-{start + n}", group, tenant)
                for n, (group, tenant) in enumerate(groups[start : start + BATCH])
            ]
            tasks = [
                task_body(capability)
                | {"metadata": {"key": key, "group": group}}
                | ({"tenant": tenant} if tenant else {})
                for key, group, tenant in keyed
            ]
            call, response = await self.client.until_answered(
                "submit", "/tasks/batch", {"tasks": tasks}, {"Idempotency-Key": f"{self.load.run}{capability}-{start}"}
            )
            assert response is not None
            for (key, group, _), task_id in zip(keyed, response.json()["task_ids"], strict=True):
                self.history.submits.append(
                    Submit(key=key, group=group, sent=call.sent, answered=call.ended, task_id=task_id)
                )

    async def register_called(self, registration: Mapping[str, Any]) -> None:
        await self.client.until_answered("register", "/agents/batch", registration)

    async def run(self, faults: Any, at_the_end: Callable[[], None] = lambda: None) -> None:
        """Clients under ``faults()``; then no more submits, and everybody works until nothing is open. ``at_the_end`` tells
        those to end that are not clients of this process."""
        await self.preload()
        async with asyncio.TaskGroup() as group:
            for n in range(self.load.submitters):
                group.create_task(self._submitter(f"{self.load.run}submitter-{n}"))
            for n in range(self.load.workers):
                group.create_task(self._worker(f"{self.load.run}worker-{n}"))
            group.create_task(self._consumer(f"{self.load.run}order-0", ORDER, self.load.ordered))
            group.create_task(self._consumer(f"{self.load.run}shares-0", SHARES, self.load.shared))
            follower = group.create_task(self._follow())
            await faults()
            self.submitted_all.set()
            await self._drained()
            self.client.stopping.set()
            follower.cancel()
        await asyncio.to_thread(at_the_end)
        await self._read_end()

    # --- clients -------------------------------------------------------------------------------------------------

    async def _submitter(self, name: str) -> None:
        rng, number = self.load.random(name), 0
        while not self.submitted_all.is_set():
            await asyncio.sleep(self.load.submit_every_s * rng.uniform(0.5, 1.5))
            again = rng.random() < 0.1 and number > 0
            number += not again
            which = rng.randint(1, number) if again else number
            kind = self._kind(random.Random(f"{self.load.seed}/{name}/{which}"))
            body = task_body(kind) | {"payload": {"n": which}}
            # What garbage makes of a task is told by how it ends, so it is not tried fifty times.
            await self.client.submit(f"{name}-{which}", kind, body | ({"max_retries": 2} if kind == ODD else {}))

    def _kind(self, rng: random.Random) -> str:
        """Another one for the same number would be another body under the same key."""
        return rng.choice((SHIPPED, ODD)) if rng.random() < self.load.outsiders else WORK

    async def _worker(self, agent: str) -> None:
        rng, number = self.load.random(agent), 0
        await self.client.register(agent, WORK, self.load.slots)
        while not self.client.stopping.is_set():
            number += 1
            turn = Turn.draw(rng, self.load.slots)
            leases = await self.client.claim(agent, f"{agent}-{number}", turn.max_tasks, 1500)
            if leases:
                await self._work(agent, turn, leases)

    async def _work(self, agent: str, turn: Turn, leases: list[Leased]) -> None:
        for lease, conduct in zip(leases, turn.conduct, strict=False):
            await asyncio.sleep(turn.work_s)
            if conduct in (Conduct.COME_BACK_LATE, Conduct.VANISH) and not self.submitted_all.is_set():
                await asyncio.sleep(self.target.heartbeat_timeout_s * turn.silence)
                if conduct is Conduct.VANISH:
                    return
            if turn.beats:
                await self.client.beat(agent)
            failing = conduct is Conduct.FAIL and lease.attempt == 1
            await self.client.report(agent, lease, ReportKind.FAIL if failing else ReportKind.COMPLETE)

    async def _consumer(self, agent: str, capability: str, waiting: int) -> None:
        """Takes what was preloaded one by one, slowly enough that it lasts for the run."""
        number, pause_s = 0, 0.8 * self.load.duration_s / max(1, waiting)
        await self.client.register(agent, capability, 1)
        while not self.client.stopping.is_set():
            number += 1
            for lease in await self.client.claim(agent, f"{agent}-{number}", 1, 1500):
                await self.client.report(agent, lease, ReportKind.COMPLETE)
            if not self.submitted_all.is_set():
                await asyncio.sleep(pause_s)

    async def _follow(self) -> None:
        """The stream from the beginning, resumed after the last event seen wherever it was cut."""
        last = 0
        while True:
            with contextlib.suppress(httpx.HTTPError):
                async for event in self._events(last):
                    self.history.followed.append(event["seq"])
                    last = event["seq"]
            await asyncio.sleep(TRY_AGAIN_S)

    async def _events(self, after: int) -> AsyncIterator[dict[str, Any]]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = httpx.Timeout(10.0, read=20.0)
        async with self.client.http.stream("GET", f"{CP}/stream", headers=headers, timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    # --- the end -------------------------------------------------------------------------------------------------

    async def _drained(self) -> None:
        """For as long as there is less open every ``STALLED_S``: what is still open then is the checker's to name."""
        least, since = await self._open(), time.monotonic()
        while least and time.monotonic() - since < STALLED_S:
            await asyncio.sleep(0.5)
            still = await self._open()
            if still < least:
                least, since = still, time.monotonic()

    async def _open(self) -> int:
        counts = [(await self._get("/tasks", status=status, limit=1))["total"] for status in ("pending", "running")]
        return sum(counts)

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:
        """Reads of the harness are tried until they are answered and are no part of the history."""
        while True:
            with contextlib.suppress(httpx.HTTPError):
                response = await self.client.http.get(f"{CP}{path}", params=query, timeout=30)
                if response.status_code == 200:
                    return dict(response.json())
            await asyncio.sleep(TRY_AGAIN_S)

    async def _read_end(self) -> None:
        head = await self._read_places()
        async for event in self._events(0):
            self.history.log.append(log_event(event))
            if event["seq"] >= head:
                break
        self.history.followed = [seq for seq in self.history.followed if seq <= head]
        cursor: str | None = None
        while True:
            query: dict[str, Any] = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
            page = await self._get("/tasks", **query)
            self.history.tasks += [final_task(task) for task in page["tasks"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        self.history.fleet = {agent["agent_id"] for agent in (await self._get("/agents", limit=1000))["agents"]}

    async def _read_places(self) -> int:
        """The last place of this workspace; places of rows that its stream does not show, up to there."""
        connection = await asyncpg.connect(self.target.database_url)
        try:
            table = f'"{self.target.schema}".log'
            head = await connection.fetchval(
                f"select max(seq) from {table} where workspace = $1", self.target.workspace
            )
            others = await connection.fetch(
                f"select seq from {table} where workspace <> $1 and seq <= $2", self.target.workspace, head
            )
        finally:
            await connection.close()
        self.history.other_seqs = [row["seq"] for row in others]
        return int(head)


def task_body(capability: str) -> dict[str, Any]:
    return {"task_type": capability, "required_capabilities": [capability], "max_retries": 50, "timeout_seconds": 60}


def log_event(event: Mapping[str, Any]) -> LogEvent:
    data = event["data"]
    return LogEvent(
        seq=event["seq"],
        kind=KINDS.get(event["type"], event["type"]),
        entity=str(data.get("task_id", data.get("agent_id", ""))),
        attempt=data.get("attempt"),
        agent=data.get("agent_id"),
    )


def final_task(task: Mapping[str, Any]) -> FinalTask:
    metadata = task["metadata"]
    return FinalTask(
        id=task["id"],
        status=task["status"],
        attempt=task["attempt"],
        key=metadata.get("key", task["id"]),
        group=metadata.get("group", ""),
    )
