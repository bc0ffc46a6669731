"""Claims whose clients break the connection: their tasks go to other agents."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from typing import Any

import httpx
import pytest

from cluster.domain.base.errors import StoreUnavailable
from tests.support.api import CP
from tests.support.probes import eventually
from tests.support.task_api import TaskApi


class HeldReads:
    """The replica's task store; its reads of whole tasks wait until the test lets them go on, or fail."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.fails = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    async def get_many(self, workspace: str, task_ids: Any) -> Any:
        self.asked.set()
        if self.fails:
            raise StoreUnavailable("The store is away.")
        await self.go_on.wait()
        return await self._tasks.get_many(workspace, task_ids)


class Leaving:
    """A client with a connection of its own, and a claim that waits for its answer."""

    def __init__(self, tasks: TaskApi, agent_id: str, **fields: Any) -> None:
        self._tasks = tasks
        self._before = tasks.api.connections
        url = httpx.URL(tasks.api.url)
        body = json.dumps({"agent_id": agent_id, "block_ms": 20_000, **fields}).encode()
        head = [f"POST {CP}/tasks/claim HTTP/1.1", f"Host: {url.host}", "Content-Type: application/json"]
        self._socket = socket.create_connection((url.host, url.port))
        self._socket.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "\r\n"]).encode() + body)

    async def hang_up(self) -> bool:
        """Whether the answer was sent. Returns when the server knows. It reads to the end, for what was sent may still be on its
        way when the client looks."""
        self._socket.shutdown(socket.SHUT_WR)
        await eventually(lambda: self._tasks.api.connections <= self._before)
        with self._socket:
            return bool(await asyncio.to_thread(self._socket.recv, 1))


@pytest.fixture
def reads(tasks: TaskApi) -> HeldReads:
    held = HeldReads(tasks.api.gateway.tasks)
    tasks.api.gateway.tasks = held  # type: ignore[assignment]
    return held


async def _given_back(tasks: TaskApi, task_id: str) -> bool:
    events = (await tasks.get(f"/tasks/{task_id}/events"))["events"]
    return [event["type"] for event in events[:2]] == ["submitted", "claimed"] and [
        (event["type"], event["data"]["reason"]) for event in events[2:]
    ] == [("requeued", "not_delivered")]


@pytest.mark.parametrize("block_ms", [0, 20_000])
async def test_a_lease_returns_if_its_client_hangs_up_before_the_answer(
    tasks: TaskApi, reads: HeldReads, block_ms: int
) -> None:
    await tasks.agent("a1")
    await tasks.agent("a2")
    task_id = await tasks.submit()
    await eventually(lambda: tasks.open_is(1))
    client = Leaving(tasks, "a1", block_ms=block_ms)
    await reads.asked.wait()
    await client.hang_up()
    reads.go_on.set()
    await eventually(lambda: _given_back(tasks, task_id))
    lease = await tasks.claim_one("a2")
    assert (lease["id"], lease["attempt"], lease["retries"]) == (task_id, 2, 0)


async def test_a_claim_that_fails_after_its_grant_leaves_no_lease_behind(tasks: TaskApi, reads: HeldReads) -> None:
    await tasks.agent("a1", max_concurrency=2)
    task_id = await tasks.submit()
    await eventually(lambda: tasks.open_is(1))
    reads.fails = True
    await tasks.post("/tasks/claim", {"agent_id": "a1", "block_ms": 0}, expect=503)
    reads.fails = False
    reads.go_on.set()
    await eventually(lambda: _given_back(tasks, task_id))
    assert (await tasks.claim_one("a1"))["id"] == task_id


async def test_a_client_that_reconnects_at_once_keeps_its_lease(tasks: TaskApi, reads: HeldReads) -> None:
    await tasks.agent("a1", max_concurrency=2)
    task_id = await tasks.submit()
    await eventually(lambda: tasks.open_is(1))
    first = Leaving(tasks, "a1", claim_id="mine")
    await reads.asked.wait()
    again = asyncio.create_task(tasks.claim_one("a1", claim_id="mine"))
    await eventually(lambda: tasks.api.gateway.task_reads._waiting == 1, what="its lease is with the second claim")
    await first.hang_up()
    reads.go_on.set()
    lease = await again
    assert (lease["id"], lease["attempt"], lease["redelivered"]) == (task_id, 1, True)
    await tasks.complete(lease)
    assert await tasks.kinds(task_id) == ["submitted", "claimed", "completed"]


async def test_whenever_a_client_hangs_up_its_task_goes_to_another(tasks: TaskApi) -> None:
    """From before the submit is read until after the answer was sent. An answer that was sent is the client's: it is
    gone with it, unless the agent asks again."""
    await tasks.agent("gone")
    await tasks.agent("here")
    for turns in itertools.accumulate(range(12)):
        client = Leaving(tasks, "gone")
        await eventually(lambda: tasks.waits(1))
        task_id = await tasks.submit()
        for _ in range(turns):
            await asyncio.sleep(0)
        answered = await client.hang_up()
        lease = await tasks.claim_one("gone" if answered else "here")
        assert (lease["id"], lease["retries"]) == (task_id, 0), turns
        await tasks.complete(lease)
