"""Workspaces that are resident in a zone: how they are made, and which agents get their work."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from actors.roles import AGENT_HOST, REGION_LEADER, SCHEDULER, TELEMETRY
from tests.support.authenticated import Authenticated, authenticated
from tests.support.principals import bearer
from tests.support.samples import registration
from tests.support.stores import StoreUrls


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    kinds = (TELEMETRY, REGION_LEADER, SCHEDULER, AGENT_HOST)
    async with authenticated(store_urls, kinds, region="eu-1", data_residency="eu") as found:
        yield found


async def test_a_workspace_is_made_in_a_zone_for_good(door: Authenticated) -> None:
    body = {"id": "w", "name": "Words of somebody", "zone": "eu"}
    key = {**door.admin, "Idempotency-Key": "k"}
    made = await door.call("POST", "/workspaces", body, key)
    assert (made["zone"], await door.call("POST", "/workspaces", body, key)) == ("eu", made)
    changed = await door.call("PATCH", "/workspaces/w", {"name": "another", "state": "suspended"})
    assert (changed["zone"], changed["name"]) == ("eu", "another")
    refused = await door.api.call("PATCH", "/workspaces/w", {"zone": "us"}, headers=door.admin)
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_field")
    found = {each["id"]: each["zone"] for each in (await door.call("GET", "/workspaces"))["workspaces"]}
    assert found == {"default": None, "w": "eu"}
    row = next(row for row in await door.api.rows("w") if row.kind == "access.workspace_created")
    assert row.data == {"state": "active", "zone": "eu"}
    again = await door.api.call("POST", "/workspaces", body, headers=door.admin)
    assert (again.status_code, again.json()["code"]) == (409, "workspace_exists")


async def test_a_zone_that_no_region_is_in_is_refused(door: Authenticated) -> None:
    refused = await door.api.call("POST", "/workspaces", {"id": "w", "zone": "us"}, headers=door.admin)
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_zone")
    assert await door.api.stores.pool.value("select count(*) from workspace_zones") == 0
    named = await door.api.call("GET", "/workspaces", headers={**door.admin, "X-Aragora-Zone": "us"})
    assert (named.status_code, named.json()["code"]) == (400, "unknown_zone")


async def test_agents_outside_of_the_zone_get_no_work(door: Authenticated) -> None:
    await door.call("POST", "/workspaces", {"id": "w", "zone": "eu"})
    mine = bearer(await door.key("operator", "agent", workspace="w"))
    other = bearer(await door.key("operator", "agent"))
    outside = {"agent_id": "a", "region_id": "us-1"}
    for body in (outside, {"agent_id": "a", "available_regions": ["eu-1", "us-1"]}):
        for path, sent in (("/agents", body), ("/agents/batch", {"agents": [{"agent_id": "b"}, body]})):
            refused = await door.api.call("POST", path, sent, headers=mine)
            assert (refused.status_code, refused.json()["code"]) == (403, "residency_violation")
    assert await door.api.stores.agents.list("w") == []
    await door.call("POST", "/agents", outside, other)
    await door.call("POST", "/agents", {"agent_id": "inside"}, mine)
    assert "task" in await door.call("POST", "/tasks/claim", {"agent_id": "inside", "block_ms": 0}, mine)


async def test_a_claim_of_an_agent_outside_is_refused_and_audited(door: Authenticated) -> None:
    """One that was stored before, as when the zones of the settings were others."""
    await door.call("POST", "/workspaces", {"id": "w", "zone": "eu"})
    mine = bearer(await door.key("operator", "agent", workspace="w"))
    await door.api.stores.agents.register([registration("a", region_id="us-1")])
    refused = await door.api.call("POST", "/tasks/claim", {"agent_id": "a"}, headers=mine)
    assert (refused.status_code, refused.json()["code"]) == (403, "residency_violation")
    await door.api.app.state.denials.write()
    (denial,) = [row for row in await door.api.rows() if row.kind == "auth.denied"]
    assert (denial.workspace, denial.data["code"], denial.data["route"]) == (
        "w",
        "residency_violation",
        "/tasks/claim",
    )
