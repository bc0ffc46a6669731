"""Tasks that wait for their children, on a real store: nothing is lost and nothing comes twice, over crashes of the shard."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict
from cluster.domain.scheduling.answers import Lease
from cluster.domain.scheduling.explain import explain
from cluster.domain.scheduling.requests import ExplainRequest, ParkRequest
from cluster.domain.tasks.events import ParkAsked, Reporter
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import LeaseToken, Task, TaskDetail, TaskStatus
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.shards import Cluster


async def _task(cluster: Cluster, task_id: str) -> Task:
    task = await cluster.stores.tasks.get("w", task_id)
    assert task is not None
    return task


async def _is(cluster: Cluster, task_id: str, detail: TaskDetail) -> bool:
    return (await _task(cluster, task_id)).status_detail is detail


async def _child(cluster: Cluster, parent: str, **changes: Any) -> str:
    """It needs what agents of this test do not have unless they say so."""
    rules = TaskRules(parent=parent, depth=1)
    return await cluster.submit(**{"rules": rules, "required_capabilities": ("c",), **changes})


async def _parked(cluster: Cluster, lease: Lease, *children: str, **fields: Any) -> None:
    token = LeaseToken.decode(lease.token)
    await cluster.client.request(
        ParkRequest(
            workspace="w",
            task_id=token.task_id,
            event=ParkAsked(by=Reporter.of(ASKER.principal, token), children=children),
            **fields,
        )
    )


async def _done(cluster: Cluster, **report: Any) -> str:
    """The next child, ended."""
    lease = await cluster.claim_one("worker", capabilities=frozenset({"c"}))
    await cluster.report(lease, **(report or {"result_json": "1"}))
    return lease.head.id


async def test_neither_run_time_nor_retries_are_spent_while_children_run(cluster: Cluster) -> None:
    parent = await cluster.submit(timeout_s=10.0, max_retries=0)
    lease = await cluster.claim_one()
    children = [await _child(cluster, parent) for _ in range(3)]
    await _parked(cluster, lease, *children, progress=Progress(checkpoint_json='{"page": 2}'))
    await _parked(cluster, lease, *children)  # a repeat
    task = await _task(cluster, parent)
    assert (task.status, task.status_detail) == (TaskStatus.PENDING, TaskDetail.WAITING_CHILDREN)
    assert task.assigned_agent is None
    assert task.progress is not None
    assert task.progress.checkpoint == {"page": 2}, "durable when the holder is answered"
    await cluster.clock.advance(1_000.0)
    for n in range(3):
        assert await cluster.claim() == ()
        await _done(cluster, **({"error": "no", "requeue": False} if n == 1 else {}))
    again = await cluster.claim_one("a2")
    assert (again.head.id, again.head.attempt, again.head.retries) == (parent, 2, 0)
    assert await cluster.kinds(parent) == ["submitted", "claimed", "parked", "unparked", "claimed"]


async def test_a_child_that_has_ended_before_is_not_waited_for(cluster: Cluster) -> None:
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    children = [await _child(cluster, parent) for _ in range(2)]
    for _ in children:
        await _done(cluster)
    await _parked(cluster, lease, *children)
    assert (await cluster.claim_one()).head.attempt == 2


async def test_a_crash_at_any_point_loses_and_repeats_no_wake_up(cluster: Cluster) -> None:
    chance = random.Random(18)
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    children = [await _child(cluster, parent) for _ in range(6)]

    async def maybe_crash() -> None:
        if chance.random() < 0.6:
            await cluster.crash()
            await cluster.start()

    await _parked(cluster, lease, *children)
    for _ in children:
        await maybe_crash()
        await _done(cluster)
    await maybe_crash()
    await eventually(lambda: _is(cluster, parent, TaskDetail.QUEUED))
    assert (await cluster.claim_one()).head.attempt == 2
    assert (await cluster.kinds(parent)).count("unparked") == 1


async def test_children_that_ended_while_nobody_looked_wake_the_parent(cluster: Cluster) -> None:
    """As if the commit of the child's end was the last thing that a shard did."""
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    child = await _child(cluster, parent)
    await _parked(cluster, lease, child)
    await cluster.crash()
    await cluster.stores.pool.rows(
        "update tasks set status = 'completed', status_detail = 'completed', completed_at = $2 where id = $1",
        child,
        cluster.clock.now(),
    )
    await cluster.start()
    assert (await cluster.claim_one()).head.attempt == 2


