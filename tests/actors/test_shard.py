"""The scheduler shard without Ray, on a real store: leases, long polls, crashes, two generations at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster.domain.base.errors import ActorUnavailable, Conflict, NotFound
from cluster.domain.base.ids import claim_id_of
from cluster.domain.base.log import record_for
from cluster.domain.scheduling.answers import ClaimAnswer, undelivered
from cluster.domain.scheduling.requests import ExtendRequest, HeartbeatRequest, PrioritizeRequest
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import IdempotencyKey, TaskStatus
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic
from tests.support.probes import eventually
from tests.support.samples import ASKER, NOW, new_task, registration
from tests.support.shards import TTL_S, Cluster


async def test_a_task_goes_from_submit_through_claim_to_its_end(cluster: Cluster) -> None:
    task_id = await cluster.submit(payload={"x": 1})
    lease = await cluster.claim_one()
    assert (lease.head.id, lease.head.attempt, lease.expires_at) == (task_id, 1, NOW + TTL_S)
    assert await cluster.claim("a2") == ()
    await cluster.report(lease, result_json='{"y": 2}')
    assert await cluster.status(task_id) is TaskStatus.COMPLETED
    assert await cluster.kinds(task_id) == ["submitted", "claimed", "completed"]


async def test_a_submit_wakes_waiting_claims_and_one_of_them_wins(cluster: Cluster) -> None:
    waiting = [asyncio.create_task(cluster.claim(f"a{n}", wait=True)) for n in range(20)]
    shard = cluster.shard
    assert shard is not None

    async def all_wait() -> bool:
        return (await shard.status())["waiting_claims"] == 20

    await eventually(all_wait)
    task_id = await cluster.submit()
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert [lease.head.id for task in done for lease in task.result()] == [task_id]
    for task in rest:
        task.cancel()
    await eventually(lambda: shard._state is not None and shard._state.core.waiting_claims == 0)


async def test_a_claim_whose_client_has_hung_up_takes_no_task(cluster: Cluster) -> None:
    hung_up = asyncio.create_task(cluster.claim("gone", wait=True))
    shard = cluster.shard
    assert shard is not None
    await eventually(lambda: shard._state is not None and shard._state.core.waiting_claims == 1)
    hung_up.cancel()
    task_id = await cluster.submit()
    lease = await cluster.claim_one("here")
    assert (lease.head.id, lease.head.attempt) == (task_id, 1)


async def test_an_undelivered_lease_goes_back_without_costing_a_retry(cluster: Cluster) -> None:
    await cluster.submit(max_retries=0)
    lease = await cluster.claim_one()
    (back,) = undelivered(ClaimAnswer(leases=(lease,)))
    await cluster.client.request(back)
    await cluster.client.request(back)
    again = await cluster.claim_one("a2")
    assert (again.head.attempt, again.head.retries) == (2, 0)
    with pytest.raises(Conflict):
        await cluster.report(lease)


async def test_a_claim_that_is_sent_twice_waits_once(cluster: Cluster) -> None:
    """The call seemed lost and had arrived: two tasks for one answer would leave one of them to nobody."""
    shard = cluster.shard
    assert shard is not None
    waiting = asyncio.create_task(cluster.claim("a1", wait=True, max_concurrency=2))
    await eventually(lambda: shard._state is not None and shard._state.core.waiting_claims == 1)
    ((number, asked),) = cluster.client._waiting.items()
    shard._handle(cluster.client._caller, [(number, asked.request)])
    assert shard._state is not None
    assert shard._state.core.waiting_claims == 1
    first = await cluster.submit()
    assert [lease.head.id for lease in await waiting] == [first]
    second = await cluster.submit()
    assert (await cluster.claim_one("a2")).head.id == second


async def test_a_lease_for_a_replica_that_has_been_forgotten_goes_back(cluster: Cluster) -> None:
    shard = cluster.shard
    assert shard is not None
    waiting = asyncio.create_task(cluster.claim("a1", wait=True))
    await eventually(lambda: shard._state is not None and shard._state.core.waiting_claims == 1)
    shard._answers.exchange._callers.clear()  # as ``hung_up`` does, with the answer on its way
    task_id = await cluster.submit()

    async def given_back() -> bool:
        return (await cluster.kinds(task_id))[:3] == ["submitted", "claimed", "requeued"]

    await eventually(given_back)
    waiting.cancel()


async def test_a_full_agent_gets_its_oldest_lease_again_and_others_new_work(cluster: Cluster) -> None:
    for _ in range(3):
        await cluster.submit()
    first = await cluster.claim_one("a1", max_concurrency=2)
    second = await cluster.claim_one("a1", max_concurrency=2)
    again = await cluster.claim_one("a1", max_concurrency=2)
    assert first.head.id != second.head.id
    assert (again.head, again.redelivered) == (first.head, True)
    batch = await cluster.claim("a1", max_concurrency=2, max_tasks=5)
    assert batch == ()


async def test_a_repeated_claim_id_gives_the_same_leases(cluster: Cluster) -> None:
    ids = {await cluster.submit() for _ in range(3)}
    asked = {"max_concurrency": 10, "max_tasks": 3, "claim_id": "mine", "client_claim_id": True}
    await eventually(lambda: cluster.shard._state.core.open_tasks == 3)  # type: ignore[union-attr]
    first = await cluster.claim("a1", **asked)
    again = await cluster.claim("a1", **asked)
    assert {lease.head.id for lease in first} == ids
    assert [lease.token for lease in again] == [lease.token for lease in first]


async def test_a_silent_agents_task_goes_to_another_and_its_lease_is_fenced(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    lost = await cluster.claim_one("a1")
    await cluster.clock.advance(TTL_S - 1)
    await cluster.client.request(HeartbeatRequest(agents=(("w", "a1"),)))
    await cluster.clock.advance(TTL_S - 1)
    assert await cluster.claim("a2") == ()
    await cluster.clock.advance(2)
    taken = await cluster.claim_one("a2")
    assert (taken.head.id, taken.head.attempt, taken.head.retries) == (task_id, 2, 1)
    with pytest.raises(Conflict) as refused:
        await cluster.report(lost)
    assert refused.value.code == "lease_lost"
    await cluster.report(taken)
    assert await cluster.kinds(task_id) == ["submitted", "claimed", "requeued", "claimed", "completed"]


async def _is_held_by_nobody(cluster: Cluster, task_id: str) -> bool:
    return await cluster.status(task_id) is not TaskStatus.RUNNING


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_task_that_ends_three_workers_in_a_row_is_dead(cluster: Cluster, restarts: bool) -> None:
    """Whatever its retries, and whoever counts: a shard that starts reads it from the log."""
    task_id = await cluster.submit(max_retries=100)
    for attempt in range(1, 7):
        lease = await cluster.claim_one(f"a{attempt}")
        assert lease.head.attempt == attempt
        if attempt == 3:
            await cluster.report(lease, error="it says why", error_class=ErrorClass.RETRYABLE)  # which ends the row
            await cluster.clock.advance(10)
        else:
            await cluster.clock.advance(TTL_S + 1)
            # Before a crash: a shard that starts gives a lease that it finds its whole time again.
            await eventually(lambda: _is_held_by_nobody(cluster, task_id))
        if restarts and attempt < 6:
            await cluster.crash()
            await cluster.start(cluster.published)
    assert await cluster.status(task_id) is TaskStatus.FAILED
    (dead,) = [row for row in await cluster.stores.log.read(0, 1000) if row.kind == "task.dead_lettered"]
    assert (dead.data["reason"], dead.attempt) == ("kills_workers", 6)


async def test_leases_outlive_a_standstill_of_the_shard(cluster: Cluster) -> None:
    """The heartbeats of that time wait to be read. What was due before it, and what nobody renews after it, ends all the same."""
    await cluster.start()
    await cluster.submit()
    lease = await cluster.claim_one()
    await cluster.clock.stand_still(4 * TTL_S)
    await cluster.report(lease, result_json='{"y": 2}')
    assert await cluster.status(lease.head.id) is TaskStatus.COMPLETED
    await cluster.submit()
    lost = await cluster.claim_one()
    await cluster.clock.stand_still(4 * TTL_S)
    await cluster.clock.advance(TTL_S + 1)
    with pytest.raises(Conflict) as refused:
        await cluster.report(lost)
    assert refused.value.code == "lease_lost"


async def test_an_extension_renews_one_lease_and_only_its_holders(cluster: Cluster) -> None:
    await cluster.submit()
    lease = await cluster.claim_one("a1")
    await cluster.clock.advance(10)
    extend = ExtendRequest(workspace="w", task_id=lease.head.id, attempt=1, agent_id="a1")
    done = await cluster.client.request(extend)
    assert done.lease_expires_at == NOW + 10 + TTL_S
    with pytest.raises(Conflict):
        await cluster.client.request(ExtendRequest(workspace="w", task_id=lease.head.id, attempt=1, agent_id="a2"))


async def test_run_time_is_enforced_whatever_the_holder_says(cluster: Cluster) -> None:
    task_id = await cluster.submit(timeout_s=20.0, max_retries=0)
    lease = await cluster.claim_one("a1")
    await cluster.clock.advance(19)
    await cluster.client.request(HeartbeatRequest(agents=(("w", "a1"),)))
    await cluster.clock.advance(1)
    await eventually(lambda: _is(cluster, task_id, TaskStatus.TIMEOUT))
    with pytest.raises(Conflict):
        await cluster.report(lease)


def _is(cluster: Cluster, task_id: str, expected: TaskStatus) -> Awaitable[bool]:
    async def check() -> bool:
        return await cluster.status(task_id) is expected

    return check()


async def test_delayed_and_retried_tasks_wait_for_their_time(cluster: Cluster) -> None:
    task_id = await cluster.submit(run_at=NOW + 60)
    await eventually(lambda: cluster.shard._state.core.open_tasks == 1)  # type: ignore[union-attr]
    assert await cluster.claim() == ()
    await cluster.clock.advance(60)
    lease = await cluster.claim_one()
    assert lease.head.id == task_id
    await cluster.report(lease, error="broken")
    assert await cluster.claim() == ()
    await cluster.clock.advance(1.01)
    again = await cluster.claim_one()
    assert (again.head.attempt, again.head.retries) == (2, 1)


async def test_a_delayed_task_does_not_wait_for_a_later_timer(cluster: Cluster) -> None:
    """A delayed task brings a timer without a decision; the timers' loop sleeps until the lease's, TTL_S from now."""
    await cluster.submit()
    await cluster.claim_one("a1")
    shard = cluster.shard
    assert shard is not None
    await cluster.clock.advance(1)
    await eventually(lambda: shard._alarm.wakes_at == NOW + TTL_S)
    delayed = await cluster.submit(run_at=NOW + 5)
    await eventually(lambda: shard._alarm.wakes_at == NOW + 5)
    waiting = asyncio.create_task(cluster.claim("a2", wait=True))
    await cluster.clock.advance(6)
    await eventually(waiting.done)
    (lease,) = waiting.result()
    assert lease.head.id == delayed


async def test_a_cancel_stops_waiting_tasks_at_once_and_running_ones_through_holders(cluster: Cluster) -> None:
    waiting = await cluster.submit()
    await cluster.cancel(waiting)
    assert await cluster.status(waiting) is TaskStatus.CANCELLED
    await cluster.cancel(waiting)
    running = await cluster.submit()
    lease = await cluster.claim_one("a1")
    assert lease.head.id == running
    await cluster.cancel(running)
    assert await cluster.status(running) is TaskStatus.RUNNING
    told = await cluster.client.request(HeartbeatRequest(agents=(("w", "a1"),)))
    assert told.cancelling == (("w", "a1", running),)
    await cluster.clock.advance(11)
    await eventually(lambda: _is(cluster, running, TaskStatus.CANCELLED))
    assert await cluster.kinds(running) == [
        "submitted",
        "claimed",
        "cancel_requested",
        "cancel_delivered",
        "cancelled",
    ]
    done = await cluster.submit()
    await cluster.report(await cluster.claim_one())
    with pytest.raises(Conflict) as refused:
        await cluster.cancel(done)
    assert refused.value.code == "already_terminal"
    with pytest.raises(NotFound):
        await cluster.cancel("task_unknown")


async def test_a_report_is_answered_alike_when_repeated_even_long_after_the_end(cluster: Cluster) -> None:
    await cluster.submit()
    lease = await cluster.claim_one()
    for _ in range(3):
        await cluster.report(lease, result_json="1")
    with pytest.raises(Conflict):
        await cluster.report(lease, error="changed my mind")
    await cluster.report(lease, token=False)
    with pytest.raises(Conflict):
        await cluster.report(lease, token=False, principal="somebody-else")


async def test_a_deregistered_or_silent_agent_loses_its_leases_at_once(cluster: Cluster) -> None:
    await cluster.stores.agents.register([registration("a1"), registration("a2")])
    task_id = await cluster.submit()
    await cluster.claim_one("a1")
    await cluster.stores.agents.remove([record_for(ASKER, NOW, "agent.unregistered", "a1")])
    await cluster.bell.notify(*WakeTopic)
    taken = await cluster.claim_one("a2")
    assert (taken.head.id, taken.head.retries) == (task_id, 0)
    with pytest.raises(NotFound) as refused:
        await cluster.claim("a1")
    assert refused.value.code == "agent_not_registered"


async def test_priority_can_be_changed_while_waiting(cluster: Cluster) -> None:
    first, second = await cluster.submit(), await cluster.submit()
    change = PrioritizeRequest(workspace="w", principal="p", task_id=second, priority=100)
    await cluster.client.request(change)
    assert (await cluster.claim_one()).head.id == second
    with pytest.raises(Conflict):
        await cluster.client.request(change)
    assert (await cluster.claim_one("a2")).head.id == first


async def test_a_killed_shard_is_rebuilt_with_leases_queue_and_waiting_claims(cluster: Cluster) -> None:
    running, queued = await cluster.submit(), await cluster.submit()
    lease = await cluster.claim_one("a1")
    assert lease.head.id == running
    await cluster.crash()
    report = asyncio.create_task(cluster.report(lease))
    late = asyncio.create_task(cluster.claim("a3", wait=True))
    restarted = asyncio.create_task(cluster.start("two"))
    await cluster.clock.advance(0)
    await restarted

    async def held_calls_are_repeated() -> bool:
        await cluster.clock.advance(0.1)
        return report.done() and late.done()

    await eventually(held_calls_are_repeated)
    assert await cluster.status(running) is TaskStatus.COMPLETED
    assert [claimed.head.id for claimed in late.result()] == [queued]


async def test_a_restarted_shard_still_tells_the_processes_of_an_agent_apart(cluster: Cluster) -> None:
    """The process that held the lease was killed, and another one goes on under the same agent id."""
    task_id = await cluster.submit()
    lost = await cluster.claim_one("a1", claim_id=claim_id_of("killed", "1"), client_claim_id=True)
    await cluster.crash()
    await cluster.start("two")
    for _ in range(3):
        await cluster.client.request(HeartbeatRequest(agents=(), processes=(("w", "a1", "next"),)))
        assert await cluster.claim("a1", claim_id=claim_id_of("next", "1"), client_claim_id=True) == ()
        await cluster.clock.advance(TTL_S / 2 - 1)
    again = await cluster.claim_one("a1", claim_id=claim_id_of("next", "2"), client_claim_id=True)
    assert (lost.head.id, again.head.id, again.head.attempt) == (task_id, task_id, 2)
    for _ in range(3):
        await cluster.client.request(HeartbeatRequest(agents=(), processes=(("w", "a1", "next"),)))
        await cluster.clock.advance(TTL_S / 2 - 1)
    await cluster.report(again)
    assert await cluster.kinds(task_id) == ["submitted", "claimed", "requeued", "claimed", "completed"]


async def test_only_the_newer_generation_of_two_shards_writes(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    old = cluster.shard
    assert old is not None
    await eventually(lambda: old._state is not None and old._state.core.open_tasks == 1)
    new = await cluster.start("two")
    cluster.shard, cluster.published = old, "two"
    pending = asyncio.create_task(cluster.claim("a1"))
    await eventually(lambda: old._state is not None and old._state.failed)
    for _ in range(5):
        await cluster.clock.advance(1.0)
    with pytest.raises(ActorUnavailable):
        await old.status()
    await cluster.crash()
    cluster.shard = new
    await eventually(lambda: _done(cluster, pending))
    assert [lease.head.id for lease in (await cluster.claim("a1"))] == [task_id]
    claims = [kind for kind in await cluster.kinds(task_id) if kind == "claimed"]
    assert claims == ["claimed"]


async def test_a_shard_that_is_still_published_recovers_in_place(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    old = cluster.shard
    assert old is not None
    first = (await old.status())["generation"]
    other = await cluster.start("two")
    cluster.shard = old
    pending = asyncio.create_task(cluster.claim("a1"))
    await eventually(lambda: _done(cluster, pending))
    assert (await old.status())["generation"] == first + 2
    assert [lease.head.id for lease in await cluster.claim("a1", max_concurrency=2)] in ([task_id], [])
    assert (await cluster.kinds(task_id)).count("claimed") == 1
    await other.stop()


def _done(cluster: Cluster, task: asyncio.Task[Any]) -> Awaitable[bool]:
    async def check() -> bool:
        await cluster.clock.advance(0.1)
        if task.done():
            task.exception()
        return task.done()

    return check()


async def test_idempotency_keys_are_forgotten_when_their_window_is_over(cluster: Cluster) -> None:
    async def submit(body: bytes) -> bool:
        key = IdempotencyKey(route="tasks", key="k", body_digest=body)
        (outcome,) = await cluster.stores.tasks.submit(
            [SubmitItem(task=new_task(created_at=cluster.clock.now()), idempotency=key)]
        )
        return outcome.conflict

    await cluster.crash()
    await cluster.start("two", idempotency_window_s=100.0, cleanup_s=60.0)
    assert not await submit(b"one")
    await cluster.clock.advance(60)
    assert await submit(b"another")

    async def forgotten() -> bool:
        await cluster.clock.advance(60)
        return not await submit(b"another")

    await eventually(forgotten)


async def _life(cluster: Cluster, steps: list[Callable[[], Awaitable[Any]]]) -> None:
    for step in steps:
        await step()


async def test_a_crash_after_any_commit_loses_nothing_and_doubles_nothing(cluster: Cluster) -> None:
    """Stops the shard after each journalled event of a life with retry, expiry and completion, and rebuilds it."""
    task_id = await cluster.submit(max_retries=5)

    async def restart() -> None:
        await cluster.crash()
        await cluster.start("again")

    await restart()
    first = await cluster.claim_one("a1")
    await restart()
    await cluster.report(first, error="try again")
    await restart()
    await cluster.report(first, error="try again")
    await cluster.clock.advance(1.01)
    second = await cluster.claim_one("a1")
    await restart()
    await cluster.clock.advance(TTL_S + 1)
    third = await cluster.claim_one("a2")
    await restart()
    with pytest.raises(Conflict):
        await cluster.report(second)
    await cluster.report(third, result_json='"done"')
    await restart()
    await cluster.report(third, result_json='"done"')
    with pytest.raises(Conflict):
        await cluster.cancel(task_id)
    assert await cluster.kinds(task_id) == [
        "submitted",
        "claimed",
        "retried",
        "claimed",
        "requeued",
        "claimed",
        "completed",
    ]
    task = await cluster.stores.tasks.get("w", task_id)
    assert task is not None
    assert (task.result, task.attempt, task.retries) == ("done", 3, 2)
