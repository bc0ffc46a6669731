"""Three regions with the real API and actors: a client that knows the address of one that is not the primary needs no other."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from aragora_sdk import AragoraClient

from tests.support.api import CP, in_thread
from tests.support.etcd import needs_etcd
from tests.support.probes import eventually
from tests.support.region_processes import NAMES, WHOLE, region_bench

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.longer]
LINEARIZABLE = {"X-Aragora-Consistency": "linearizable"}
TASKS = 20


async def test_one_address_is_enough_also_after_the_primary_is_lost() -> None:
    async with region_bench(WHOLE) as bench, httpx.AsyncClient(verify=False, timeout=60) as http:
        first = await bench.primary()
        known, other = (bench.regions[name] for name in NAMES if name != first)
        numbers = itertools.count()

        async def submitted() -> str | None:
            key = {"Idempotency-Key": f"k{next(numbers)}"}
            answer = await _answer(http, "POST", f"{known.url}/tasks", json={"task_type": "echo"}, headers=key)
            return None if answer is None else str(answer.json()["task_id"])

        async def read(url: str) -> str:
            """The id of the task that is there, by an answer that is the primary's."""
            answer = await eventually(
                lambda: _answer(http, "GET", url, headers=LINEARIZABLE), 60.0, "a linearizable read is answered"
            )
            assert "x-aragora-staleness" not in answer.headers
            return str(answer.json()["id"])

        await eventually(submitted, 60.0, "a forwarded submit is answered")
        with AragoraClient(base_url=known.url.removesuffix(CP), max_retries=1) as client:
            plane = client.control_plane
            await in_thread(plane.register_agent, agent_id="a1", capabilities=["own"])
            task = await in_thread(plane.create_task, task_type="own", required_capabilities=["own"])
            claimed = await in_thread(plane.claim_task, agent_id="a1", task_types=["own"])
            assert claimed["task"]["id"] == task["task_id"], claimed
            await in_thread(plane.complete_task, task["task_id"])

        for region in itertools.islice(itertools.cycle((known, other)), TASKS):
            task_id = await eventually(submitted, 30.0, "a submit is answered")
            assert await read(f"{region.url}/tasks/{task_id}") == task_id

        bench.regions[first].kill()
        task_id = await eventually(submitted, 60.0, "a submit is answered after the primary was lost")
        for region in (known, other):
            assert await read(f"{region.url}/tasks/{task_id}") == task_id


async def _answer(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> httpx.Response | None:
    """None from a region that cannot serve yet, or now."""
    try:
        answer = await http.request(method, url, **options)
    except httpx.HTTPError:
        return None
    assert answer.is_success or answer.status_code == 503, answer.text
    return answer if answer.is_success else None
