"""``python -m tests.chaos.soak``: a steady mixed load on a whole system for a long time, and nothing may grow but tables.

The load is that of the chaos run without its faults (submits, claims, reports, leases that run out, the shipped workers, called
agents of which half of the answers are garbage), and beside it deliberations, reads, streams that come and go, and agents
that come, wait, hang up and leave. Exit code 1 if a figure grew beyond its tolerance (`tests.chaos.growth`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import websockets

from cluster.embedded.processes import session_members
from tests.chaos.checker import check
from tests.chaos.clients import CP
from tests.chaos.growth import MIB, TOLERANCES, Trend, trend
from tests.chaos.odd_agents import odd_agents
from tests.chaos.page import machine
from tests.chaos.samples import (
    Samples,
    TaskCounter,
    named_processes,
    of_disk,
    of_processes,
    of_stores,
    task_counter,
)
from tests.chaos.shipped_workers import shipped_workers
from tests.chaos.target import Target, running_target
from tests.chaos.workload import Load, Workload
from tests.support.agents import answering_agent

SAMPLE_S = 10.0
#: What is preloaded for the chaos run's order and shares is worked off during the warm-up.
PRELOADED, PRELOADED_S = 60, 60.0
PANEL = ("panel-0", "panel-1", "panel-2")
READS = ("/tasks?limit=50", "/agents", "/stats", "/queue", "/queue/metrics", "/deliberations?limit=20")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=None, help="where to write every sample")
    options = parser.parse_args(arguments)
    samples, wrong = asyncio.run(soak(options.minutes * 60))
    trends = [trend(*key, points) for key, points in sorted(samples.points.items()) if key[0] in TOLERANCES]
    print(table(trends))
    for trend_ in trends:
        if trend_.grows:
            wrong.append(f"{trend_.figure} of {trend_.what} grew by {shown(trend_.figure, trend_.growth)}")
    print("\n".join(["", *wrong[:40]]) if wrong else "\nnothing grew")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        points = [{"figure": figure, "what": what, "points": p} for (figure, what), p in samples.points.items()]
        found = {"machine": machine(), "wrong": wrong, "trends": [asdict(t) for t in trends], "samples": points}
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if wrong else 0


async def soak(seconds: float) -> tuple[Samples, list[str]]:
    """The samples, and sentences about what else was wrong."""
    manager = running_target()
    target = await asyncio.to_thread(manager.__enter__)
    try:
        return await _loaded(target, seconds)
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def _loaded(target: Target, seconds: float) -> tuple[Samples, list[str]]:
    load = Load(seed=1, duration_s=PRELOADED_S, ordered=PRELOADED, shared=PRELOADED, outsiders=0.3)
    samples = Samples()
    async with Workload.open(target.target, load) as workload:
        visitors = Visitors(target)
        with (
            task_counter(target) as counter,
            shipped_workers(target.system.api_url, workload.history, 2, load.run) as shipped,
            answering_agent({"answer": "a", "rationale": "r", "confidence": "high"}) as endpoint,
        ):
            async with odd_agents(load.seed) as registration:
                await workload.register_called(registration)
                panel = [{"agent_id": agent, "endpoint": endpoint, "capabilities": ["panel"]} for agent in PANEL]
                await workload.register_called({"agents": panel})
                watch = _watched(target, counter, samples, visitors, seconds)
                await workload.run(lambda: watch, at_the_end=shipped.end)
        wrong = [f"{violation.check}: {violation.message}" for violation in check(workload.history)]
        print(f"{len(workload.history.calls)} calls of clients, {visitors.visits} visits, {len(wrong)} violations")
    return samples, wrong + visitors.wrong


async def _watched(target: Target, counter: TaskCounter, samples: Samples, visitors: Visitors, seconds: float) -> None:
    visiting = [asyncio.ensure_future(visitors.forever(visit)) for visit in visitors.kinds()]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.monotonic()
        samples.add(await _sample(target, counter))
        taken = max(map(len, samples.points.values()))
        if taken % 6 == 1:
            print(f"{taken} samples, {visitors.visits} visits", flush=True)
        await asyncio.sleep(max(0.0, SAMPLE_S - (time.monotonic() - began)))
    visitors.stopping = True
    for visit in visiting:
        visit.cancel()
    await asyncio.wait(visiting, timeout=60)


async def _sample(target: Target, counter: TaskCounter) -> dict[tuple[str, str], float]:
    titles = await asyncio.to_thread(named_processes, target)
    processes = {name: session_members(process) for name, process in target.system.processes().items()}
    for name, store in (("postgres", target.postgres.process), ("redis", target.redis.process)):
        assert store is not None
        processes[name] = session_members(store)
    return {
        **await asyncio.to_thread(of_processes, titles, processes),
        **await asyncio.to_thread(counter.ask),
        **await of_stores(target),
        **await asyncio.to_thread(of_disk, target),
    }


class Visitors:
    """Clients that come and go: whatever is kept for each of them would add up."""

    def __init__(self, target: Target) -> None:
        self._url = target.system.api_url
        self._rng = random.Random(1)
        self.visits = 0
        self.stopping = False
        self.wrong: list[str] = []

    def kinds(self) -> list[Callable[[], Awaitable[None]]]:
        return [self._read, self._listen, self._listen_on_a_socket, self._come_and_go, self._hang_up, self._deliberate]

    async def forever(self, visit: Callable[[], Awaitable[None]]) -> None:
        # A client's own time-out may swallow the cancellation, so that the visit goes on: the flag ends it then.
        while not self.stopping:
            try:
                await visit()
            except (httpx.HTTPError, OSError, websockets.WebSocketException, TimeoutError) as error:
                self.wrong.append(f"{visit.__name__}: {error!r}")
                await asyncio.sleep(1.0)
            self.visits += 1
            await asyncio.sleep(self._rng.uniform(0.1, 0.5))

    def _client(self, timeout_s: float = 40.0) -> httpx.AsyncClient:
        """Of its own for each visit, so that connections come and go too."""
        return httpx.AsyncClient(base_url=self._url + CP, timeout=timeout_s)

    async def _read(self) -> None:
        async with self._client() as http:
            for path in READS:
                (await http.get(path)).raise_for_status()
            (await http.get(f"{self._url}/metrics")).raise_for_status()
            (await http.get(f"{self._url}/health/detailed")).raise_for_status()

    async def _listen(self) -> None:
        headers = {"Accept": "text/event-stream"}
        async with self._client() as http, http.stream("GET", "/stream", headers=headers) as stream:
            lines = stream.aiter_lines()
            for _ in range(self._rng.randint(1, 20)):
                await anext(lines)

    async def _listen_on_a_socket(self) -> None:
        async with websockets.connect(f"{self._url.replace('http', 'ws')}/ws/control-plane") as socket:
            for _ in range(self._rng.randint(1, 20)):
                await asyncio.wait_for(socket.recv(), 30)

    async def _come_and_go(self) -> None:
        agent = f"visitor-{self.visits}-{self._rng.randrange(10**9)}"
        async with self._client() as http:
            body = {"agent_id": agent, "capabilities": [f"visiting-{self._rng.randrange(5)}"]}
            (await http.post("/agents", json=body)).raise_for_status()
            (await http.post(f"/agents/{agent}/heartbeat", json={})).raise_for_status()
            (await http.post("/tasks/claim", json={"agent_id": agent, "block_ms": 200})).raise_for_status()
            (await http.delete(f"/agents/{agent}")).raise_for_status()

    async def _hang_up(self) -> None:
        agent = f"hangs-up-{self._rng.randrange(5)}"
        async with self._client() as http:
            (await http.post("/agents", json={"agent_id": agent, "capabilities": ["hanging-up"]})).raise_for_status()
            with contextlib.suppress(httpx.ReadTimeout):
                await http.post("/tasks/claim", json={"agent_id": agent, "block_ms": 25_000}, timeout=0.5)

    async def _deliberate(self) -> None:
        config = {"options": ["a", "b"], "agents": list(PANEL)}
        async with self._client() as http:
            answer = await http.post("/deliberations", json={"content": f"Which? {self.visits}", "config": config})
            answer.raise_for_status()
        await asyncio.sleep(1.0)


# --- what is printed --------------------------------------------------------------------------------------------------


def shown(figure: str, value: float) -> str:
    return f"{value / MIB:.1f} MiB" if figure in ("memory", "disk") else f"{value:.1f}"


def table(trends: Sequence[Trend]) -> str:
    lines: list[str] = [f"\n{machine()}", "| figure | of | samples | first | last | growth | allowed | |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for found in trends:
        numbers = [shown(found.figure, value) for value in (found.first, found.last, found.growth, found.allowed)]
        cells: list[Any] = [found.figure, found.what, found.samples, *numbers, "GROWS" if found.grows else ""]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
