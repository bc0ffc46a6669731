"""Tools for language models in a region that is not the primary."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp

from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from serve_app.mcp.door import McpDoor
from tests.support.authenticated import authenticated
from tests.support.mcp_clients import GENERATIONS, called, mcp_client, refused
from tests.support.secondaries import MAX_BODY_BYTES, WEST, a_secondary
from tests.support.stores import StoreUrls, fresh_name


@pytest.fixture
async def own_stores(store_urls: StoreUrls) -> AsyncIterator[Stores]:
    """Of the secondary; the primary has others."""
    name = fresh_name()
    await migrate(store_urls.database, name)
    stores = await open_stores(store_urls.database, name, "test-region", max_connections=4)
    yield stores
    await stores.close()


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_what_a_tool_changes_is_forwarded_to_the_primary(
    generation: str, store_urls: StoreUrls, own_stores: Stores
) -> None:
    doors: list[McpDoor] = []
    work = {"task_type": "t", "payload": 2**53 + 1, "idempotency_key": "k"}
    async with authenticated(store_urls, ()) as primary:
        urls = {WEST: primary.api.url}

        def around(inner: ASGIApp) -> ASGIApp:
            doors.append(McpDoor(inner, primary.api.app, max_body_bytes=MAX_BODY_BYTES))
            return doors[0]

        async with (
            a_secondary(own_stores, urls, around=around) as secondary,
            doors[0].running(),
            mcp_client(secondary.url, generation, primary.admin) as client,
        ):
            task = await called(client, "submit_task", **work)
            assert (await primary.call("GET", f"/tasks/{task['task_id']}"))["payload"] == 2**53 + 1
            assert await called(client, "submit_task", **work) == task
            urls.clear()
            await secondary.names(WEST)
            assert (await refused(client, "cancel", **task))["code"] == "not_primary"
