"""The number of API replicas changes while claims wait and streams are open: HAProxy is replaced, a replica ends, no claim is
cut, and no stream loses an event."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import psutil
import pytest

from serve_app.schemas.tasks import MAX_BLOCK_MS
from tests.support.probes import eventually
from tests.support.rollouts import CP, Listener, deploy_replicas, newest, replica_pids
from tests.support.system import RunningSystem

AGENTS = [f"patient-{number}" for number in range(12)]


def waits_at(pid: int) -> bool:
    """Somebody is connected to the replica's HTTP port: Serve's own connections go to others."""
    found = psutil.Process(pid).net_connections("tcp")
    listening = {connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN}
    connected = [
        connection
        for connection in found
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port in listening
    ]
    return len(connected) > 1


class Claimers:
    """One agent each, which claims 25 s at a time, again and again until it is told to stop. It gives no other sign of
    life: for waiting longer than silence is allowed nobody is declared offline."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._stop = False
        self.answers: list[tuple[int | str, Any]] = []

    async def run(self, agent_id: str) -> None:
        while not self._stop:
            body = {"agent_id": agent_id, "block_ms": MAX_BLOCK_MS}
            try:
                answer = await self._client.post(f"{CP}/tasks/claim", json=body)
                self.answers.append((answer.status_code, answer.text))
            except httpx.TransportError as error:
                self.answers.append((type(error).__name__, str(error)))

    def stop(self) -> None:
        """Each ends with the answer of the claim that it has open."""
        self._stop = True


async def answers_while_scaled(system: RunningSystem, client: httpx.AsyncClient, replicas: int) -> list[Any]:
    """Of all claims that were open at some time from before the change until after it."""
    claimers = Claimers(client)
    running = [asyncio.create_task(claimers.run(agent_id)) for agent_id in AGENTS]
    before = replica_pids(system)
    await eventually(lambda: all(waits_at(pid) for pid in before), 90, what="claims at every replica")
    await asyncio.to_thread(deploy_replicas, system, replicas)
    await eventually(lambda: len(replica_pids(system, "RUNNING")) == replicas, 90, what=f"{replicas} replicas")
    if replicas > len(before):
        after = replica_pids(system)
        await eventually(lambda: all(waits_at(pid) for pid in after), 90, what="claims at the new one")
    claimers.stop()
    await asyncio.gather(*running)
    await eventually(lambda: len(replica_pids(system)) == replicas, 90, what="the end of the one that goes")
    return claimers.answers


@pytest.mark.longer
async def test_other_numbers_of_replicas_cut_no_claim_and_lose_no_event(system: RunningSystem) -> None:
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=system.api_url, timeout=60, limits=fresh) as client:
        for agent_id in AGENTS:
            answer = await client.post(f"{CP}/agents", json={"agent_id": agent_id, "capabilities": ["nothing-of-this"]})
            assert answer.is_success, answer.text
        before = await newest(client)
        listener = Listener(system, before)
        listening = [asyncio.create_task(listener.read_sse()), asyncio.create_task(listener.read_socket())]
        for replicas in (2, 1):
            await client.post(f"{CP}/tasks", json={"task_type": "review", "required_capabilities": ["nobody-has-this"]})
            answers = await answers_while_scaled(system, client, replicas)
            assert len(answers) >= len(AGENTS)
            cut = [reply for reply in answers if reply[0] != 200 or json.loads(reply[1])["task"] is not None]
            assert not cut, (replicas, cut)
        await eventually(
            lambda: min(listener.sse_ends, len(listener.close_codes)) >= 2, 30, what="two ends of each stream"
        )
        await client.post(f"{CP}/tasks", json={"task_type": "review", "required_capabilities": ["nobody-has-this"]})
        last = await newest(client)
        await eventually(lambda: last in listener.sse and last in listener.socket, 30, what="the last event")
        assert not [task for task in listening if task.done()], listening
        for task in listening:
            task.cancel()
    again = Listener(system, before)
    reading = asyncio.create_task(again.read_sse())
    await eventually(lambda: last in again.sse, 30, what="the whole stream, read at once")
    reading.cancel()
    # What the system wrote after that may have reached one reader and not yet the others.
    listened, heard, read = (
        [seq for seq in seqs if seq <= last] for seqs in (listener.sse, listener.socket, again.sse)
    )
    assert listened == heard == read
    assert set(listener.close_codes) == {1012}
