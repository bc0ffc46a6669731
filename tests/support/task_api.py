"""Tasks over HTTP in few words: what a test submits, claims and expects."""

from __future__ import annotations

from typing import Any

from actors.roles import SCHEDULER
from tests.support.api import CP, Api


class TaskApi:
    """Paths are below the API's prefix. Keyword arguments of ``get`` and ``call`` are query parameters."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.stores = api.stores

    async def call(self, method: str, path: str, body: Any = None, *, expect: int | None = None, **params: Any) -> Any:
        """The answer's JSON; fails unless the status is 2xx, or the one that is given."""
        response = await self.api.client.request(method, CP + path, json=body, params=params)
        expected = response.is_success if expect is None else response.status_code == expect
        assert expected, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    async def get(self, path: str, **params: Any) -> Any:
        return await self.call("GET", path, **params)

    async def post(self, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        return await self.call("POST", path, body, expect=expect)

    async def submit(self, task_type: str = "echo", **fields: Any) -> str:
        return str((await self.post("/tasks", {"task_type": task_type, **fields}))["task_id"])

    async def agent(self, agent_id: str, **fields: Any) -> None:
        await self.post("/agents", {"agent_id": agent_id, **fields})

    async def claim(self, agent_id: str, *, block_ms: int = 0, **fields: Any) -> Any:
        return (await self.post("/tasks/claim", {"agent_id": agent_id, "block_ms": block_ms, **fields}))["task"]

    async def claim_one(self, agent_id: str, **fields: Any) -> Any:
        """Waits: the shard may not have read the submit yet."""
        task = await self.claim(agent_id, block_ms=20_000, **fields)
        assert task is not None
        return task

    async def complete(self, lease: Any) -> None:
        await self.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"]})

    async def fail(self, lease: Any, **fields: Any) -> None:
        await self.post(f"/tasks/{lease['id']}/fail", {"lease_token": lease["lease_token"], "error": "no"} | fields)

    async def is_detail(self, task_id: str, expected: str) -> bool:
        return bool((await self.get(f"/tasks/{task_id}"))["status_detail"] == expected)

    async def shard(self) -> Any:
        return await self.api.actor(SCHEDULER).status()

    async def waits(self, claims: int) -> bool:
        return bool((await self.shard())["waiting_claims"] == claims)

    async def open_is(self, tasks: int) -> bool:
        return bool((await self.shard())["open_tasks"] == tasks)

    async def has_reason(self, task_id: str, code: str) -> bool:
        explained = await self.get(f"/tasks/{task_id}/explain")
        return code in [reason["code"] for reason in explained["reasons"]]

    async def kinds(self, task_id: str) -> list[str]:
        return [event["type"] for event in (await self.get(f"/tasks/{task_id}/events"))["events"]]
