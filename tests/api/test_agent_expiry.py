"""Agents that are gone for long leave the fleet; those that are at work, or come back, do not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from actors.roles import HEALTH_MONITOR
from cluster.process.clock import ManualClock
from tests.support.api import Api, api_settings
from tests.support.endpoints import serving
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

EXPIRY_S = 86_400.0
#: A sweep and a half, so that rounding decides nothing.
LATER_S = 60.0


class Fleet:
    """A fleet whose monitor has a clock of its own; everybody else's stands still, since agents that are gone do nothing."""

    def __init__(self, api: Api, monitor: Any, clock: ManualClock) -> None:
        self.api, self.monitor, self.clock = api, monitor, clock

    async def after(self, seconds: float) -> set[str]:
        """Who is registered, with the sweeps of the time between."""
        self.clock._now += seconds
        for _ in range(2):  # the first one finds out who is offline
            await self.monitor.sweep_once()
            await self.known()
        return {agent["agent_id"] for agent in (await self.api.get("/agents?available=false"))["agents"]}

    async def known(self) -> None:
        """Returns when the monitor's copy is as the registry."""

        async def same() -> bool:
            stored = {(a.agent_id, a.liveness, a.health) for a in await self.api.stores.agents.list("default")}
            return stored == {(a.agent_id, a.liveness, a.health) for a in self.monitor._directory.agents()}

        await eventually(same)


@pytest.fixture
async def fleet(store_urls: StoreUrls, schema: str) -> AsyncIterator[Fleet]:
    async with Api(api_settings(store_urls, schema)).running() as api:
        await api.post("/agents/batch", {"agents": [{"agent_id": "gone"}, {"agent_id": "busy"}, {"agent_id": "asked"}]})
        clock = ManualClock(time.time())
        monitor = await api.start(HEALTH_MONITOR, clock=clock)
        await monitor.sweep_once()  # the first look at the heartbeat store begins the watch anew
        yield Fleet(api, monitor, clock)


async def _off(fleet: Fleet) -> None:
    """The control plane finds that everybody is silent."""
    assert await fleet.after(fleet.api.settings.heartbeat_timeout + LATER_S) >= {"gone"}
    assert (await fleet.api.get("/agents/gone"))["liveness"] == "offline"


async def test_an_agent_that_is_gone_leaves_and_comes_back_by_registering(fleet: Fleet) -> None:
    await _off(fleet)
    assert "gone" in await fleet.after(EXPIRY_S - LATER_S)
    assert "gone" not in await fleet.after(2 * LATER_S)
    (row,) = [
        row
        for row in await fleet.api.stores.log.read(0, 1000)
        if row.kind == "agent.unregistered" and row.entity == "gone"
    ]
    assert (row.data["reason"], row.principal) == ("expired", "system:health-monitor")
    await fleet.api.post("/agents", {"agent_id": "gone"})
    await fleet.known()
    assert "gone" in await fleet.after(LATER_S)


async def test_an_agent_at_work_or_in_a_deliberation_stays(fleet: Fleet) -> None:
    await _off(fleet)
    await fleet.api.post(
        "/deliberations",
        {
            "content": "Which?",
            "async": True,
            "request_id": "open",
            "config": {"agents": ["asked", "busy"], "options": ["a", "b"]},
        },
    )
    assert {"asked", "busy"} <= await fleet.after(EXPIRY_S + LATER_S)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_called_agent_leaves_if_its_endpoint_fails_all_the_time(fleet: Fleet, status: int) -> None:
    async with serving(lambda _: httpx.Response(status, json={})) as url:
        await fleet.api.post("/agents", {"agent_id": "called", "endpoint": url})
        await fleet.known()

        async def probed_often() -> bool:
            await fleet.monitor.probes.probe_these(
                [a for a in fleet.monitor._directory.agents() if a.agent_id == "called"]
            )
            stored = await fleet.api.stores.agents.get("default", "called")
            return stored is not None and stored.health.value == ("failed" if status == 500 else "healthy")

        await eventually(probed_often)
        await fleet.known()
        assert "called" in await fleet.after(EXPIRY_S - LATER_S)
        assert ("called" in await fleet.after(2 * LATER_S)) is (status == 200)


async def test_a_monitor_that_was_away_removes_nobody_who_was_there(fleet: Fleet) -> None:
    """Its silence is the control plane's own: nobody could send a heartbeat."""
    fleet.clock._now += 10 * EXPIRY_S
    await fleet.monitor.stop()
    await fleet.monitor.start()
    assert "gone" in await fleet.after(LATER_S)
