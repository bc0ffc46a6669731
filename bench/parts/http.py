"""Many agents over HTTP/1.1 in one process: ``python -m bench.parts.http URL PREFIX``. BENCH_CA_FILE is the authority of an
``https`` URL.

The client is a few lines over asyncio's streams. A full HTTP client was rejected: with thousands of connections its own
CPU would be in the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import statistics
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from bench.parts.loop import Countdown, Handlers, in_parallel, run

SERVER = urlsplit(sys.argv[1])
PREFIX = sys.argv[2]
KEY = os.environ.get("BENCH_API_KEY")
TLS = ssl.create_default_context(cafile=os.environ["BENCH_CA_FILE"]) if SERVER.scheme == "https" else None
CREDENTIAL = f"authorization: Bearer {KEY}\r\n" if KEY else ""
API = "/api/control-plane"


class Line:
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(SERVER.hostname, SERVER.port, ssl=TLS)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: {SERVER.netloc}\r\ncontent-type: application/json\r\n{CREDENTIAL}"
        writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answer = await reader.readexactly(length)
        return status, json.loads(answer) if answer and answer[:1] in b"{[" else None

    async def expect(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, API + path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


class Agents:
    """Agents that wait for work, and calls that wait for results, each on a connection of its own."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Task[None]] = []
        self.latencies: list[float] = []
        self.completed = Countdown()

    async def wait(self, agents: int, capability: str) -> dict[str, Any]:
        """Registers agents, each of which polls for work and completes every task that it gets."""
        line = Line()
        ids = [f"{PREFIX}-{capability}-{number}" for number in range(agents)]
        for first in range(0, agents, 500):
            some = [{"agent_id": agent_id, "capabilities": [capability]} for agent_id in ids[first : first + 500]]
            await line.expect("POST", "/agents/batch", {"agents": some})
        line.close()
        self.waiting += [asyncio.create_task(self._work(agent_id)) for agent_id in ids]
        return {}

    async def _work(self, agent_id: str) -> None:
        line = Line()
        try:
            while True:
                claim = {"agent_id": agent_id, "block_ms": 25_000}
                task = (await line.expect("POST", "/tasks/claim", claim))["task"]
                if task is not None:
                    self.latencies.append((time.time() - task["payload"]["sent"]) * 1000)
                    done = {"lease_token": task["lease_token"]}
                    await line.expect("POST", f"/tasks/{task['id']}/complete", done)
                    self.completed.done()
        finally:
            line.close()

    async def expect_results(self, calls: int, capability: str) -> dict[str, Any]:
        """Submits tasks, each of which a call waits for, again and again."""
        line = Line()
        for first in range(0, calls, 500):
            tasks = [{"task_type": "noop", "required_capabilities": [capability]}] * min(500, calls - first)
            submitted = (await line.expect("POST", "/tasks/batch", {"tasks": tasks}))["task_ids"]
            self.waiting += [asyncio.create_task(self._expect(task_id)) for task_id in submitted]
        line.close()
        return {}

    async def _expect(self, task_id: str) -> None:
        line = Line()
        try:
            while True:
                await line.expect("GET", f"/tasks/{task_id}?wait=25")
        finally:
            line.close()

    async def leave(self) -> dict[str, Any]:
        for task in self.waiting:
            task.cancel()
        failed = [
            end for end in await asyncio.gather(*self.waiting, return_exceptions=True) if isinstance(end, Exception)
        ]
        self.waiting.clear()
        return {"error": str(failed[0])} if failed else {}


async def plain(agents: Agents, total: int, capability: str) -> dict[str, Any]:
    """Submits tasks in batches of 500, and answers when the agents have completed all of them."""
    agents.completed.expect(total)
    line = Line()
    started = time.perf_counter()
    for first in range(0, total, 500):
        some = [{"task_type": "noop", "payload": {"sent": 0}, "required_capabilities": [capability]}]
        await line.expect("POST", "/tasks/batch", {"tasks": some * min(500, total - first)})
    line.close()
    await agents.completed.reached()
    return {"seconds": time.perf_counter() - started}


async def fill(total: int, capability: str) -> dict[str, Any]:
    """Submits tasks in batches of 500 and waits for none of them; one in ten has another type and queue."""
    line = Line()
    for first in range(0, total, 500):
        some = [
            {"task_type": "noop", "required_capabilities": [capability]}
            | ({"task_type": "rare", "queue": "rare"} if number % 10 == 0 else {})
            for number in range(first, min(first + 500, total))
        ]
        await line.expect("POST", "/tasks/batch", {"tasks": some})
    line.close()
    return {}


