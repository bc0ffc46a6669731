"""The number of API replicas changes while claims wait: HAProxy is replaced, a replica ends, and no claim is cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import psutil

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


async def test_starting_and_ending_replicas_cut_no_waiting_claim(system: RunningSystem) -> None:
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=system.api_url, timeout=60, limits=fresh) as client:
        for agent_id in AGENTS:
            answer = await client.post(f"{CP}/agents", json={"agent_id": agent_id, "capabilities": ["nothing-of-this"]})
            assert answer.is_success, answer.text
        for replicas in (2, 1):
            answers = await answers_while_scaled(system, client, replicas)
            assert len(answers) >= len(AGENTS)
            cut = [reply for reply in answers if reply[0] != 200 or json.loads(reply[1])["task"] is not None]
            assert not cut, (replicas, cut)
