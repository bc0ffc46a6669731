"""Pushes on real stores and to real servers: the newest state is told, whatever is killed or refuses."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from actors.deliveries import LEASE_S
from cluster.domain.access.sealing import NoSealingKey
from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import record_for
from cluster.domain.notifications.delivery import KEPT_S, MOST_ATTEMPTS, Taken, settled
from cluster.domain.notifications.pushes import MOST_OF_TASK, NewPush, PushSecret, push_id_of
from cluster.http.origins import origin_of
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.notifications import ORIGIN, SEALING, Receiver, happens, keeping, queue_all, receiver, send_all
from tests.support.samples import NOW
from tests.support.stores import StoreUrls

TASK = "task_1"


def new_push(url: str, id: str = "p", task_id: str = TASK, **secret: str) -> NewPush:
    return NewPush(
        workspace="w",
        task_id=task_id,
        id=id,
        principal=ORIGIN.principal,
        created_at=NOW,
        url=url,
        origin=origin_of(url) or "",
        in_context=False,
        secret=PushSecret(**secret),
    )


async def put(stores: Stores, push: NewPush, keys: Any = SEALING) -> None:
    data = {"push_id": push.push_id, "task_id": push.task_id}
    record = record_for(ORIGIN, NOW, "notification.push_set", push.push_id, data)
    await stores.pushes(keys).put(push, record)


def told(it: Receiver) -> list[str]:
    """The states that a receiver was told of."""
    return [json.loads(body)["statusUpdate"]["status"]["state"].removeprefix("TASK_STATE_") for _, _, body in it.got]


async def left(stores: Stores) -> list[str]:
    return [push.id for push in await stores.pushes(SEALING).of_task("w", TASK)]


async def test_each_state_is_told_with_the_secrets_of_its_client(stores: Stores) -> None:
    async with receiver() as it, keeping(stores) as keeper:
        await queue_all(keeper)
        await put(stores, new_push(f"{it.url}/hook", token="tok", scheme="Bearer", credentials="cred"))
        for kind in ("task.claimed", "task.asked", "task.completed"):
            await happens(stores, TASK, kind)
            await queue_all(keeper)
            await send_all(keeper)
        assert await left(stores) == [], "who was told of the end needs nothing more"
    assert told(it) == ["WORKING", "INPUT_REQUIRED", "COMPLETED"]
    path, headers, body = it.got[0]
    assert (path, headers["authorization"], headers["x-a2a-notification-token"]) == ("/hook", "Bearer cred", "tok")
    assert json.loads(body)["statusUpdate"] == {
        "taskId": TASK,
        "contextId": TASK,
        "status": {"state": "TASK_STATE_WORKING", "timestamp": json.loads(body)["statusUpdate"]["status"]["timestamp"]},
    }


async def test_secrets_are_stored_sealed_and_need_a_key(stores: Stores) -> None:
    await put(stores, new_push("http://127.0.0.1:1/", token="planted-token"))
    (row,) = await stores.pool.rows("select sealed, p::text as text from pushes p")
    assert b"planted" not in bytes(row["sealed"])
    assert "planted" not in row["text"]
    with pytest.raises(NoSealingKey):
        await put(stores, new_push("http://127.0.0.1:1/", "other", token="t"), keys=())
    await put(stores, new_push("http://127.0.0.1:1/", "plain"), keys=())


async def test_a_state_of_before_the_cursor_is_told(stores: Stores) -> None:
    """As after another region was the primary: the cursor of a new epoch begins at the end of the log."""
    async with receiver() as it, keeping(stores) as keeper:
        await put(stores, new_push(it.url))
        await happens(stores, TASK, "task.claimed")
        await happens(stores, TASK, "task.completed")
        await queue_all(keeper)
        await send_all(keeper)
    assert told(it) == ["COMPLETED"]


async def test_who_is_away_is_told_once_of_the_newest_state(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        await queue_all(keeper)
        await put(stores, new_push(it.url))
        it.status = 503
        await happens(stores, TASK, "task.claimed")
        await queue_all(keeper)
        await send_all(keeper)
        for kind in ("task.asked", "task.answered", "task.failed"):
            await happens(stores, TASK, kind)
        await queue_all(keeper)
        await send_all(keeper)
        assert len(it.got) == 1, "a newer state does not make a receiver that fails be called sooner"
        it.status = 200
        await clock.advance(60)
        await send_all(keeper)
    assert told(it) == ["WORKING", "FAILED"]


async def test_a_state_that_changes_during_an_attempt_is_told_after_it(stores: Stores) -> None:
    pushes = stores.pushes(SEALING)
    async with receiver() as it, keeping(stores) as keeper:
        await queue_all(keeper)
        await put(stores, new_push(it.url))
        await happens(stores, TASK, "task.claimed")
        await queue_all(keeper)
        (claimed,) = await pushes.claim(NOW, NOW + LEASE_S, 10, [])
        await happens(stores, TASK, "task.completed")
        await queue_all(keeper)
        await send_all(keeper)
        assert it.got == [], "an attempt is under way"
        await pushes.settle([settled(claimed, Taken(), NOW, 0.5)])
        await send_all(keeper)
        assert (told(it), await left(stores)) == (["COMPLETED"], [])


async def test_who_never_answers_is_given_up_and_forgotten(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        it.status = 500
        await queue_all(keeper)
        await put(stores, new_push(it.url))
        await happens(stores, TASK, "task.completed")
        await queue_all(keeper)
        for _ in range(MOST_ATTEMPTS + 2):
            await send_all(keeper)
            await clock.advance(5_000)
        assert len(it.got) == MOST_ATTEMPTS
        assert await left(stores) == ["p"]
        await clock.advance(KEPT_S)
        await send_all(keeper)
        assert await left(stores) == []


async def test_an_address_that_became_forbidden_is_not_called(stores: Stores) -> None:
    async with receiver() as it, keeping(stores) as keeper:
        await queue_all(keeper)
        await put(stores, new_push("http://169.254.169.254/latest"))
        await put(stores, new_push(it.url, "good"))
        await happens(stores, TASK, "task.completed")
        await queue_all(keeper)
        await send_all(keeper)
        (row,) = await stores.pool.rows("select status, attempts, error from pushes")
    assert (row["status"], row["attempts"], len(it.got)) == ("dead", 1, 1)
    assert "169.254.169.254" in row["error"]


async def test_pushes_of_a_task_are_bounded_and_one_may_be_replaced(stores: Stores) -> None:
    for n in range(MOST_OF_TASK):
        await put(stores, new_push("http://127.0.0.1:1/", f"p{n}"))
    with pytest.raises(Conflict, match="10 pushes"):
        await put(stores, new_push("http://127.0.0.1:1/", "more"))
    await put(stores, new_push("http://127.0.0.1:2/", "p0"))
    assert (await stores.pushes(SEALING).of_task("w", TASK))[0].url == "http://127.0.0.1:2/"
    push_id = push_id_of("w", TASK, "p0")
    record = record_for(ORIGIN, NOW, "notification.push_deleted", push_id, {"push_id": push_id, "task_id": TASK})
    assert [await stores.pushes(SEALING).remove(record) for _ in range(2)] == [True, False]


async def test_a_kill_at_any_moment_loses_no_end(stores: Stores, store_urls: StoreUrls, schema: str) -> None:
    """Processes that queue and send, each ended by SIGKILL; a last one does the rest."""
    async with receiver() as it:
        command = [sys.executable, "-m", "tests.support.notifications_process", store_urls.database, schema]
        ids = [f"task_{n}" for n in range(40)]
        for task_id in ids:
            await put(stores, new_push(it.url, task_id=task_id))
        for kill in range(2):
            process = await asyncio.create_subprocess_exec(*command)
            try:
                for task_id in ids[kill * 20 : kill * 20 + 20]:
                    await happens(stores, task_id, "task.claimed")
                    await happens(stores, task_id, "task.completed")
                await it.heard(1 + kill * 5)
            finally:
                process.kill()
                await process.wait()
        async with keeping(stores, ManualClock(NOW + LEASE_S)) as keeper:
            await queue_all(keeper)
            await send_all(keeper)
    updates = [json.loads(body)["statusUpdate"] for _, _, body in it.got]
    assert {each["taskId"] for each in updates if each["status"]["state"] == "TASK_STATE_COMPLETED"} == set(ids)
