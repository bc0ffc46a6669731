"""Actors of one region of several: they run while it is primary, and one process at a time drives it."""

from __future__ import annotations

from typing import Any

import pytest

from actors.primary_only import PrimaryOnly
from actors.region_member import RegionMember
from cluster.domain.base.errors import StoreUnavailable, TryLater
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from tests.support.gates import gated
from tests.support.probes import eventually


class Remembers:
    """An actor that remembers the epoch in which it was made."""

    def __init__(self, lives: list[Remembers], stores: Stores, fails: bool) -> None:
        self._stores, self._fails = stores, fails
        self.epoch = 0
        self.is_running: bool | None = None
        lives.append(self)

    async def start(self) -> None:
        if self._fails:
            raise StoreUnavailable("The database does not answer.")
        self.is_running, self.epoch = True, self._stores.epoch.value

    async def stop(self) -> None:
        self.is_running = False
        raise StoreUnavailable("What it releases is refused.")

    async def status(self) -> dict[str, Any]:
        return {"serving": True}

    async def add(self, number: int) -> int:
        return self.epoch + number


async def test_each_epoch_has_an_actor_of_its_own(stores: Stores) -> None:
    async with gated(stores) as region:
        lives: list[Remembers] = []

        async def epoch() -> int:
            row = await region.statuses.read()
            stores.epoch.value = row.epoch
            return row.epoch

        actor = PrimaryOnly(
            "The scheduler",
            lambda: Remembers(lives, stores, fails=not lives),
            region.gate,
            epoch,
            SystemClock(),
            region.deaths.append,
        )
        await actor.start()
        assert await actor.status() == {"serving": False, "waits_for": "primary"}
        with pytest.raises(TryLater) as refused:
            await actor.add(1)
        assert refused.value.code == "not_primary"

        await region.becomes_primary(5)
        await eventually(lambda: len(lives) > 1 and lives[1].is_running)
        assert (await actor.add(1), lives[0].is_running) == (6, False)
        assert (await actor.status(), stores.epoch.value) == ({"serving": True}, 5)

        await region.database.close_writes()
        await eventually(lambda: lives[1].is_running is False)
        with pytest.raises(TryLater):
            await actor.add(1)

        await region.becomes_primary(6)
        await eventually(lambda: len(lives) > 2 and lives[2].is_running)
        assert await actor.add(1) == 7
        await actor.stop()
        assert [life.is_running for life in lives] == [False] * 3
        assert region.deaths == []


class Drives:
    """A process of a region, of which one may run at a time."""

    running: list[Drives] = []
    taken = False

    async def start(self) -> None:
        if Drives.taken:
            raise OSError("address in use")
        assert Drives.running == []
        Drives.running.append(self)

    async def stop(self) -> None:
        Drives.running.remove(self)

    async def status(self) -> dict[str, object]:
        return {"phase": "primary"}


def member(stores: Stores, holder: str, deaths: list[BaseException]) -> RegionMember:
    return RegionMember(
        region="east",
        holder=holder,
        make=Drives,
        leases=stores.leases,
        clock=SystemClock(),
        ttl_s=0.3,
        on_fatal=deaths.append,
    )


async def test_one_process_drives_the_region(stores: Stores) -> None:
    deaths: list[BaseException] = []
    first, second = member(stores, "first", deaths), member(stores, "second", deaths)
    Drives.taken = True
    await first.start()
    await eventually(lambda: "address in use" in first._problem)
    assert (await first.status())["warnings"] == ["The region's leader cannot start yet: address in use."]
    Drives.taken = False
    await eventually(lambda: Drives.running)
    assert await first.status() == {"leader": True, "phase": "primary"}

    await second.start()
    await eventually(lambda: "Another process" in second._problem)
    (runs,) = Drives.running
    await first.stop()
    await eventually(lambda: Drives.running not in ([], [runs]))
    assert (await second.status())["leader"] is True

    await stores.pool.execute("update leases set holder = 'third', until = now() + interval '1 hour'")
    await eventually(lambda: Drives.running == [])
    assert (await second.status())["leader"] is False
    await second.stop()
    assert deaths == []
