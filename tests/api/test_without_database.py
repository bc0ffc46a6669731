"""Without Postgres, calls that need it are refused at once with a reason, and go on as soon as it is back."""

from __future__ import annotations

from typing import Any

import httpx

from cluster.postgres.migrate import migrate
from cluster.postgres.pool import BREAKER_THRESHOLD
from tests.support.api import Api, api_settings, in_thread
from tests.support.endpoints import serving
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name, own_stores


async def _breakers(api: Api) -> tuple[dict[str, Any], bool]:
    answer = await api.get("/breakers")
    return {breaker["name"]: breaker for breaker in answer["breakers"]}, answer.get("stale", False)


async def test_the_breaker_of_the_database_opens_is_listed_and_closes_again() -> None:
    with own_stores() as (postgres, redis):
        schema = fresh_name()
        await migrate(postgres.url, schema)
        settings = api_settings(StoreUrls(postgres.url, redis.url), schema)
        async with Api(settings).running() as api, serving(lambda _: httpx.Response(503)) as url:
            await api.post("/agents", {"agent_id": "a1", "endpoint": url})
            task = await api.post("/tasks", {"task_type": "t", "target_agent": "a1", "timeout_seconds": 5})

            async def agents_own() -> bool:
                return "health_a1" in (await _breakers(api))[0]

            await eventually(agents_own)
            assert "database" not in (await _breakers(api))[0], "it has never failed"

            await in_thread(postgres.stop)

            async def opened() -> Any:
                answer = await api.call("GET", "/tasks")
                assert answer.status_code == 503
                found, stale = await _breakers(api)
                assert stale
                assert "health_a1" in found, "as it was last read"
                return found["database"] if found["database"]["state"] == "open" else None

            database = await eventually(opened)
            assert database["failure_count"] >= BREAKER_THRESHOLD
            assert database["last_failure"] is not None

            await in_thread(postgres.start)

            async def closed() -> bool:
                found, stale = await _breakers(api)
                return not stale and found["database"]["state"] == "closed"

            await eventually(closed)
            assert (await api.get(f"/tasks/{task['task_id']}"))["id"] == task["task_id"]