async def fan_out(total: int, capability: str) -> dict[str, Any]:
    """Runs a workflow that is one task for each item of a list, and answers when the run has ended."""
    line = Line()
    task = {"task_type": "noop", "required_capabilities": [capability], "input": {"sent": {"from": "item"}}}
    step = {"id": "all", "map": {"over": {"from": "input"}, "task": task}}
    await line.expect("POST", "/workflows", {"name": f"{PREFIX}-fan", "steps": [step]})
    started = time.perf_counter()
    run = await line.expect("POST", f"/workflows/{PREFIX}-fan/runs", {"input": [0] * total})
    while run["ended_at"] is None:
        run = await line.expect("GET", f"/workflow-runs/{run['run_id']}?wait=25")
    line.close()
    if run["status"] != "completed":
        raise RuntimeError(f"the run is {run['status']}")
    return {"seconds": time.perf_counter() - started}


async def steadily(
    agents: Agents, rate: float, seconds: float, capability: str, tenant: str | None = None
) -> dict[str, Any]:
    """Submits at a steady rate, however long answers take. Answers what submits took, and when agents had the tasks."""
    agents.latencies.clear()
    took: list[float] = []
    idle: list[Line] = []

    async def submit() -> None:
        line = idle.pop() if idle else Line()
        sent = time.time()
        body = {"task_type": "noop", "payload": {"sent": sent}, "required_capabilities": [capability]}
        if tenant is not None:
            body["tenant"] = tenant
        await line.expect("POST", "/tasks", body)
        took.append((time.time() - sent) * 1000)
        idle.append(line)

    total = int(rate * seconds)
    start = time.perf_counter()
    running = []
    for number in range(total):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        running.append(asyncio.create_task(submit()))
    await asyncio.gather(*running)
    for _ in range(200):
        if not agents.waiting or len(agents.latencies) >= total:
            break
        await asyncio.sleep(0.05)
    for line in idle:
        line.close()
    answer = {"submit_p50": statistics.median(took), "submit_p99": statistics.quantiles(took, n=100)[98]}
    if agents.latencies:
        got = agents.latencies
        answer |= {"got": len(got), "p50": statistics.median(got), "p99": statistics.quantiles(got, n=100)[98]}
    return answer


async def batches(total: int, callers: int, each: int, agent_id: str) -> dict[str, Any]:
    """Submits, claims and completes tasks through the batch endpoints."""
    first = Line()
    await first.expect("POST", "/agents", {"agent_id": agent_id, "max_concurrency": 10_000})
    idle = [first]

    async def round_trip(size: int) -> None:
        line = idle.pop() if idle else Line()
        tasks = [{"task_type": "noop", "payload": {}} for _ in range(size)]
        await line.expect("POST", "/tasks/batch", {"tasks": tasks})
        left = size
        while left > 0:
            claim = {"agent_id": agent_id, "block_ms": 5_000, "max_tasks": left}
            leased = (await line.expect("POST", "/tasks/claim", claim))["tasks"]
            reports = [{"task_id": task["id"], "lease_token": task["lease_token"]} for task in leased]
            if reports:
                await line.expect("POST", "/tasks/complete", {"reports": reports})
            left -= len(leased)
        idle.append(line)

    started = time.perf_counter()
    await in_parallel(callers, total, each, round_trip)
    return {"seconds": time.perf_counter() - started}


async def register(agents: int, each: int, prefix: str) -> dict[str, Any]:
    """Registers agents in batches; each of a hundred rare capabilities is had by one agent in a hundred."""
    line = Line()
    started = time.perf_counter()
    for first in range(0, agents, each):
        some = [
            {"agent_id": f"{prefix}-{number}", "capabilities": ["common", f"rare-{number % 100}"]}
            for number in range(first, min(first + each, agents))
        ]
        await line.expect("POST", "/agents/batch", {"agents": some})
    line.close()
    return {"seconds": time.perf_counter() - started}


async def lists(times: int, capability: str) -> dict[str, Any]:
    line = Line()
    took: list[float] = []
    found = 0
    for _ in range(times):
        started = time.perf_counter()
        found = (await line.expect("GET", f"/agents?capability={capability}"))["total"]
        took.append((time.perf_counter() - started) * 1000)
    line.close()
    return {"agents": found, "p50": statistics.median(took), "p99": statistics.quantiles(took, n=100)[98]}


async def reads(paths: list[str], times: int) -> dict[str, Any]:
    """Asks for each path in turn, one request at a time. Answers each path's p99 in ms."""
    line = Line()
    took: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(times):
        for path in paths:
            started = time.perf_counter()
            status, _ = await line.call("GET", path)
            if status != 200:
                raise RuntimeError(f"GET {path}: {status}")
            took[path].append((time.perf_counter() - started) * 1000)
    line.close()
    return {path: statistics.quantiles(found, n=100)[98] for path, found in took.items()}


