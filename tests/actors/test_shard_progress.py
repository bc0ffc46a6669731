"""Progress on a real store: an acknowledged report is durable, whatever happens to the shard, the lease or the attempt."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict
from cluster.domain.scheduling.answers import Done, Lease
from cluster.domain.scheduling.requests import ExtendRequest
from cluster.domain.tasks.progress import Progress, TaskProgress
from cluster.domain.tasks.task import LeaseToken
from tests.support.probes import eventually
from tests.support.shards import TTL_S, Cluster


def _reported(cluster: Cluster, lease: Lease, **fields: Any) -> asyncio.Task[Done]:
    token = LeaseToken.decode(lease.token)
    request = ExtendRequest(
        workspace="w",
        task_id=token.task_id,
        attempt=token.attempt,
        agent_id=token.agent_id,
        progress=Progress(**fields),
    )
    return asyncio.create_task(cluster.client.request(request))


async def _stored(cluster: Cluster, task_id: str) -> TaskProgress | None:
    task = await cluster.stores.tasks.get("w", task_id)
    assert task is not None
    return task.progress


async def _rows(cluster: Cluster) -> int:
    return len([row for row in await cluster.stores.log.read(0, 1000) if row.kind == "progress.stored"])


async def _all_arrived(cluster: Cluster, reports: int) -> None:
    def waiting() -> bool:
        assert cluster.shard is not None
        assert cluster.shard._state is not None
        return len(cluster.shard._state.progress.askers()) == reports

    await eventually(waiting)


async def test_reports_within_a_second_are_stored_once_and_answered_then(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    lease = await cluster.claim_one()
    await _reported(cluster, lease, percent=1.0, checkpoint_json='{"n": 1}')
    first = await _stored(cluster, task_id)
    assert first == TaskProgress(attempt=1, at=cluster.clock.now(), percent=1.0, message=None, checkpoint={"n": 1})
    later = [_reported(cluster, lease, percent=float(n), message=f"{n}") for n in range(2, 20)]
    await _all_arrived(cluster, 18)
    assert await _stored(cluster, task_id) == first
    await cluster.clock.advance(1.0)
    done = await asyncio.gather(*later)
    assert {answer.lease_expires_at for answer in done} == {lease.expires_at}
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert (stored.percent, stored.message, stored.checkpoint) == (19.0, "19", {"n": 1})
    assert await _rows(cluster) == 2, "a row of the log for each commit, not for each report"


async def test_a_report_renews_the_lease_and_costs_nobody_else_a_row(cluster: Cluster) -> None:
    task_id = await cluster.submit(timeout_s=1000.0)
    lease = await cluster.claim_one()
    await cluster.clock.advance(TTL_S - 1)
    done = await _reported(cluster, lease, percent=50.0)
    assert done.lease_expires_at == cluster.clock.now() + TTL_S
    await cluster.client.request(ExtendRequest(workspace="w", task_id=task_id, attempt=1, agent_id="a1"))
    assert await _rows(cluster) == 1


@pytest.mark.parametrize("end", [{"error": "no"}, {"released": True}, {"result_json": "1"}])
async def test_the_last_report_is_stored_before_the_attempt_ends(cluster: Cluster, end: dict[str, Any]) -> None:
    task_id = await cluster.submit()
    lease = await cluster.claim_one()
    await _reported(cluster, lease, percent=1.0)
    waiting = _reported(cluster, lease, percent=2.0, checkpoint_json="2")
    await _all_arrived(cluster, 1)
    await cluster.report(lease, **end)
    await waiting
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert (stored.percent, stored.checkpoint) == (2.0, 2), "without the second that it had to wait"


async def test_an_expired_lease_takes_the_last_report_along(cluster: Cluster) -> None:
    task_id = await cluster.submit(timeout_s=1.5)
    lease = await cluster.claim_one()
    await cluster.clock.advance(1.0)
    await _reported(cluster, lease, percent=1.0)
    waiting = _reported(cluster, lease, checkpoint_json='"last"')
    await _all_arrived(cluster, 1)
    await cluster.clock.advance(0.6)  # the run time is over, the second is not
    await waiting
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert stored.checkpoint == "last"


async def test_a_holder_that_was_replaced_is_refused_as_an_extension_is(cluster: Cluster) -> None:
    task_id = await cluster.submit(max_retries=5)
    old = await cluster.claim_one()
    await _reported(cluster, old, percent=90.0, message="old", checkpoint_json='"old"')
    await cluster.report(old, released=True)
    new = await cluster.claim_one("a2")
    await _reported(cluster, new, percent=1.0)
    for lease in (old, new):
        if lease is new:
            await cluster.report(new, result_json="1")
        with pytest.raises(Conflict) as refused:
            await _reported(cluster, lease, percent=99.0, checkpoint_json='"late"')
        assert refused.value.code == "lease_lost"
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert (stored.attempt, stored.percent, stored.message, stored.checkpoint) == (2, 1.0, None, "old")


async def test_a_killed_shard_loses_no_acknowledged_report(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    lease = await cluster.claim_one()
    await _reported(cluster, lease, percent=30.0, checkpoint_json='{"page": 3}')
    unacknowledged = _reported(cluster, lease, percent=40.0, checkpoint_json='{"page": 4}')
    await _all_arrived(cluster, 1)
    await cluster.crash()
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert (stored.percent, stored.checkpoint) == (30.0, {"page": 3})
    await cluster.start("two")
    await cluster.driven(unacknowledged)
    assert await _stored(cluster, task_id) != stored, "a repeat of the call stores it"
    await cluster.report(lease, released=True)
    await cluster.crash()
    await cluster.start("three")
    again = await cluster.driven(cluster.claim_one("a2"))
    assert (again.head.id, again.head.attempt) == (task_id, 2)
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert stored.checkpoint == {"page": 4}, "what the next attempt goes on from"


async def test_a_shard_that_was_replaced_stores_nothing_and_says_so(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    lease = await cluster.claim_one()
    await cluster.stores.tasks.take_generation("scheduler-0", "another")
    waiting = _reported(cluster, lease, percent=5.0)
    await cluster.driven(waiting)
    stored = await _stored(cluster, task_id)
    assert stored is not None
    assert stored.percent == 5.0, "by its successor, to which the call was repeated"
