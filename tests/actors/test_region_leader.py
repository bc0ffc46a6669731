"""The region's leader: one at a time, and an epoch that a restart does not change."""

from __future__ import annotations

from actors.region_leader import RegionLeader
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.probes import eventually


def _leader(stores: Stores, holder: str, clock: ManualClock, ttl_s: float = 60.0) -> RegionLeader:
    return RegionLeader(
        region="test-region", holder=holder, region_store=stores.region, leases=stores.leases, clock=clock, ttl_s=ttl_s
    )  # fmt: skip


async def test_one_region_has_one_leader_whose_restart_changes_no_epoch(stores: Stores) -> None:
    clock = ManualClock()
    first, second = _leader(stores, "one", clock), _leader(stores, "two", clock)
    await first.start()
    await second.start()
    before, other = await first.status(), await second.status()
    assert (before["leader"], other["leader"]) == (True, False)
    await first.stop()
    await clock.advance(20.0)

    async def leads() -> bool:
        return bool((await second.status())["leader"])

    await eventually(leads)
    after = await second.status()
    assert after["epoch"] == before["epoch"]
    assert after["fence"] > before["fence"]  # type: ignore[operator]
    await second.stop()


async def test_a_leader_that_was_killed_is_followed_when_its_lease_is_over(stores: Stores) -> None:
    clock = ManualClock()
    dead = _leader(stores, "dead", clock, ttl_s=0.2)
    assert await dead.campaign()
    heir = _leader(stores, "heir", clock)
    assert await eventually(heir.campaign)
    assert not await dead.campaign()
