"""Limits of calls at the one door: every way in, every kind of call, over replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from serve_app.auth import shared_limits
from tests.support.api import CP, Api, api_settings
from tests.support.stores import StoreUrls, fresh_name

#: One call, and the next after a minute. A test is over by then.
ONE = {"rate_limit": 1, "rate_limit_heartbeats": 1, "rate_limit_claims": 1}


@pytest.fixture
async def replicas(store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Api]]:
    """Two replicas of one deployment, which do not take a busy machine for a Redis that is away."""
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    settings = api_settings(
        store_urls, schema, redis_prefix=fresh_name(), cors_origins=("http://localhost:3000",), **ONE
    )
    async with AsyncExitStack() as running:
        yield [await running.enter_async_context(Api(settings).running(())) for _ in range(2)]


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.json()["code"] == "rate_limited"
    assert answer.json()["trace_id"] == answer.headers["x-trace-id"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_a_principal_has_one_limit_over_all_replicas(replicas: list[Api]) -> None:
    first, second = replicas
    assert (await first.call("POST", "/tasks", {"task_type": "t"})).status_code == 201
    # On the fast path, through FastAPI, for a read, and at both.
    page = {"Origin": first.url}
    assert_refused(await second.call("POST", "/tasks", {"task_type": "t"}))
    assert_refused(await first.call("POST", "/tasks", {"task_type": "t"}))
    assert_refused(await first.call("POST", "/tasks", {"task_type": "t"}, headers=page))
    assert_refused(await second.call("GET", "/agents"))
    assert_refused(await second.call("GET", "/stream", headers={"Accept": "text/event-stream"}))
    assert_refused(await first.client.request("PUT", CP + "/roles/r", json={"grants": []}))
    with pytest.raises(InvalidStatus) as refused:
        await connect(second.url.replace("http", "ws") + "/ws/control-plane")
    assert refused.value.response.status_code == 429
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost:3000"}], ids=["fast", "whole"])
async def test_heartbeats_and_claims_have_limits_of_their_own(replicas: list[Api], headers: dict[str, str]) -> None:
    first, second = replicas
    for replica in replicas:
        replica.client.headers.update(headers)
    assert (await first.call("POST", "/agents", {"agent_id": "a1"})).status_code == 201
    assert_refused(await first.call("POST", "/agents", {"agent_id": "a2"}))
    # What the door lets in is refused for its body, since no actor runs.
    assert (await second.call("POST", "/agents/heartbeats", {"heartbeats": 1})).status_code == 400
    assert_refused(await first.call("POST", "/agents/a1/heartbeat"))
    assert (await second.call("POST", "/tasks/claim", {"agent_id": 1})).status_code == 400
    assert_refused(await first.call("POST", "/tasks/claim", {"agent_id": "a1", "block_ms": 0}))


async def test_a_call_that_leaves_the_fast_path_counts_once(replicas: list[Api]) -> None:
    answer = await replicas[0].call("POST", "/tasks", {"task_type": 5})
    assert answer.status_code == 400, answer.text


async def test_what_is_public_is_not_limited(replicas: list[Api]) -> None:
    for _ in range(5):
        assert (await replicas[0].client.get("/health/live")).status_code == 200


async def test_without_limits_nothing_is_counted(store_urls: StoreUrls, schema: str) -> None:
    none = dict.fromkeys(ONE, 0)
    async with Api(api_settings(store_urls, schema, **none)).running(()) as api:
        assert api.app.state.limits is None
        assert (await api.call("POST", "/tasks", {"task_type": "t"})).status_code == 201
