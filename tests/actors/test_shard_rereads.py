"""A shard that reads its state again and again says so."""

from __future__ import annotations

from typing import Any

from actors.scheduler.rereads import FEW, WITHIN_S
from tests.support.probes import eventually
from tests.support.shards import Cluster


async def _read_again(cluster: Cluster, times: int) -> None:
    assert cluster.shard is not None
    for _ in range(times):
        before: Any = cluster.shard._state
        cluster.shard._generations.fail(before)
        await eventually(lambda before=before: cluster.shard and cluster.shard._state not in (None, before))


async def _status(cluster: Cluster) -> dict[str, Any]:
    assert cluster.shard is not None
    return await cluster.shard.status()


async def test_a_few_rereads_are_counted_and_more_are_said(cluster: Cluster) -> None:
    counted: list[None] = []

    async def count() -> None:
        counted.append(None)

    await cluster.crash()
    await cluster.start(count_reread=count)
    assert (await _status(cluster))["rereads_per_minute"] == 0, "a start is no re-read"
    await _read_again(cluster, FEW)
    status = await _status(cluster)
    assert (status["rereads_per_minute"], status["warnings"]) == (FEW, [])
    await _read_again(cluster, 1)
    (warning,) = (await _status(cluster))["warnings"]
    assert f"{FEW + 1} times within a minute" in warning
    assert len(counted) == FEW + 1
    await cluster.clock.advance(WITHIN_S + 1)
    assert (await _status(cluster))["warnings"] == []
