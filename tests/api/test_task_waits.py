"""Calls, clients and commands that wait for the end of a task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aragora_worker.api import ControlPlaneClient
from aragora_worker.blocking import BlockingClient
from aragora_worker.errors import ApiError, TaskNotCompleted
from cluster.domain.base.errors import NotFound, StoreUnavailable
from tests.support.api import STARTED, Api
from tests.support.authenticated import authenticated
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

#: Waits that end at an event of the test take less; one that misses it fails here, before its time is over.
SOON_S = 20
LONG = 25


def _waiting(api: Api) -> int:
    """Calls of the replica that wait for the end of a task."""
    return sum(map(len, api.gateway.hub._ends.values()))


async def _waits(api: Api, calls: int) -> None:
    """Returns when so many calls wait, and have looked at their task for the last time before its end."""
    await eventually(lambda: _waiting(api) == calls and api.gateway.hub._cursor > 0)
    events = [event for waiting in api.gateway.hub._ends.values() for event in waiting]
    await eventually(lambda: not any(event.is_set() for event in events) and not api.gateway.task_reads._waiting)


async def _complete(tasks: TaskApi, **fields: Any) -> None:
    lease = await tasks.claim_one("a1")
    await tasks.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], **fields})


async def _fail(tasks: TaskApi) -> None:
    await tasks.fail(await tasks.claim_one("a1"), error_class="not_retryable")


async def _die(tasks: TaskApi) -> None:
    await tasks.fail(await tasks.claim_one("a1"))


async def _cancel(tasks: TaskApi) -> None:
    (task,) = (await tasks.get("/tasks"))["tasks"]
    await tasks.post(f"/tasks/{task['id']}/cancel")


@pytest.mark.parametrize(
    ("end", "fields", "detail"),
    [
        (_complete, {}, "completed"),
        (_fail, {}, "failed"),
        (_die, {"max_retries": 0}, "dead_lettered"),
        (_cancel, {}, "cancelled"),
        (None, {"queue_timeout_seconds": 0.5}, "timeout"),
    ],
    ids=["complete", "fail", "die", "cancel", "timeout"],
)
async def test_whoever_waits_learns_how_the_task_ended(
    tasks: TaskApi, end: Callable[[TaskApi], Awaitable[None]] | None, fields: Any, detail: str
) -> None:
    await tasks.agent("a1", capabilities=["no"] if end is None else [])
    if end is None:
        fields = {**fields, "required_capabilities": ["nobody"]}
    task_id = await tasks.submit(**fields)
    waiting = asyncio.create_task(tasks.get(f"/tasks/{task_id}", wait=LONG))
    if end is not None:  # else its time may be over before the call waits
        await eventually(lambda: _waiting(tasks.api) == 1)
        await end(tasks)
    task = await asyncio.wait_for(waiting, SOON_S)
    assert task == await tasks.get(f"/tasks/{task_id}")
    assert task["status_detail"] == detail
    assert _waiting(tasks.api) == 0


async def test_many_that_wait_cost_no_query_each(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    waited = [await tasks.submit(required_capabilities=["later"]) for _ in range(4)]
    calls = [asyncio.create_task(tasks.get(f"/tasks/{task_id}", wait=LONG)) for task_id in waited * 15]
    await _waits(tasks.api, len(calls))
    reads = 0
    real = tasks.api.gateway.tasks.get_many

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await real(*arguments)

    tasks.api.gateway.tasks.get_many = counted  # type: ignore[method-assign]
    for _ in range(10):
        last = await tasks.submit("other")
        await tasks.complete(await tasks.claim_one("a1"))
    head = (await tasks.get("/stream"))["last_event_id"]
    await eventually(lambda: tasks.api.gateway.hub._cursor >= int(head))
    assert (await tasks.get(f"/tasks/{last}"))["status"] == "completed"
    assert reads == 11, "the ten claims and the test's own look: the waiting calls have not asked again"
    await tasks.agent("a2", capabilities=["later"], max_concurrency=4)
    for _ in waited:
        await tasks.complete(await tasks.claim_one("a2"))
    found = await asyncio.wait_for(asyncio.gather(*calls), SOON_S)
    assert {task["status"] for task in found} == {"completed"}


async def test_a_wait_that_is_over_answers_with_the_state_then(tasks: TaskApi) -> None:
    task_id = await tasks.submit()
    assert (await tasks.get(f"/tasks/{task_id}", wait=0.05))["status"] == "pending"
    assert (await tasks.call("POST", "/tasks", {"task_type": "t"}, wait=0.05))["task"]["status_detail"] == "queued"
    await tasks.post(f"/tasks/{task_id}/cancel")
    assert (await tasks.get(f"/tasks/{task_id}", wait=3600))["status"] == "cancelled"


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon", "", "1e99", "true"])
async def test_a_wait_that_is_no_time_is_refused(tasks: TaskApi, wait: str) -> None:
    answer = await tasks.call("GET", "/tasks/task_1", wait=wait, expect=400)
    assert "wait" in answer["error"]
    await tasks.call("POST", "/tasks", {"task_type": "t"}, wait=wait, expect=400)
    assert (await tasks.get("/tasks"))["total"] == 0
    await tasks.call("GET", "/tasks/task_nobody", wait=LONG, expect=404)


async def test_a_submit_that_waits_answers_with_the_task(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    body = {"task_type": "t", "idempotency_key": "k"}
    waiting = [asyncio.create_task(tasks.call("POST", "/tasks", body, wait=LONG, expect=201)) for _ in range(2)]
    await _complete(tasks, result={"n": 1})
    answers = await asyncio.wait_for(asyncio.gather(*waiting), SOON_S)
    assert answers[0] == answers[1]
    assert answers[0]["task"] == await tasks.get(f"/tasks/{answers[0]['task_id']}")
    assert answers[0]["task"]["result"] == {"n": 1}
    assert await tasks.post("/tasks", body) == {"task_id": answers[0]["task_id"]}


async def test_a_submit_whose_task_cannot_be_read_is_answered_with_its_id(tasks: TaskApi) -> None:
    async def away(*arguments: Any) -> Any:
        raise StoreUnavailable("The store is away.")

    real, tasks.api.gateway.tasks.get_many = tasks.api.gateway.tasks.get_many, away  # type: ignore[method-assign]
    answer = await tasks.call("POST", "/tasks", {"task_type": "t"}, wait=LONG, expect=201)
    tasks.api.gateway.tasks.get_many = real  # type: ignore[method-assign]
    assert list(answer) == ["task_id"]
    assert (await tasks.get(f"/tasks/{answer['task_id']}"))["status"] == "pending"


async def test_who_hangs_up_waits_no_more(tasks: TaskApi) -> None:
    task_id = await tasks.submit()
    calls = [
        asyncio.create_task(tasks.get(f"/tasks/{task_id}", wait=LONG)),
        asyncio.create_task(tasks.call("POST", "/tasks", {"task_type": "t"}, wait=LONG)),
    ]
    await eventually(lambda: _waiting(tasks.api) == 2)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await eventually(lambda: _waiting(tasks.api) == 0)


async def test_a_task_that_ends_while_nobody_follows_the_log_is_seen(tasks: TaskApi) -> None:
    """The hub stops to follow when the last one leaves, and what ends before it follows again is in no row that it reads."""
    hub = tasks.api.gateway.hub
    with hub.end_of("w", "task_1") as first:
        await asyncio.wait_for(first.wait(), SOON_S)
        first.clear()
    with hub.end_of("w", "task_1") as second:  # the loop has not noticed yet that nobody was there
        await asyncio.wait_for(second.wait(), SOON_S)


async def test_waiting_takes_the_permission_to_read(store_urls: StoreUrls) -> None:
    async with authenticated(store_urls, STARTED) as door:
        await door.call("POST", "/workspaces", {"id": "w"})
        headers = door.admin | {"X-Aragora-Workspace": "w"}
        await door.call("PUT", "/roles/writer", {"permissions": ["controlplane:tasks.write"]}, headers)
        await door.call("PUT", "/roles/reader", {"permissions": ["controlplane:tasks.read"]}, headers)
        writer, reader, operator = [
            bearer(await door.key(role, workspace="w")) for role in ("writer", "reader", "operator")
        ]
        refused = await door.api.call("POST", "/tasks?wait=1", {"task_type": "t"}, headers=writer)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await door.call("GET", "/tasks", headers=reader))["total"] == 0
        task_id = (await door.call("POST", "/tasks", {"task_type": "t", "payload": {"secret": 1}}, writer))["task_id"]
        seen = await door.call("GET", f"/tasks/{task_id}?wait=0.05", headers=reader)
        assert (seen["status"], "payload" in seen) == ("pending", False)
        await door.call("POST", "/agents", {"agent_id": "a1"}, operator)
        claim = {"agent_id": "a1", "block_ms": 20_000}
        lease = (await door.call("POST", "/tasks/claim", claim, operator))["task"]
        report = {"lease_token": lease["lease_token"], "result": {"secret": 1}}
        await door.call("POST", f"/tasks/{task_id}/complete", report, operator)
        token = reader["Authorization"].removeprefix("Bearer ")
        async with ControlPlaneClient(door.api.url, token) as client:
            with pytest.raises(ApiError) as raised:
                await client.result(task_id)
        assert raised.value.code == "result_withheld"


async def test_a_client_gets_results_and_learns_of_other_ends(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    async with ControlPlaneClient(tasks.api.url) as client:
        task_id = await tasks.submit()
        waiting = asyncio.create_task(client.result(task_id))
        await eventually(lambda: _waiting(tasks.api) == 1)
        await _complete(tasks, result=[1, None])
        assert await asyncio.wait_for(waiting, SOON_S) == [1, None]
        failed = await tasks.submit()
        await tasks.fail(await tasks.claim_one("a1"), error="too hard", error_class="not_retryable")
        with pytest.raises(TaskNotCompleted, match=f"Task {failed} has failed: too hard") as raised:
            await client.result(failed)
        assert (raised.value.code, raised.value.task["id"]) == ("task_failed", failed)
        with pytest.raises(NotFound):
            await client.result("task_nobody")
        with pytest.raises(TimeoutError):
            await client.result(await tasks.submit(), timeout_s=0.05)

    def blocking() -> Any:
        with BlockingClient(tasks.api.url) as client:
            assert client.get(f"/tasks/{failed}")["status"] == "failed"
            return client.post("/tasks", {"task_type": "t"}, idempotency_key="k"), client.result(task_id)

    submitted, found = await asyncio.to_thread(blocking)
    assert (list(submitted), found) == (["task_id"], [1, None])


async def test_a_client_waits_on_over_an_outage(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    async with ControlPlaneClient(tasks.api.url) as client, contextlib.aclosing(client.task_states(task_id)) as states:
        assert (await anext(states))["status"] == "pending"
        real = tasks.api.gateway.tasks.get_many
        asked = asyncio.Event()

        async def away(*arguments: Any) -> Any:
            asked.set()
            raise StoreUnavailable("The store is away.")

        tasks.api.gateway.tasks.get_many = away  # type: ignore[method-assign]
        ending = asyncio.ensure_future(anext(states))
        await asked.wait()
        tasks.api.gateway.tasks.get_many = real  # type: ignore[method-assign]
        await tasks.post(f"/tasks/{task_id}/cancel")
        assert (await asyncio.wait_for(ending, SOON_S))["status"] == "cancelled"