async def test_the_total_time_of_a_parked_task_goes_on(cluster: Cluster) -> None:
    parent = await cluster.submit(rules=TaskRules(total_timeout_s=50.0))
    lease = await cluster.claim_one()
    child = await _child(cluster, parent)
    await _parked(cluster, lease, child)
    await cluster.clock.advance(49.0)
    assert await _is(cluster, parent, TaskDetail.WAITING_CHILDREN)
    await cluster.clock.advance(2.0)
    await eventually(lambda: _is(cluster, parent, TaskDetail.TIMEOUT))
    await eventually(lambda: _is(cluster, child, TaskDetail.CANCELLED))


@pytest.mark.parametrize("crashes", [False, True], ids=["stays", "crashes"])
async def test_a_cancelled_parent_takes_its_family_along(cluster: Cluster, crashes: bool) -> None:
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    child = await _child(cluster, parent)
    grandchild = await _child(cluster, child, rules=TaskRules(parent=child, depth=2))
    other = await _child(cluster, "task_of_nobody")
    await _parked(cluster, lease, child)
    if crashes:
        await cluster.crash()
        await cluster.start()
    await cluster.cancel(parent)
    for task_id in (child, grandchild, other):  # whose parent is not there counts as cancelled
        await eventually(lambda task_id=task_id: _is(cluster, task_id, TaskDetail.CANCELLED))  # type: ignore[misc]
    row = (await cluster.stores.log.read(0, 1000))[-1]
    assert row.data["reason"] == "parent_ended"


async def test_children_of_a_completed_parent_go_on(cluster: Cluster) -> None:
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    child = await _child(cluster, parent)
    await cluster.report(lease, result_json="1")
    late = await _child(cluster, parent)
    await cluster.crash()
    await cluster.start()
    assert {await _done(cluster), await _done(cluster)} == {child, late}


async def test_a_child_that_comes_after_its_parent_failed_is_cancelled(cluster: Cluster) -> None:
    parent = await cluster.submit(max_retries=0)
    await cluster.report(await cluster.claim_one(), error="no")
    child = await _child(cluster, parent)
    await eventually(lambda: _is(cluster, child, TaskDetail.CANCELLED))


async def test_whoever_holds_no_lease_cannot_park(cluster: Cluster) -> None:
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    child = await _child(cluster, parent)
    await cluster.report(lease, released=True)
    await cluster.claim_one()
    with pytest.raises(Conflict) as refused:
        await _parked(cluster, lease, child)
    assert refused.value.code == "lease_lost"
    assert (await _task(cluster, parent)).parked is None


async def test_an_explanation_names_the_children_that_are_open(cluster: Cluster) -> None:
    parent = await cluster.submit()
    lease = await cluster.claim_one()
    children = [await _child(cluster, parent) for _ in range(2)]
    await _parked(cluster, lease, *children)
    ended = await _done(cluster)

    async def explained() -> str:
        view = await cluster.client.request(ExplainRequest(workspace="w", task_id=parent))
        (reason,) = explain(view, (), {}, cluster.clock.now()).reasons
        assert reason.code == "waiting_children"
        return reason.message

    (left,) = set(children) - {ended}
    await eventually(lambda: _says(explained, f"It waits for 1 of its 2 children: {left}."))


async def _says(explained: Any, message: str) -> bool:
    return bool(await explained() == message)