async def gets(path: str, total: int, callers: int) -> dict[str, Any]:
    """Asks for a path, one request after the other on each connection."""
    idle: list[Line] = []

    async def get(_: int) -> None:
        line = idle.pop() if idle else Line()
        status, _answer = await line.call("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status}")
        idle.append(line)

    started = time.perf_counter()
    await in_parallel(callers, total, 1, get)
    seconds = time.perf_counter() - started
    for line in idle:
        line.close()
    return {"seconds": seconds}


async def until_serving(path: str, within_s: float = 30) -> dict[str, Any]:
    """Raises: `TimeoutError` if nothing answers 200 in time."""
    async with asyncio.timeout(within_s):
        while True:
            line = Line()
            with contextlib.suppress(OSError, IndexError, asyncio.IncompleteReadError):
                if (await line.call("GET", path))[0] == 200:
                    line.close()
                    return {}
            line.close()
            await asyncio.sleep(0.1)


async def connections(total: int, callers: int) -> dict[str, Any]:
    """Opens connections and closes each at once; no TLS session is resumed."""

    async def connect(_: int) -> None:
        _reader, writer = await asyncio.open_connection(SERVER.hostname, SERVER.port, ssl=TLS)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    await in_parallel(callers, total, 1, connect)
    return {}


async def heartbeats(agents: int, each: int, rate: float, seconds: float, prefix: str) -> dict[str, Any]:
    """Sends heartbeats in batches at a steady rate."""
    line = Line()
    started = time.perf_counter()
    total = int(rate * seconds)
    for first in range(0, total, each):
        await asyncio.sleep(max(0.0, started + first / rate - time.perf_counter()))
        some = [{"agent_id": f"{prefix}-{number % agents}"} for number in range(first, first + each)]
        await line.expect("POST", "/agents/heartbeats", {"heartbeats": some})
    line.close()
    return {"seconds": time.perf_counter() - started, "last": time.time()}


async def hold(agents: int, prefix: str) -> dict[str, Any]:
    """Registers agents and lets each claim one task of the type ``prefix``, which it then holds."""
    lines = [Line() for _ in range(min(agents, 50))]
    ids = [f"{prefix}-{number}" for number in range(agents)]
    for first in range(0, agents, 500):
        some = ids[first : first + 500]
        bodies = [{"agent_id": agent_id, "capabilities": [prefix]} for agent_id in some]
        await lines[0].expect("POST", "/agents/batch", {"agents": bodies})
        tasks = [
            {"task_type": prefix, "payload": {}, "target_agent": agent_id, "timeout_seconds": 3_600}
            for agent_id in some
        ]
        await lines[0].expect("POST", "/tasks/batch", {"tasks": tasks})
    left = list(ids)

    async def claim(line: Line) -> None:
        while left:
            body = {"agent_id": left.pop(), "block_ms": 20_000}
            assert (await line.expect("POST", "/tasks/claim", body))["task"] is not None
        line.close()

    await asyncio.gather(*(claim(line) for line in lines))
    return {}


async def until_offline(agents: int, prefix: str, within_s: float) -> dict[str, Any]:
    """Asks the API until all agents with the capability ``prefix`` are offline; answers when that was and how many are."""
    line = Line()
    deadline = time.monotonic() + within_s
    while True:
        asked_at = time.time()
        path = f"/agents?capability={prefix}&available=false&status=offline&limit=1"
        offline = (await line.expect("GET", path))["total"]
        if offline == agents or time.monotonic() > deadline:
            line.close()
            return {"at": asked_at, "offline": offline}
        await asyncio.sleep(0.2)


async def rest(seconds: float) -> dict[str, Any]:
    await asyncio.sleep(seconds)
    return {}


async def make() -> Handlers:
    agents = Agents()

    async def submit(rate: float, seconds: float, capability: str, tenant: str | None = None) -> dict[str, Any]:
        return await steadily(agents, rate, seconds, capability, tenant)

    async def submit_all(total: int, capability: str) -> dict[str, Any]:
        return await plain(agents, total, capability)

    return {
        "wait": agents.wait,
        "expect_results": agents.expect_results,
        "leave": agents.leave,
        "submit": submit,
        "plain": submit_all,
        "fill": fill,
        "fan_out": fan_out,
        "batches": batches,
        "register": register,
        "lists": lists,
        "reads": reads,
        "gets": gets,
        "connections": connections,
        "until_serving": until_serving,
        "heartbeats": heartbeats,
        "hold": hold,
        "until_offline": until_offline,
        "rest": rest,
    }


if __name__ == "__main__":
    run(make)
