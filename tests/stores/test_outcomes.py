"""Outcomes and snapshots against a real server, and the learner that fits them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from cluster.domain.base.errors import Fenced
from cluster.domain.base.log import Origin
from cluster.domain.consensus.learning import (
    MIN_OUTCOMES,
    NewOutcome,
    NewSnapshot,
    StoredOutcome,
    due,
    fit,
    panel_of,
)
from cluster.domain.consensus.outcomes import Outcome
from cluster.domain.consensus.rule import Mode
from cluster.learning.weight_learner import Learner, owners_from
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from tests.support.crowd import crowd
from tests.support.samples import ASKER, NOW, registration
from tests.support.stores import StoreUrls

ACCURACY = {"good": 0.9, "fair": 0.5, "poor": 0.3, "weak": 0.3}
AGENTS = panel_of(tuple(ACCURACY))


def new_outcome(number: int, outcome: Outcome, *, origin: Origin = ASKER, panel: Sequence[str] = ()) -> NewOutcome:
    return NewOutcome(
        id=f"q{number}",
        origin=origin,
        at=NOW,
        outcome=outcome,
        panel=panel_of([*panel, *outcome.votes]),
        source="import",
    )


def history(count: int, *, start: int = 0, seed: int = 0, accuracy: Mapping[str, float] = ACCURACY) -> list[NewOutcome]:
    return [new_outcome(start + i, outcome) for i, outcome in enumerate(crowd(accuracy, count, seed=seed))]


def snapshot_of(items: Sequence[NewOutcome], through: int) -> NewSnapshot:
    stored = [StoredOutcome(n=n, outcome=item.outcome) for n, item in enumerate(items, start=through - len(items) + 1)]
    return fit("w", NOW, AGENTS, stored, {}, None)


async def test_an_outcome_is_recorded_once_and_logged(stores: Stores) -> None:
    outcome = Outcome(votes={"x": "ä", "y": None}, right="ä", options=("ä", "b"))
    item = new_outcome(1, outcome, panel=("z",))
    (first,) = await stores.outcomes.record([item])
    assert (first.id, first.replayed, first.conflict) == ("q1", False, False)
    (again,) = await stores.outcomes.record([replace(item, at=NOW + 9)])
    assert (again.seq, again.replayed, again.conflict) == (None, True, False)
    other = replace(item, outcome=replace(outcome, right="b"))
    (conflict,) = await stores.outcomes.record([other])
    assert (conflict.replayed, conflict.conflict) == (False, True)
    (stored,) = await stores.outcomes.recent("w", ("x", "y", "z"), 10)
    assert stored.outcome == outcome
    (row,) = await stores.log.read(0, 10)
    assert (row.seq, row.kind, row.entity, row.principal) == (first.seq, "outcome.recorded", "q1", "user:tester")
    assert row.data == {"outcome_id": "q1", "source": "import", "agents": 3, "right": 1}


async def test_a_batch_answers_in_order_and_may_name_an_id_twice(stores: Stores) -> None:
    one, two = history(2)
    wrong = replace(one, outcome=replace(two.outcome, right=two.outcome.right))
    done = await stores.outcomes.record([two, one, one, wrong])
    assert [(item.id, item.replayed, item.conflict) for item in done] == [
        ("q1", False, False),
        ("q0", False, False),
        ("q0", True, False),
        ("q0", False, True),
    ]


async def test_the_same_id_in_another_workspace_is_another_outcome(stores: Stores) -> None:
    (item,) = history(1)
    done = await stores.outcomes.record([item, replace(item, origin=Origin(workspace="other"))])
    assert [one.seq for one in done] == [1, 2]
    assert len(await stores.outcomes.recent("other", AGENTS, 10)) == 1


async def test_recent_is_oldest_first_bounded_and_of_panels_that_hold_the_agents(stores: Stores) -> None:
    await stores.outcomes.record(history(5))
    small = [new_outcome(10 + i, Outcome(votes={"good": "a", "new": "b"}, right="a")) for i in range(3)]
    await stores.outcomes.record(small)
    of_all = await stores.outcomes.recent("w", AGENTS, 100)
    assert [one.n for one in of_all] == sorted(one.n for one in of_all)
    assert len(of_all) == 5
    assert [one.outcome.votes for one in await stores.outcomes.recent("w", ("good",), 4)][-1] == {"good": "a"}
    assert len(await stores.outcomes.recent("w", ("good",), 4)) == 4
    assert len(await stores.outcomes.recent("w", (*AGENTS, "new"), 100)) == 0
    assert len(await stores.outcomes.recent("w", (*AGENTS, "new"), 100, any_of=True)) == 8
    after = of_all[-1].n
    assert await stores.outcomes.count("w", ("good",), after, 100) == 3
    assert await stores.outcomes.count("w", ("good",), 0, 6) == 6
    assert (await stores.outcomes.agents("w", 100))[0] == "good"


async def test_snapshots_are_versions_that_only_grow(stores: Stores) -> None:
    items = history(80)
    early, late = snapshot_of(items[:40], 40), snapshot_of(items, 80)
    assert await stores.outcomes.save([early]) == [True]
    assert await stores.outcomes.save([early]) == [False], "the same again"
    assert await stores.outcomes.save([late]) == [True]
    assert await stores.outcomes.save([snapshot_of(items[:60], 60)]) == [False], "one that knows less comes too late"
    (head,) = await stores.outcomes.heads("w")
    assert (head.id, head.version, head.through_n, head.panel) == (late.snapshot.id, 2, 80, AGENTS)
    first = await stores.outcomes.snapshot("w", early.snapshot.id)
    assert first is not None
    assert first.snapshot == early.snapshot, "every version stays readable, bit for bit"
    assert first.snapshot.id == early.snapshot.id
    assert await stores.outcomes.snapshot("other", early.snapshot.id) is None
    rows = [row for row in await stores.log.read(0, 10) if row.kind == "weights.fitted"]
    assert [row.entity for row in rows] == [early.snapshot.id, late.snapshot.id]
    assert [row.data["snapshot_id"] for row in rows] == [early.snapshot.id, late.snapshot.id]


async def test_saving_at_once_keeps_one(stores: Stores) -> None:
    item = snapshot_of(history(40), 40)
    saved = await asyncio.gather(*(stores.outcomes.save([item]) for _ in range(6)))
    assert sorted(one for (one,) in saved) == [False] * 5 + [True]
    assert [head.version for head in await stores.outcomes.heads("w")] == [1]


async def test_covering_prefers_the_smallest_panel(stores: Stores) -> None:
    items = history(40)
    stored = [StoredOutcome(n=n, outcome=item.outcome) for n, item in enumerate(items, start=1)]
    pair = fit("w", NOW, ("good", "fair"), stored, {}, None)
    assert await stores.outcomes.save([snapshot_of(items, 40), pair]) == [True, True]
    found = await stores.outcomes.covering("w", ("good",))
    assert found is not None
    assert found.head.panel == ("fair", "good")
    everybody = await stores.outcomes.covering("w", AGENTS)
    assert everybody is not None
    assert everybody.head.panel == AGENTS
    assert await stores.outcomes.covering("w", ("good", "stranger")) is None


async def test_writes_are_fenced_by_the_epoch(store_urls: StoreUrls, schema: str, stores: Stores) -> None:
    late = await open_stores(store_urls.database, schema, "test-region", max_connections=1)
    await stores.region.raise_epoch("another")
    with pytest.raises(Fenced):
        await late.outcomes.record(history(1))
    with pytest.raises(Fenced):
        await late.outcomes.save([snapshot_of(history(40), 40)])
    await late.close()
    assert await stores.outcomes.recent("w", AGENTS, 10) == []
    assert await stores.outcomes.heads("w") == []


# --- the learner ------------------------------------------------------------------------------------------------------


def learner(stores: Stores) -> Learner:
    return Learner(stores.outcomes, owners_from(stores.agents), SystemClock())


def test_a_fit_is_due_after_a_tenth_more_within_bounds() -> None:
    assert [due(new, 0) for new in (0, MIN_OUTCOMES - 1, MIN_OUTCOMES)] == [False, False, True]
    assert [due(19, 50), due(20, 50), due(39, 400), due(40, 400), due(99, 5000), due(100, 5000)] == [
        False, True, False, True, False, True,
    ]  # fmt: skip


async def test_nothing_is_learned_from_too_little(stores: Stores) -> None:
    await stores.outcomes.record(history(MIN_OUTCOMES - 1))
    assert await learner(stores).snapshot_for("w", AGENTS) is None
    assert await learner(stores).snapshot_for("empty", AGENTS) is None


async def test_a_panel_gets_weights_of_its_own_when_it_is_first_asked_for(stores: Stores) -> None:
    await stores.outcomes.record(history(200))
    one = learner(stores)
    everybody = await one.snapshot_for("w", AGENTS)
    pair = await one.snapshot_for("w", ("poor", "good"))
    assert everybody is not None
    assert pair is not None
    assert set(everybody.learned) == set(AGENTS)
    assert set(pair.learned) == {"good", "poor"}
    assert everybody.gate.choice is Mode.LEARNED
    assert everybody.learned["good"] == max(everybody.learned.values())
    assert await one.snapshot_for("w", ("good", "stranger")) is None
    assert await one.snapshot_for("other", AGENTS) is None


async def test_new_outcomes_make_the_next_version_behind_the_answer(stores: Stores) -> None:
    await stores.outcomes.record(history(100))
    one = learner(stores)
    first = await one.snapshot_for("w", AGENTS)
    assert first is not None
    await stores.outcomes.record(history(19, start=100, seed=1))
    assert await one.snapshot_for("w", AGENTS) == first
    await one.refresh("w")
    assert [head.version for head in await stores.outcomes.heads("w")] == [1]
    await stores.outcomes.record(history(1, start=119, seed=2))
    await one.refresh("w")
    (head,) = await stores.outcomes.heads("w")
    assert head.version == 2
    second = await one.snapshot_for("w", AGENTS)
    assert second is not None
    assert second.outcomes == 120


async def test_many_learners_at_once_make_one_snapshot(stores: Stores) -> None:
    await stores.outcomes.record(history(100))
    snapshots = await asyncio.gather(*(learner(stores).snapshot_for("w", AGENTS) for _ in range(5)))
    assert len({snapshot.id for snapshot in snapshots if snapshot is not None}) == 1
    assert None not in snapshots
    assert [head.version for head in await stores.outcomes.heads("w")] == [1]


async def test_everybody_is_fitted_together_even_if_no_panel_held_all(stores: Stores) -> None:
    left = [new_outcome(i, o) for i, o in enumerate(crowd({"x": 0.9, "y": 0.4}, 30))]
    right = [new_outcome(100 + i, o) for i, o in enumerate(crowd({"y": 0.4, "z": 0.6}, 30, seed=1))]
    await stores.outcomes.record([*left, *right])
    one = learner(stores)
    await one.refresh("w")
    (head,) = await stores.outcomes.heads("w")
    assert head.panel == ("x", "y", "z")
    snapshot = await one.snapshot_for("w", ("x", "z"))
    assert snapshot is not None
    assert snapshot.outcomes == 60


async def test_owners_of_registered_agents_are_capped(stores: Stores) -> None:
    accuracy = {"s1": 0.9, "s2": 0.9, "x": 0.5, "y": 0.5, "z": 0.5}
    owners = {"s1": "one", "s2": "one", "x": "two", "y": "three", "z": "four"}
    await stores.agents.register([registration(a, options={"owner": owner}) for a, owner in owners.items()])
    assert await owners_from(stores.agents)("w", ["s1", "nobody"]) == {"s1": "one"}
    await stores.outcomes.record(history(300, accuracy=accuracy))
    capped = await learner(stores).snapshot_for("w", tuple(accuracy))
    free = fit("w", NOW, tuple(accuracy), await stores.outcomes.recent("w", tuple(accuracy), 1000), {}, 0.4).snapshot
    assert capped is not None
    assert capped.owner_cap == 0.4
    assert capped.gate.learned < free.gate.learned


async def test_a_sleeper_raises_an_alarm_within_100_outcomes(stores: Stores) -> None:
    await stores.outcomes.record(history(300))
    one = learner(stores)
    assert await one.alarms("w") == []
    turned = history(100, start=300, seed=5, accuracy={**ACCURACY, "good": 0.0})
    await stores.outcomes.record(turned)
    (alarm,) = await one.alarms("w")
    assert (alarm.kind.value, alarm.agents) == ("accuracy_fell", ("good",))
    await one.refresh("w")
    (stored,) = await stores.outcomes.newest("w")
    assert stored.alarms[0]["agents"] == ["good"], "a snapshot remembers what was alarming when it was made"
    assert await one.alarms("empty") == []
    await one.close()
