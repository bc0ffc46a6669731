"""Readiness asks only if the parts serve: it reads no tasks and waits for no metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from actors.roles import TELEMETRY, desired_roles
from tests.support.api import Api, api_settings
from tests.support.probes import eventually
from tests.support.stores import StoreUrls


@pytest.fixture
async def whole(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    """Every actor that readiness asks."""
    settings = api_settings(store_urls, schema)
    async with Api(settings).running(()) as api:
        for role in desired_roles(settings):
            await api.start_role(role)
        yield api


async def test_readiness_reads_no_tasks_and_waits_for_no_rendering_that_does(whole: Api, store_urls: StoreUrls) -> None:
    telemetry = whole.actor(TELEMETRY)
    database = await asyncpg.connect(store_urls.database)
    try:
        async with database.transaction():
            await database.execute(f'lock table "{whole.settings.database_schema}".tasks in access exclusive mode')
            scrapes = [asyncio.ensure_future(telemetry.render()) for _ in range(8)]  # more than it has connections
            ready = await whole.client.get("/health")
            detailed = await whole.client.get("/health/detailed")
        assert (ready.status_code, ready.json()) == (200, {"status": "ok"}), ready.text
        assert {component["name"]: component["status"] for component in detailed.json()["components"]}[
            "telemetry-0"
        ] == "healthy"
        await asyncio.gather(*scrapes, return_exceptions=True)
    finally:
        await database.close()


async def test_telemetry_that_is_away_makes_the_replica_not_ready(whole: Api) -> None:
    await whole.kill(TELEMETRY)
    ready = await whole.client.get("/health")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert "telemetry-0" in ready.json()["reason"]
    actor = await whole.start(TELEMETRY)
    assert (await whole.client.get("/health")).status_code == 200

    async def follows() -> bool:
        status = await actor.status()
        return bool(status["serving"] and status["cursor"] == await whole.stores.log.head())

    await eventually(follows)
