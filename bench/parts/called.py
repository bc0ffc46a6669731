"""Called agents, all served by one HTTP server, and a client that submits tasks for them: ``python -m bench.parts.called
URL PREFIX``.

The server is a few lines over asyncio's streams. A web framework was rejected: its CPU would be in the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Sequence
from typing import Any

from bench.parts.http import Line
from bench.parts.loop import Handlers, run

#: Idle connections older than this are not used again: well below the keep-alive time of the API's servers.
IDLE_S = 1.0


class Endpoint:
    """Speaks the agent contract for all agents: answers a task with its payload's ``number`` after its ``ms``."""

    def __init__(self) -> None:
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (start := await reader.readline()).strip():
                length = 0
                while (line := await reader.readline()).strip():
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                body = await reader.readexactly(length)
                answer = json.dumps({"result": await _work(body)} if start.startswith(b"POST") else {}).encode()
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
                writer.write(head.encode() + answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the host that called was killed
        finally:
            writer.close()


async def _work(body: bytes) -> Any:
    payload = json.loads(body)["task"]["payload"]
    await asyncio.sleep(payload["ms"] / 1000)
    return payload["number"]


class Tasks:
    """Tasks that name their agents."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._idle: list[tuple[float, Line]] = []
        self._load: asyncio.Task[int] | None = None

    def _task(self, task_type: str, agent_id: str, ms: float) -> dict[str, Any]:
        payload = {"number": next(self._numbers), "ms": ms}
        return {"task_type": task_type, "target_agent": agent_id, "payload": payload}

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        since, line = self._idle.pop() if self._idle else (time.monotonic(), Line())
        if time.monotonic() - since > IDLE_S:
            line.close()
            line = Line()
        await line.expect("POST", path, body)
        self._idle.append((time.monotonic(), line))

    async def each(self, agents: Sequence[str], task_type: str) -> dict[str, Any]:
        """Submits one task for each agent."""
        for first in range(0, len(agents), 500):
            tasks = [self._task(task_type, agent_id, 0) for agent_id in agents[first : first + 500]]
            await self._post("/tasks/batch", {"tasks": tasks})
        return {}

    async def load(self, agents: Sequence[str], task_type: str, rate: float, ms: float) -> dict[str, Any]:
        """Submits tasks for random agents at a steady rate, until ``end_load``."""
        self._load = asyncio.create_task(self._steadily(agents, task_type, rate, ms))
        return {}

    async def _steadily(self, agents: Sequence[str], task_type: str, rate: float, ms: float) -> int:
        dice, start, sent = random.Random(7), time.perf_counter(), 0
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(max(0.0, start + sent / rate - time.perf_counter()))
                running.add(asyncio.create_task(self._post("/tasks", self._task(task_type, dice.choice(agents), ms))))
                sent += 1
        except asyncio.CancelledError:
            await asyncio.gather(*running)
            return sent

    async def rest(self, seconds: float) -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {}

    async def end_load(self) -> dict[str, Any]:
        """Ends the load; answers the number of tasks that it submitted."""
        assert self._load is not None
        self._load.cancel()
        return {"tasks": await self._load}


async def make() -> Handlers:
    endpoint, tasks = Endpoint(), Tasks()
    await endpoint.start()

    async def register(agents: Sequence[str], each: int, groups: int) -> dict[str, Any]:
        """Registers agents with this endpoint; every ``groups``-th has the same capabilities."""
        line = Line()
        bodies = [
            {
                "agent_id": agent_id,
                "endpoint": f"{endpoint.url}/{agent_id}",
                "capabilities": ["called", f"skill-{index % groups}"],
                "max_concurrency": 4,
            }
            for index, agent_id in enumerate(agents)
        ]
        for first in range(0, len(bodies), each):
            await line.expect("POST", "/agents/batch", {"agents": bodies[first : first + each]})
        line.close()
        return {}

    return {
        "register": register,
        "each": tasks.each,
        "load": tasks.load,
        "end_load": tasks.end_load,
        "rest": tasks.rest,
    }


if __name__ == "__main__":
    run(make)
