"""Notifications on real stores and to real servers: no event is lost or told twice, whatever is killed or refuses."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import replace

import pytest
from standardwebhooks import Webhook
from starlette.requests import Request
from starlette.responses import Response

from actors.deliveries import LEASE_S
from cluster.domain.base.errors import Conflict, Fenced, NotFound, TryLater
from cluster.domain.base.log import record_for
from cluster.domain.notifications.attempts import MOST_AT_ONCE, MOST_BEGUN
from cluster.domain.notifications.delivery import KEPT_S, MOST_ATTEMPTS, DeliveryStatus
from cluster.domain.notifications.digest import MOST_TOLD
from cluster.domain.notifications.events import DIGEST, Severity
from cluster.domain.notifications.quiet import QuietHours
from cluster.domain.notifications.rules import RepeatBy
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.endpoints import serving
from tests.support.notifications import (
    KEY,
    ORIGIN,
    happens,
    keeping,
    new_channel,
    new_rule,
    put_channel,
    put_rule,
    queue_all,
    receiver,
    send_all,
    set_credential,
    told,
)
from tests.support.probes import eventually
from tests.support.samples import NOW
from tests.support.stores import StoreUrls


async def prepared(stores: Stores, url: str, **rule: object) -> None:
    """A webhook to the URL, and a rule that tells it of everything."""
    await set_credential(stores, KEY)
    await put_channel(stores, new_channel(url=url))
    await put_rule(stores, new_rule(**rule))


async def test_an_event_is_sent_signed_and_shown_as_delivered(stores: Stores) -> None:
    async with receiver() as it, keeping(stores, ManualClock(NOW)) as keeper:
        await prepared(stores, f"{it.url}/hook")
        await queue_all(keeper)
        await happens(stores, agent_id="a1")
        await queue_all(keeper)
        await send_all(keeper)
        ((path, headers, body),) = it.got
        (notification,) = await told(stores)
    assert (path, headers["webhook-id"], headers["content-type"]) == ("/hook", notification.id, "application/json")
    assert notification.status is DeliveryStatus.DELIVERED
    assert (notification.event, notification.severity, notification.entity) == ("task.failed", Severity.ERROR, "task_1")
    assert (notification.attempts, notification.next_at, notification.ended_at) == (1, None, NOW)
    # The verifier has a clock of its own, so the signature is compared with one that it makes itself.
    signature = Webhook(KEY).sign(notification.id, _utc(NOW), body.decode())
    assert headers["webhook-signature"] == signature


def _utc(at: float) -> object:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC)


async def test_nothing_is_told_of_what_was_before_the_rule(stores: Stores) -> None:
    async with keeping(stores) as keeper:
        await queue_all(keeper)
        await happens(stores, "before")
        await prepared(stores, "http://127.0.0.1:1/")
        await happens(stores, "after")
        await queue_all(keeper)
    assert [notification.entity for notification in await told(stores)] == ["after"]


async def test_a_rule_that_is_changed_still_tells_of_what_was_before(stores: Stores) -> None:
    async with keeping(stores) as keeper:
        await prepared(stores, "http://127.0.0.1:1/")
        await happens(stores, "between")
        await put_rule(stores, new_rule(least=Severity.ERROR))
        await queue_all(keeper)
    assert [notification.entity for notification in await told(stores)] == ["between"]


async def test_workspaces_hear_only_of_their_own(stores: Stores) -> None:
    async with keeping(stores) as keeper:
        for workspace in ("w", "v"):
            await put_channel(stores, new_channel(workspace=workspace))
            await put_rule(stores, new_rule(workspace=workspace))
            await happens(stores, f"of-{workspace}", workspace=workspace)
        await happens(stores, "of-nobody", workspace="u")
        await queue_all(keeper)
    assert [each.entity for each in await told(stores)] == ["of-w"]
    assert [each.entity for each in await told(stores, "v")] == ["of-v"]


async def test_repeats_are_counted_and_told_after_the_time(stores: Stores) -> None:
    async with keeping(stores) as keeper:
        await prepared(stores, "http://127.0.0.1:1/", repeat_after_s=60.0, repeat_by=RepeatBy.EVENT)
        for n, after_s in enumerate((0.0, 1.0, 59.0, 61.0, 62.0)):
            await happens(stores, f"task_{n}", at=NOW + after_s)
            if n % 2:
                await queue_all(keeper)  # repeats within one commit and over several
        await happens(stores, "task_9", kind="task.timeout", at=NOW + 63)
        await queue_all(keeper)
    found = await told(stores)
    assert [(each.entity, each.repeats) for each in found] == [("task_0", 2), ("task_3", 1), ("task_9", 0)]


async def test_events_of_a_digest_are_told_as_one_at_its_end(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        await prepared(stores, it.url, digest_s=600.0)
        for n in range(130):
            await happens(stores, f"task_{n}", kind="task.failed" if n % 2 else "task.completed")
            if n % 40 == 0:
                await queue_all(keeper)  # events within one commit and over several
        await queue_all(keeper)
        await send_all(keeper)
        assert it.got == [], "it is gathered"
        (open_one,) = await told(stores)
        assert (open_one.event, open_one.repeats, open_one.severity) == (DIGEST, 129, Severity.ERROR)
        await clock.advance(600.0)
        await send_all(keeper)
        await happens(stores, "later")
        await queue_all(keeper)
        digest, later = await told(stores)
        ((_, headers, body),) = it.got
    assert (digest.status, later.status) == (DeliveryStatus.DELIVERED, DeliveryStatus.PENDING)
    assert headers["webhook-id"] == digest.id == open_one.id
    data = json.loads(body)["data"]
    assert data["details"]["counts"] == {"task.completed": 65, "task.failed": 65}
    assert [event["entity"] for event in data["details"]["events"]] == [f"task_{n}" for n in range(MOST_TOLD)]
    assert data["title"] == "130 events of rule all: 65 task.completed, 65 task.failed"


async def test_quiet_hours_hold_back_all_but_the_gravest(stores: Stores) -> None:
    clock = ManualClock(NOW)
    start = int(NOW % 86_400) // 60
    quiet = QuietHours(start=start, end=(start + 60) % 1440)
    async with receiver() as it, keeping(stores, clock) as keeper:
        await prepared(stores, it.url, quiet=quiet)
        for n in range(3):
            await happens(stores, f"task_{n}")
            await queue_all(keeper)
        await happens(stores, "budget_1", kind="budget.level_reached", level=100)
        await queue_all(keeper)
        await send_all(keeper)
        assert [json.loads(body)["type"] for _, _, body in it.got] == ["budget.used"]
        await clock.advance(3600.0)
        await happens(stores, "task_3")
        await queue_all(keeper)
        await send_all(keeper)
        assert sorted(json.loads(body)["type"] for _, _, body in it.got[1:]) == [DIGEST, "task.failed"]
        assert {each.status for each in await told(stores)} == {DeliveryStatus.DELIVERED}


async def test_a_digest_that_is_being_tried_again_stays_as_it_was_sent(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        it.status = 500
        await prepared(stores, it.url, digest_s=60.0)
        await happens(stores, "first")
        await queue_all(keeper)
        await clock.advance(60.0)
        await send_all(keeper)
        await happens(stores, "second")
        await queue_all(keeper)
        it.status = 200
        await clock.advance(60.0)
        await send_all(keeper)
        bodies = {headers["webhook-id"]: body for _, headers, body in it.got}
    assert len(it.got) == 3
    assert [body for _, _, body in it.got].count(it.got[0][2]) == 2, "the same words under the same id"
    assert len(bodies) == 2


async def test_a_receiver_that_fails_gets_the_same_id_again(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        it.status = 500
        await prepared(stores, it.url)
        await happens(stores)
        await queue_all(keeper)
        await send_all(keeper)
        (failed,) = await told(stores)
        assert failed.status is DeliveryStatus.PENDING
        assert failed.error is not None
        assert failed.error.endswith("answers 500.")
        assert (await keeper.status())["warnings"] != []
        await send_all(keeper)
        assert len(it.got) == 1, "it is not due yet"
        it.status = 204
        await clock.advance(5.0)
        await send_all(keeper)
        (delivered,) = await told(stores)
        assert (delivered.status, delivered.attempts, delivered.error) == (DeliveryStatus.DELIVERED, 2, None)
        assert {headers["webhook-id"] for _, headers, _ in it.got} == {delivered.id}
        stamps = [headers["webhook-timestamp"] for _, headers, _ in it.got]
        assert stamps == [str(int(NOW)), str(int(NOW) + 5)]
        assert (await keeper.status())["warnings"] == []


async def test_what_is_never_taken_is_dead_until_somebody_replays_it(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        it.status = 503
        await prepared(stores, it.url)
        await happens(stores)
        await queue_all(keeper)
        for _ in range(MOST_ATTEMPTS + 2):
            await send_all(keeper)
            await clock.advance(3700.0)
        (dead,) = await told(stores, status=DeliveryStatus.DEAD)
        assert (len(it.got), dead.attempts) == (MOST_ATTEMPTS, MOST_ATTEMPTS)
        it.status = 200
        record = record_for(ORIGIN, clock.now(), "notification.replayed", dead.id, {"notification_id": dead.id})
        assert await stores.notifications.replay(record)
        assert not await stores.notifications.replay(record), "it waits already"
        await send_all(keeper)
        (delivered,) = await told(stores)
        assert (delivered.id, delivered.status, delivered.attempts) == (dead.id, DeliveryStatus.DELIVERED, 1)


async def test_a_receiver_that_is_gone_is_not_tried_again(stores: Stores) -> None:
    async with receiver() as it, keeping(stores) as keeper:
        it.status = 410
        await prepared(stores, it.url)
        await happens(stores)
        await queue_all(keeper)
        await send_all(keeper)
        (dead,) = await told(stores)
    assert (dead.status, dead.attempts) == (DeliveryStatus.DEAD, 1)


async def test_a_missing_credential_is_named_and_tried_again(stores: Stores) -> None:
    clock = ManualClock(NOW)
    async with receiver() as it, keeping(stores, clock) as keeper:
        await put_channel(stores, new_channel(url=it.url))
        await put_rule(stores, new_rule())
        await happens(stores)
        await queue_all(keeper)
        await send_all(keeper)
        (waiting,) = await told(stores)
        assert waiting.error == "There is no credential key; set it, or change the channel."
        await set_credential(stores, KEY)
        await clock.advance(5.0)
        await send_all(keeper)
        assert [each.status for each in await told(stores)] == [DeliveryStatus.DELIVERED]


async def test_a_channel_that_hangs_does_not_hold_up_another(stores: Stores) -> None:
    hangs = asyncio.Event()

    async def answer(request: Request) -> Response:
        await hangs.wait()
        return Response()

    async with receiver() as it, serving(answer) as slow, keeping(stores) as keeper:
        await set_credential(stores, KEY)
        await put_channel(stores, new_channel(url=slow))
        await put_channel(stores, new_channel("quick", url=it.url))
        await put_rule(stores, new_rule("all", "hook", "quick"))
        for n in range(3 * MOST_BEGUN):
            await happens(stores, f"task_{n}")
        await queue_all(keeper)

        async def quick_has_all() -> bool:
            await keeper.send_due()
            return len(it.got) == 3 * MOST_BEGUN

        await eventually(quick_has_all)
        hangs.set()
        await eventually(lambda: not keeper.is_sending)
        await send_all(keeper)
    assert Counter(each.status for each in await told(stores)) == {DeliveryStatus.DELIVERED: 6 * MOST_BEGUN}


async def test_many_channels_that_fail_leave_places_for_others(stores: Stores) -> None:
    """They would take all places, and what they get is due before what another one gets."""
    hangs, fails = asyncio.Event(), [True]

    async def answer(request: Request) -> Response:
        if fails[0]:
            return Response(status_code=500)
        await hangs.wait()
        return Response()

    clock, names = ManualClock(NOW), [f"slow-{n}" for n in range(MOST_AT_ONCE)]
    async with receiver() as it, serving(answer) as slow, keeping(stores, clock) as keeper:
        await set_credential(stores, KEY)
        for name in names:
            await put_channel(stores, new_channel(name, url=slow))
        await put_rule(stores, new_rule("slow", *names))
        await happens(stores)
        await queue_all(keeper)
        await send_all(keeper)
        fails[0] = False
        await happens(stores)
        await queue_all(keeper)
        while await keeper.send_due():
            pass
        await clock.advance(1.0)
        await put_channel(stores, new_channel("quick", url=it.url))
        await put_rule(stores, new_rule("quick", "quick"))
        await happens(stores)
        await queue_all(keeper)
        while await keeper.send_due():
            pass
        await it.heard(1)
        hangs.set()
        await eventually(lambda: not keeper.is_sending)
        await clock.advance(60.0)
        await send_all(keeper)
    assert {each.status for each in await told(stores)} == {DeliveryStatus.DELIVERED}


async def test_an_attempt_that_nobody_settled_is_made_again(stores: Stores) -> None:
    """As after a kill between the sending and the commit of its outcome."""
    async with receiver() as it, keeping(stores) as keeper:
        await prepared(stores, it.url)
        await happens(stores)
        await queue_all(keeper)
        ((claimed, _),) = await stores.notifications.claim(NOW, NOW + LEASE_S, 10, [])
        await send_all(keeper)
        assert it.got == [], "somebody else is at it"
        async with keeping(stores, ManualClock(NOW + LEASE_S)) as other:
            await send_all(other)
        await stores.notifications.settle([replace(claimed, status=DeliveryStatus.DEAD, error="late", ended_at=NOW)])
        (delivered,) = await told(stores)
    assert (delivered.id, delivered.status, delivered.attempts) == (claimed.id, DeliveryStatus.DELIVERED, 2)


async def test_of_two_followers_each_event_is_queued_by_one(stores: Stores) -> None:
    async with keeping(stores) as first, keeping(stores) as second:
        await prepared(stores, "http://127.0.0.1:1/")
        await asyncio.gather(queue_all(first), queue_all(second))
        for n in range(20):
            await happens(stores, f"task_{n}")
            for keeper in (first, second):
                try:
                    await queue_all(keeper)
                except TryLater:
                    await queue_all(keeper)
    assert [each.entity for each in await told(stores)] == [f"task_{n}" for n in range(20)]


async def test_a_kill_at_any_moment_neither_loses_nor_doubles(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    """Processes that queue and send, each ended by SIGKILL; a last one does the rest."""
    async with receiver() as it:
        await prepared(stores, it.url)
        command = [sys.executable, "-m", "tests.support.notifications_process", store_urls.database, schema]
        count = 0
        for kill in range(2):
            process = await asyncio.create_subprocess_exec(*command)
            try:
                for _ in range(30):
                    await happens(stores, f"task_{count}")
                    count += 1
                await eventually(lambda: len(it.got) > 10 * (kill + 1))  # noqa: B023 (it ends before the next)
            finally:
                process.kill()
                await process.wait()
        async with keeping(stores, ManualClock(NOW + 10 * LEASE_S)) as keeper:
            await queue_all(keeper)
            await send_all(keeper)
        found = await told(stores)
        assert [each.entity for each in found] == [f"task_{n}" for n in range(count)]
        assert {each.status for each in found} == {DeliveryStatus.DELIVERED}
        assert {headers["webhook-id"] for _, headers, _ in it.got} == {each.id for each in found}


async def test_a_channel_that_a_rule_names_is_not_deleted(stores: Stores) -> None:
    record = record_for(ORIGIN, NOW, "notification.channel_deleted", "hook", {"channel": "hook"})
    async with keeping(stores) as keeper:
        await prepared(stores, "http://127.0.0.1:1/")
        await happens(stores)
        await queue_all(keeper)
        with pytest.raises(Conflict, match="Rules name the channel hook"):
            await stores.notifications.remove_channel(record)
        removed = record_for(ORIGIN, NOW, "notification.rule_deleted", "all", {"rule": "all"})
        assert await stores.notifications.remove_rule(removed)
        assert not await stores.notifications.remove_rule(removed)
        assert await stores.notifications.remove_channel(record)
        assert not await stores.notifications.remove_channel(record)
        (dead,) = await told(stores)
        assert (dead.status, dead.error) == (DeliveryStatus.DEAD, "The channel was deleted.")
        await send_all(keeper)
        with pytest.raises(NotFound, match="make the channel first"):
            await put_rule(stores, new_rule())


async def test_what_ended_long_ago_is_forgotten(stores: Stores) -> None:
    async with receiver() as it:
        async with keeping(stores) as keeper:
            await prepared(stores, it.url)
            await happens(stores)
            await queue_all(keeper)
            await send_all(keeper)
        async with keeping(stores, ManualClock(NOW + KEPT_S - 1)) as keeper:
            await keeper.send_due()
            assert len(await told(stores)) == 1
        async with keeping(stores, ManualClock(NOW + KEPT_S + 1)) as keeper:
            await keeper.send_due()
            assert await told(stores) == []


async def test_a_new_epoch_begins_with_the_last_minute_of_the_old(stores: Stores) -> None:
    """Another region's cursor is not here. What was told already has the same id, so here it is not told again."""
    async with keeping(stores) as keeper:
        await prepared(stores, "http://127.0.0.1:1/")
        await happens(stores, "told", at=NOW)
        await queue_all(keeper)
        await happens(stores, "early", at=NOW + 1)
        await happens(stores, "late", at=NOW + 70)
        await stores.region.raise_epoch("another")
        await happens(stores, "new", at=NOW + 71)
        with pytest.raises(Fenced):
            await queue_all(keeper)
        await queue_all(keeper)
    assert [each.entity for each in await told(stores)] == ["told", "late", "new"]
