"""Three regions as processes of their own, and what operators do with them. Faults: `tests.regions.chaos`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.cli.exit_codes import REFUSED
from cluster.domain.base.errors import Conflict, TryLater
from tests.support.etcd import needs_etcd
from tests.support.probes import eventually
from tests.support.region_processes import NAMES, RegionBench, region_bench

pytestmark = [needs_etcd, pytest.mark.slow]


@pytest.fixture
async def bench() -> AsyncIterator[RegionBench]:
    async with region_bench() as found:
        yield found


async def _write_forever(bench: RegionBench) -> None:
    while True:
        await bench.write()


async def _command(bench: RegionBench, region: str, *words: str) -> tuple[int, str]:
    return await bench.regions[region].command(*words)


async def test_operators_hand_the_zone_over_and_back_while_clients_write(bench: RegionBench) -> None:
    await bench.primary()
    writing = asyncio.create_task(_write_forever(bench))
    await eventually(lambda: len(bench.acknowledged) > 5)
    code, out = await _command(bench, "north", "failover", "--to", "west")
    assert (code, "not the zone's primary" in out) == (REFUSED, True)
    code, out = await _command(bench, "east", "failover", "--to", "west", "--json")
    assert (code, json.loads(out)["primary"], json.loads(out)["in_sync"]) == (0, "west", sorted(NAMES))
    before = len(bench.acknowledged)
    await eventually(lambda: len(bench.acknowledged) > before + 5)
    taken = await bench.regions["north"].ask("take")
    assert (taken["primary"], taken["in_sync"]) == ("north", sorted(NAMES))
    with pytest.raises(Conflict):
        await bench.regions["north"].ask("take")
    code, out = await _command(bench, "north", "failback")
    assert (code, "Primary is east" in out) == (0, True)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert await bench.primary() == "east"
    for name in NAMES:
        assert await bench.lost(name) == set()
    sums = await bench.regions["east"].ask("sums", after=0, upto=await _head_of_all(bench))
    assert sums["east"]["count"] > 0
    assert sums == dict.fromkeys(NAMES, sums["east"])
    status = await bench.status("east")
    assert (status["role"], status["in_sync"], status["surplus"]) == ("primary", sorted(NAMES), [])
    assert status["trusted_until"] > time.time() - 60
    code, out = await _command(bench, "west", "status")
    assert (code, "secondary (following)" in out, "in-sync set" in out) == (0, True, True)


async def _head_of_all(bench: RegionBench) -> int:
    """The last row that every region has."""
    return min([(await bench.status(name))["head"] for name in NAMES])


@pytest.mark.longer
async def test_a_forked_region_keeps_its_surplus_and_is_copied_anew() -> None:
    """East commits what nobody else takes, since both others sleep, and is killed before they go on."""
    async with region_bench(ARAGORA_SYNC_INTERVAL="15") as bench:  # so that nobody leaves the set meanwhile
        await bench.primary()
        await bench.write(["east"])
        for name in ("north", "west"):
            bench.regions[name].freeze()
        with pytest.raises(TryLater):
            await bench.regions["east"].work("submit", 0.8, ids=["surplus"])
        bench.regions["east"].kill()
        for name in ("north", "west"):
            bench.regions[name].freeze(go_on=True)
        second = await bench.primary(("north", "west"))
        await bench.write([second])
        bench.regions["east"].start()
        assert await bench.primary() == second
        status = await bench.status("east")
        (kept,) = status["surplus"]
        lines = [
            json.loads(line)
            for line in (bench.regions["east"].folder / "surplus" / kept["name"]).read_text().splitlines()
        ]
        assert kept["rows"] == sum(line["table"] == "log" for line in lines[1:]) > 0
        assert any(line["table"] == "tasks" and "surplus" in line["row"] for line in lines[1:])
        assert (status["problem"], "surplus" in await bench.regions["east"].work("tasks")) == (None, False)
        assert await bench.lost("east") == set()


@pytest.mark.longer
async def test_a_primary_that_slept_writes_nothing_when_it_wakes(bench: RegionBench) -> None:
    await bench.primary()
    await bench.write(["east"])
    bench.regions["east"].freeze()
    second = await bench.primary(("north", "west"))
    bench.regions["east"].freeze(go_on=True)
    with pytest.raises((TryLater, Conflict)):
        await bench.regions["east"].work("submit", ids=["late"])
    await bench.write([second])
    assert await bench.primary() == second
    for name in NAMES:
        assert "late" not in await bench.regions[name].work("tasks")
        assert await bench.lost(name) == set()


@pytest.mark.longer
async def test_a_region_leaves_and_joins_again(bench: RegionBench) -> None:
    await bench.primary()
    code, out = await _command(bench, "east", "leave")
    assert (code, "hand the zone over first" in out) == (REFUSED, True)
    leaving = asyncio.create_task(_command(bench, "west", "leave", "--json"))
    while not leaving.done():
        await bench.write(["east"])
    code, out = leaving.result()
    assert (code, json.loads(out)) == (0, {"region": "west", "member": False})

    async def without_west() -> dict[str, Any] | None:
        found = await bench.status("east")
        return found if {member["region"] for member in found["members"]} == {"east", "north"} else None

    status = await eventually(without_west, what="east has read that west is no member")
    assert "cannot fail over by themselves" in status["no_automatic_failover"]
    assert "west is no member" in " ".join(status["contradictions"])
    assert (await _command(bench, "west", "join"))[0] == 0
    await bench.primary()
    assert await bench.lost("west") == set()


async def test_an_operator_accepts_a_loss_when_nobody_else_is_left(bench: RegionBench) -> None:
    await bench.primary()
    await bench.write(["east"])
    for name in ("east", "north"):
        bench.regions[name].kill()
    code, out = await _command(bench, "west", "failover", "--accept-loss", "--json")
    assert (code, json.loads(out)["primary"]) == (0, "west")
    assert (await bench.status("west"))["no_writes"] == "not_replicated"
    bench.regions["north"].start()
    assert await bench.primary(("north", "west")) == "west"
    await bench.write(["west"])
