"""Clients of regions whose histories are checked: what they were answered must be in the region that is primary afterwards."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from cluster.postgres.pool import connect
from cluster.settings import Settings
from tests.support.region_processes import RegionOnMachine

AGENT = "a1"
#: Longer than any answer of a region that lives.
ANSWER_S = 8.0
RETRY_S = 0.1


@dataclass
class History:
    """``acknowledged``: ids that were answered to the submits under a key. ``seen``: tasks that anybody was shown, each with the
    greatest attempt of its leases; ``completed``: tasks whose completion was answered. ``refused``: codes of other answers."""

    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    completed: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)

    def saw(self, task_id: str, attempt: int = 0) -> None:
        self.seen[task_id] = max(attempt, self.seen.get(task_id, 0))

    async def problems(self, region: RegionOnMachine) -> list[str]:
        """What was answered and is not in the region's database, in sentences."""
        schema = region.environment.get("ARAGORA_DATABASE_SCHEMA") or Settings.model_fields["database_schema"].default
        pool = await connect(region.postgres.url, schema, max_size=1)
        try:
            rows = await pool.rows("select id, status, attempt, payload::text as payload from tasks")
        finally:
            await pool.close()
        tasks = {row["id"]: row for row in rows}
        keys = Counter(json.loads(row["payload"])["key"] for row in rows)
        acknowledged = set().union(*self.acknowledged.values())
        ended = {task_id for task_id, row in tasks.items() if row["status"] == "completed"}
        behind = {
            task_id
            for task_id, attempt in self.seen.items()
            if task_id in tasks and tasks[task_id]["attempt"] < attempt
        }
        found = {
            "acknowledged and lost": acknowledged - tasks.keys(),
            "seen and not there": self.seen.keys() - tasks.keys(),
            "leased and not so there": behind,
            "completed and not so there": self.completed - ended,
            "there twice": {key for key, count in keys.items() if count > 1},
            "answered with several ids": {key for key, ids in self.acknowledged.items() if len(ids) > 1},
        }
        return [f"{what}: {sorted(which)}" for what, which in found.items() if which]


class Clients:
    """They try the regions in turn, and repeat a call under the same key until it is answered."""

    def __init__(self, regions: Sequence[RegionOnMachine]) -> None:
        self.history = History()
        self._regions = itertools.cycle(regions)
        self._region = next(self._regions)
        self._http = httpx.AsyncClient(timeout=ANSWER_S, verify=False)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Clients:
        await self._answered("POST", "/agents", {"agent_id": AGENT, "capabilities": []})
        self._tasks = [asyncio.create_task(work) for work in (*map(self._submit, "xyz"), self._work(), self._read())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    @property
    def answered(self) -> int:
        """Submits that were acknowledged."""
        return len(self.history.acknowledged)

    async def repeat_all(self) -> None:
        """Repeats each acknowledged submit: its answer is the first one's."""
        for key in list(self.history.acknowledged):
            await self._submit_one(key)

    async def _submit(self, name: str) -> None:
        for number in itertools.count():
            await self._submit_one(f"{name}{number}")

    async def _submit_one(self, key: str) -> None:
        body = {"task_type": "echo", "payload": {"key": key}}
        answer = await self._answered("POST", "/tasks", body, {"Idempotency-Key": key})
        self.history.acknowledged.setdefault(key, set()).add(answer["task_id"])

    async def _work(self) -> None:
        for number in itertools.count():
            claim = {"agent_id": AGENT, "claim_id": f"c{number}", "block_ms": 500}
            task = (await self._answered("POST", "/tasks/claim", claim))["task"]
            if task is None:
                continue
            self.history.saw(task["id"], task["attempt"])
            done = await self._answered("POST", f"/tasks/{task['id']}/complete", {"lease_token": task["lease_token"]})
            if "error" not in done:
                self.history.completed.add(task["id"])

    async def _read(self) -> None:
        while True:
            for task in (await self._answered("GET", "/tasks?limit=20"))["tasks"]:
                self.history.saw(task["id"])
                if task["status"] == "completed":
                    self.history.completed.add(task["id"])

    async def _answered(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The first answer that is none of a region that cannot serve now."""
        while True:
            region = self._region
            try:
                response = await self._http.request(method, region.url + path, json=body, headers=headers)
            except httpx.HTTPError:
                self.history.refused["no answer"] += 1
            else:
                found: dict[str, Any] = response.json()
                if response.status_code < 500:
                    return found
                self.history.refused[found["code"]] += 1
            if region is self._region:
                self._region = next(self._regions)
            await asyncio.sleep(RETRY_S)
