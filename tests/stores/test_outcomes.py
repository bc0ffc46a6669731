"""Outcomes and snapshots on Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cluster.domain.base.errors import Fenced
from cluster.domain.base.log import Origin
from cluster.domain.consensus.learning import (
    NewOutcome,
    NewSnapshot,
    StoredOutcome,
    fit,
)
from cluster.domain.consensus.outcomes import Outcome
from cluster.postgres.stores import Stores, open_stores
from tests.support.outcomes import AGENTS, history, new_outcome
from tests.support.samples import NOW
from tests.support.stores import StoreUrls


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
    first, second = history(2)
    wrong = replace(first, outcome=replace(second.outcome, right=second.outcome.right))
    done = await stores.outcomes.record([second, first, first, wrong])
    assert [(item.id, item.replayed, item.conflict) for item in done] == [
        ("q1", False, False),
        ("q0", False, False),
        ("q0", True, False),
        ("q0", False, True),
    ]


async def test_the_same_id_in_another_workspace_is_another_outcome(stores: Stores) -> None:
    (item,) = history(1)
    done = await stores.outcomes.record([item, replace(item, origin=Origin(workspace="other"))])
    assert [outcome.seq for outcome in done] == [1, 2]
    assert len(await stores.outcomes.recent("other", AGENTS, 10)) == 1


async def test_recent_is_oldest_first_bounded_and_of_panels_that_hold_the_agents(stores: Stores) -> None:
    await stores.outcomes.record(history(5))
    small = [new_outcome(10 + i, Outcome(votes={"good": "a", "new": "b"}, right="a")) for i in range(3)]
    await stores.outcomes.record(small)
    of_all = await stores.outcomes.recent("w", AGENTS, 100)
    assert [outcome.n for outcome in of_all] == sorted(outcome.n for outcome in of_all)
    assert len(of_all) == 5
    assert [recorded.outcome.votes for recorded in await stores.outcomes.recent("w", ("good",), 4)][-1] == {"good": "a"}
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


async def test_concurrent_saves_keep_one_snapshot(stores: Stores) -> None:
    item = snapshot_of(history(40), 40)
    saved = await asyncio.gather(*(stores.outcomes.save([item]) for _ in range(6)))
    assert sorted(is_new for (is_new,) in saved) == [False] * 5 + [True]
    assert [head.version for head in await stores.outcomes.heads("w")] == [1]


async def test_the_covering_snapshot_is_of_the_smallest_panel(stores: Stores) -> None:
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
