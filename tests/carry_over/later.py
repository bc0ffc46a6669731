"""This build, started on what an earlier one left: the clock says what it said then, Redis is empty, agents have moved.

The clock is put back instead of the stored times forward: journals, receipts and the log are bound to their times by
digests, and a picture must not be stale the day after it was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from actors.composition.resources import migrated
from cluster.domain.base.log import LogRow
from tests.carry_over import crew
from tests.carry_over.picture import SCHEMA, Picture, psql
from tests.carry_over.scene import LEASE_S, Scene
from tests.support.answering import Agents
from tests.support.api import STARTED, Api, api_settings
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name
from tests.support.task_api import TaskApi


class MovedClock:
    """The machine's clock, started at another time; ``advance`` lets time pass."""

    def __init__(self, start: float) -> None:
        self._ahead_s = start - time.time()
        self._moved = asyncio.Event()

    def now(self) -> float:
        return time.time() + self._ahead_s

    async def sleep(self, seconds: float) -> None:
        due = self.now() + seconds
        await asyncio.sleep(0)
        while (left_s := due - self.now()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._moved.wait()

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class Later:
    """``agents`` are at new addresses, and talk."""

    def __init__(self, api: Api, clock: MovedClock, agents: Agents, picture: Picture) -> None:
        self.api = api
        self.clock = clock
        self.agents = agents
        self.picture = picture
        self.facts = picture.facts
        self.tasks = TaskApi(api)

    @property
    def scene(self) -> Scene:
        """The calls of the picture's maker, to this build."""
        return Scene(self.api.client, self.agents, facts=self.facts)

    def at_its_addresses(self, answer: Any) -> Any:
        """As if the called agents were where they were."""
        return json.loads(json.dumps(answer).replace(self.agents.url, self.facts["endpoint"]))

    async def log(self) -> list[LogRow]:
        """All of it."""
        return await self.api.stores.log.read(0, 1_000_000)

    async def detail(self, task_id: str) -> str:
        return str((await self.tasks.get(f"/tasks/{task_id}"))["status_detail"])

    async def becomes(self, task_id: str, detail: str) -> None:
        async def is_so() -> bool:
            return await self.detail(task_id) == detail

        await eventually(is_so, what=f"{task_id} to be {detail}")

    async def ended(self, request_id: str) -> dict[str, Any]:
        async def over() -> Any:
            deliberation = await self.api.get(f"/deliberations/{request_id}")
            return deliberation if deliberation["terminal"] is not None else None

        return dict(await eventually(over, what=f"the end of {request_id}"))

    async def ended_run(self, run_id: str) -> dict[str, Any]:
        """A run of a workflow that has completed, with the results of its steps."""

        async def over() -> Any:
            run = await self.api.get(f"/workflow-runs/{run_id}?results=true")
            return run if run["status"] == "completed" else None

        return dict(await eventually(over, what=f"the end of {run_id}"))

    async def repeat(self, call: dict[str, Any]) -> httpx.Response:
        headers = {} if call["key"] is None else {"Idempotency-Key": call["key"]}
        return await self.api.call(call["method"], call["path"], call["body"], headers=headers)


def database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def restored(urls: StoreUrls, picture: Picture) -> str:
    """The name of a database that is as the picture's was."""
    name = fresh_name()
    psql(urls.database, f"create database {name} template template0;")
    psql(database(urls.database, name), picture.dump)
    return name


@contextlib.asynccontextmanager
async def later(
    urls: StoreUrls, picture: Picture, template: str, kinds: tuple[str, ...] = STARTED
) -> AsyncIterator[Later]:
    name, facts = fresh_name(), picture.facts
    psql(urls.database, f"create database {name} template {template};")
    clock = MovedClock(facts["stopped_at"])
    async with crew.crew(talks=True) as agents:
        # Their ports may be taken here. Nothing else of a stored row is touched.
        moved = f"update {SCHEMA}.agents set endpoint = replace(endpoint, '{facts['endpoint']}', '{agents.url}');"
        psql(database(urls.database, name), moved)
        settings = api_settings(
            StoreUrls(database(urls.database, name), urls.redis),
            SCHEMA,
            region="default",
            heartbeat_timeout=LEASE_S,
            secrets_key=picture.sealing_key.read_text() if picture.sealing_key.exists() else None,
        )
        await migrated(settings)  # as the supervisor does before there is any actor
        async with Api(settings, clock).running(kinds) as api:
            yield Later(api, clock, agents, picture)
    psql(urls.database, f"drop database {name} with (force);")
