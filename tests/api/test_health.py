"""Health asks only if the parts serve: it reads no tasks and waits for no metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from actors.roles import REGION_LEADER, TELEMETRY, desired_roles
from cluster.process.front import PROBLEM
from serve_app import components
from serve_app.routes import health
from tests.support.api import Api, api_settings, in_thread
from tests.support.authorities import Issued, Issuer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls


@pytest.fixture
async def whole(store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """Every actor that readiness asks. It waits longer for them than a busy machine needs: all share a process with the test."""
    monkeypatch.setattr(health, "HEALTH_S", 30.0)
    for module in (components, health):
        monkeypatch.setattr(module, "PROBE_S", 30.0)
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
        assert (ready.status_code, ready.json()) == (200, {"status": "ok", "degraded": []}), ready.text
        assert {component["name"]: component["status"] for component in detailed.json()["components"]}[
            "telemetry-0"
        ] == "healthy"
        await asyncio.gather(*scrapes, return_exceptions=True)
    finally:
        await database.close()


async def test_actors_that_are_away_are_named_and_the_replica_stays_ready(whole: Api) -> None:
    for role in desired_roles(whole.settings):
        await whole.kill_role(role)
        ready = await whole.client.get("/health")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded"), ready.text
        (name,) = ready.json()["degraded"]
        detailed = (await whole.client.get("/health/detailed")).json()
        unhealthy = [component for component in detailed["components"] if component["status"] != "healthy"]
        assert [component["name"] for component in unhealthy] == [name]
        assert "restarting" in unhealthy[0]["error"]
        await whole.start_role(role)
        ready = await whole.client.get("/health")
        assert (ready.status_code, ready.json()) == (200, {"status": "ok", "degraded": []})


async def test_the_released_client_reads_the_health_of_a_degraded_replica(whole: Api) -> None:
    await whole.kill(TELEMETRY)
    answer = await in_thread(whole.sdk().request, "GET", "/health")
    assert answer == {"status": "degraded", "degraded": ["telemetry-0"]}


async def test_a_replica_that_drains_or_starts_is_not_ready(whole: Api) -> None:
    whole.gateway.draining = True
    drains = await whole.client.get("/health")
    assert (drains.status_code, drains.json()["code"], drains.headers["retry-after"]) == (503, "not_ready", "1")
    assert (await whole.client.get("/health/live")).status_code == 200
    whole.gateway.draining = False
    gateway = whole.app.state.gateway
    del whole.app.state.gateway
    try:
        starts = await whole.client.get("/health")
        assert (starts.status_code, starts.json()["code"]) == (503, "not_ready")
    finally:
        whole.app.state.gateway = gateway


async def test_telemetry_follows_the_log_after_its_restart(whole: Api) -> None:
    await whole.kill(TELEMETRY)
    actor = await whole.start(TELEMETRY)

    async def follows() -> bool:
        status = await actor.status()
        return bool(status["serving"] and status["cursor"] == await whole.stores.log.head())

    await eventually(follows)


async def test_a_scheduler_that_keeps_reading_its_state_is_said(whole: Api) -> None:
    shard = whole.processes["scheduler-0"].actor

    async def component() -> dict[str, Any]:
        detailed = (await whole.client.get("/health/detailed")).json()
        (found,) = [part for part in detailed["components"] if part["name"] == "Scheduler"]
        return dict(found)

    assert "warnings" not in await component()
    for _ in range(4):
        before = shard._state
        whole.processes["scheduler-0"].run(_fail(shard))
        await eventually(lambda before=before: shard._state not in (None, before))
    found = await component()
    assert found["status"] == "healthy"
    assert "4 times within a minute" in found["warnings"][0]

    async def counted() -> bool:
        return "aragora_cp_scheduler_rereads_total 4.0" in (await whole.client.get("/metrics")).text

    await eventually(counted)


async def _fail(shard: Any) -> None:
    shard._generations.fail(shard._state)


async def test_certificates_that_end_or_are_kept_out_are_told(
    store_urls: StoreUrls, schema: str, tmp_path: Path
) -> None:
    issuer, long = Issuer(), timedelta(days=30)

    def put(name: str, issued: Issued) -> tuple[str, str]:
        return issued.write(tmp_path, name)

    certificate, key = put("server", issuer.issue(ends_in=timedelta(days=8), lasts=long))
    authority, _ = put("ca", issuer.own(timedelta(days=8), long))
    files = {"tls_cert_file": certificate, "tls_key_file": key, "tls_ca_file": authority}
    settings = api_settings(store_urls, schema, tls_enabled=True, **files)
    async with Api(settings, replaced=tmp_path / "replaced").running(()) as api:

        async def told() -> dict[str, Any]:
            ready = (await api.client.get("/health")).json()["degraded"]
            components = (await api.client.get("/health/detailed")).json()["components"]
            (found,) = [component for component in components if component["name"] == "Certificates"]
            assert ("Certificates" in ready) == (found["status"] == "unhealthy")
            return dict(found)

        good = await told()
        assert (good["status"], good.get("warnings")) == ("healthy", None)
        put("ca", issuer.own(timedelta(days=6), long))
        (soon,) = (await told())["warnings"]
        assert soon.startswith(f"ARAGORA_TLS_CA_FILE {authority}"), soon
        put("server", issuer.issue(ends_in=timedelta(days=6), lasts=long))
        assert len((await told())["warnings"]) == 2
        (tmp_path / PROBLEM).write_text("The front keeps its certificates.")
        assert (await told())["error"] == "The front keeps its certificates."
        put("server", issuer.issue(ends_in=timedelta(hours=-1)))
        assert "has expired" in (await told())["error"]
        put("server", issuer.issue(ends_in=timedelta(days=8), lasts=long))
        (tmp_path / "ca.pem").unlink()
        assert "ARAGORA_TLS_CA_FILE" in (await told())["error"]


async def test_a_region_alone_says_so_and_that_its_leader_is_away(whole: Api) -> None:
    found = await whole.get("/regions")
    region = whole.settings.region
    assert (found["enabled"], found["region"], found["primary"]) == (False, region, region)
    assert (found["is_led"], found["members"], found["lag"], found["warnings"]) == (True, [], [], [])
    await whole.kill(REGION_LEADER)
    answer = await whole.call("GET", "/regions")
    assert (answer.status_code, answer.json()["code"]) == (503, "actor_unavailable"), answer.text
