"""The number of API replicas changes while claims wait and streams are open: HAProxy is replaced, a replica ends, no claim is
cut, and no stream loses an event."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import psutil
import websockets

from cluster.cli.system import serve_config
from cluster.embedded.ray_cluster import APPLICATION, deploy
from cluster.settings import load_settings
from serve_app.schemas.tasks import MAX_BLOCK_MS
from tests.support.probes import eventually
from tests.support.system import RunningSystem

CP = "/api/control-plane"
AGENTS = [f"patient-{number}" for number in range(12)]


def scale(system: RunningSystem, replicas: int) -> None:
    """As `serve deploy` does with another ``num_replicas``."""
    config = serve_config(load_settings(system.environment))
    (application,) = config["applications"]
    (api,) = [deployment for deployment in application["deployments"] if deployment["name"] == "Api"]
    api["num_replicas"] = replicas
    deploy(system.run_file.dashboard_url, _token(system), config)


def _token(system: RunningSystem) -> str:
    return system.layout.ray_token.read_text().strip()


def replica_pids(system: RunningSystem, state: str | None = None) -> list[int]:
    """Those of the API's replicas that Serve still knows, whatever they are doing."""
    url = f"{system.run_file.dashboard_url}/api/serve/applications/"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {_token(system)}"}, timeout=10).json()
    replicas = answer["applications"][APPLICATION]["deployments"]["Api"]["replicas"]
    return [replica["pid"] for replica in replicas if state in (None, replica["state"])]


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


class Listener:
    """Follows the stream over SSE and over a WebSocket, and resumes each by its cursor alone."""

    def __init__(self, system: RunningSystem, after: int) -> None:
        self._url = system.api_url + f"{CP}/stream"
        self._after = after
        #: Sequence numbers, as they came.
        self.sse: list[int] = []
        self.socket: list[int] = []
        self.sse_ends = 0
        self.close_codes: list[int | None] = []

    async def read_sse(self) -> None:
        cursor = self._after
        headers = {"Accept": "text/event-stream"}
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                headers["Last-Event-ID"] = str(cursor)
                async with client.stream("GET", self._url, headers=headers) as response:
                    async for line in response.aiter_lines():
                        name, _, value = line.partition(": ")
                        if name == "id":
                            cursor = int(value)
                        elif name == "data":
                            self.sse.append(cursor)
                self.sse_ends += 1

    async def read_socket(self) -> None:
        while True:
            cursor = self.socket[-1] if self.socket else self._after
            async with websockets.connect(f"{self._url.replace('http', 'ws')}?after={cursor}") as socket:
                try:
                    while True:
                        frame = json.loads(await socket.recv())
                        self.socket += [frame["seq"]] if "seq" in frame else []
                except websockets.ConnectionClosed as closed:
                    self.close_codes.append(closed.rcvd.code if closed.rcvd else None)


async def newest(client: httpx.AsyncClient) -> int:
    return int((await client.get(f"{CP}/stream")).json()["last_event_id"])


async def answers_while_scaled(system: RunningSystem, client: httpx.AsyncClient, replicas: int) -> list[Any]:
    """Of all claims that were open at some time from before the change until after it."""
    claimers = Claimers(client)
    running = [asyncio.create_task(claimers.run(agent_id)) for agent_id in AGENTS]
    before = replica_pids(system)
    await eventually(lambda: all(waits_at(pid) for pid in before), 90, what="claims at every replica")
    await asyncio.to_thread(scale, system, replicas)
    await eventually(lambda: len(replica_pids(system, "RUNNING")) == replicas, 90, what=f"{replicas} replicas")
    if replicas > len(before):
        after = replica_pids(system)
        await eventually(lambda: all(waits_at(pid) for pid in after), 90, what="claims at the new one")
    claimers.stop()
    await asyncio.gather(*running)
    await eventually(lambda: len(replica_pids(system)) == replicas, 90, what="the end of the one that goes")
    return claimers.answers


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
