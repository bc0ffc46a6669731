"""Digests are joined twice: by the core, those of one look at the log, and by the database, with what is queued already."""

from __future__ import annotations

import random

from cluster.domain.notifications.digest import MOST_TOLD, as_digest, joined
from cluster.domain.notifications.events import EVENT_TYPES, Severity
from cluster.domain.notifications.rules import Queued
from cluster.postgres.stores import Stores
from tests.support.notifications import new_channel, put_channel
from tests.support.samples import NOW

EVENTS = tuple(event.name for event in EVENT_TYPES)


def _event(chance: random.Random, round_: int, number: int) -> Queued:
    return as_digest(
        Queued(
            id=f"ntf_{round_}_{number}",
            workspace="w",
            channel="hook",
            rule="all",
            event=chance.choice(EVENTS),
            severity=chance.choice(list(Severity)),
            entity=f"task_{number}",
            seq=number + 1,
            at=NOW + number / 8,
            data={"text": chance.choice(['"quoted" ü', "", "0"]), "number": number, "nested": {"list": [1, None]}},
            created_at=NOW,
            due_at=NOW + 60,
            repeat_key=f"round-{round_}",
        )
    )


async def test_the_database_joins_digests_as_the_core_does(stores: Stores) -> None:
    await put_channel(stores, new_channel())
    cursor = await stores.notifications.begin()
    chance = random.Random(7)
    for round_, most in enumerate((2, 3, MOST_TOLD - 1, MOST_TOLD + 1, MOST_TOLD + 40)):
        events = [_event(chance, round_, number) for number in range(most)]
        left = events
        while left:  # some joined by the core and then by the database, some by the database alone
            taken = chance.randint(1, max(1, len(left) // 2))
            await stores.notifications.queue((cursor, cursor), joined(left[:taken]), (), NOW)
            left = left[taken:]
        (whole,) = joined(events)
        stored = await stores.notifications.get("w", events[0].id)
        assert stored is not None
        assert (stored.data, stored.severity, stored.seq) == (whole.data, whole.severity, whole.seq)
        assert stored.repeats + 1 == sum(whole.data["counts"].values()) == most
