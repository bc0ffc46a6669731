"""Another application, or another number of replicas, on a system that runs: what Serve has, and who follows the streams."""

from __future__ import annotations

import json
from typing import Any

import httpx
import websockets

from cluster.cli.system import serve_config
from cluster.embedded.ray_cluster import APPLICATION, deploy
from cluster.settings import load_settings
from tests.support.system import RunningSystem

CP = "/api/control-plane"


def token(system: RunningSystem) -> str:
    return system.layout.ray_token.read_text().strip()


def served(system: RunningSystem) -> dict[str, Any]:
    """What Serve says about the application."""
    url = f"{system.run_file.dashboard_url}/api/serve/applications/"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token(system)}"}, timeout=10).raise_for_status().json()
    application: dict[str, Any] = answer["applications"][APPLICATION]
    return application


def replica_states(system: RunningSystem) -> dict[int, str]:
    """By process, of those of the API's replicas that Serve still knows, whatever they are doing; none while it reads an
    application. One that is about to start has no process yet."""
    replicas = served(system)["deployments"].get("Api", {}).get("replicas", [])
    return {replica["pid"]: replica["state"] for replica in replicas if replica.get("pid")}


def replica_pids(system: RunningSystem, state: str | None = None) -> list[int]:
    """Those in one state, or all."""
    return [pid for pid, has in replica_states(system).items() if state in (None, has)]


def deploy_replicas(system: RunningSystem, replicas: int) -> None:
    """As `serve deploy` does with another ``num_replicas``, which is no new version."""
    deployments = serve_config(load_settings(system.environment))["applications"][0]["deployments"]
    (api,) = [deployment for deployment in deployments if deployment["name"] == "Api"]
    api["num_replicas"] = replicas
    _deploy(system, deployments=deployments)


def deploy_environment(system: RunningSystem, **variables: str) -> None:
    """As `serve deploy` does for an application with another environment, which is a new version."""
    _deploy(system, runtime_env={"env_vars": variables})


def _deploy(system: RunningSystem, **changes: Any) -> None:
    """The application as it is now deployed, with ``changes``."""
    config = serve_config(load_settings(system.environment))
    config["applications"] = [{**served(system)["deployed_app_config"], **changes}]
    deploy(system.run_file.dashboard_url, token(system), config)


class Listener:
    """Follows the stream over SSE and over a WebSocket, and resumes each by its cursor alone."""

    def __init__(self, system: RunningSystem, after: int) -> None:
        self._url = system.api_url + f"{CP}/stream"
        self.after = after
        #: Sequence numbers, as they came.
        self.sse: list[int] = []
        self.socket: list[int] = []
        self.sse_ends = 0
        self.close_codes: list[int | None] = []

    async def read_sse(self) -> None:
        cursor = self.after
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
            cursor = self.socket[-1] if self.socket else self.after
            async with websockets.connect(f"{self._url.replace('http', 'ws')}?after={cursor}") as socket:
                try:
                    while True:
                        frame = json.loads(await socket.recv())
                        self.socket += [frame["seq"]] if "seq" in frame else []
                except websockets.ConnectionClosed as closed:
                    self.close_codes.append(closed.rcvd.code if closed.rcvd else None)


async def newest(client: httpx.AsyncClient) -> int:
    return int((await client.get(f"{CP}/stream")).json()["last_event_id"])
