"""The learner that fits weights to outcomes."""

from __future__ import annotations

import asyncio

from cluster.domain.consensus.learning import (
    MIN_OUTCOMES,
    due,
    fit,
)
from cluster.domain.consensus.rule import Mode
from cluster.learning.weight_learner import Learner, owners_from
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from tests.support.crowd import crowd
from tests.support.outcomes import ACCURACY, AGENTS, history, new_outcome
from tests.support.samples import NOW, registration


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


async def test_a_panel_gets_its_own_weights_when_first_asked(stores: Stores) -> None:
    await stores.outcomes.record(history(200))
    weight_learner = learner(stores)
    everybody = await weight_learner.snapshot_for("w", AGENTS)
    pair = await weight_learner.snapshot_for("w", ("poor", "good"))
    assert everybody is not None
    assert pair is not None
    assert set(everybody.learned) == set(AGENTS)
    assert set(pair.learned) == {"good", "poor"}
    assert everybody.gate.choice is Mode.LEARNED
    assert everybody.learned["good"] == max(everybody.learned.values())
    assert await weight_learner.snapshot_for("w", ("good", "stranger")) is None
    assert await weight_learner.snapshot_for("other", AGENTS) is None


async def test_new_outcomes_make_the_next_version_behind_the_answer(stores: Stores) -> None:
    await stores.outcomes.record(history(100))
    weight_learner = learner(stores)
    first = await weight_learner.snapshot_for("w", AGENTS)
    assert first is not None
    await stores.outcomes.record(history(19, start=100, seed=1))
    assert await weight_learner.snapshot_for("w", AGENTS) == first
    await weight_learner.refresh("w")
    assert [head.version for head in await stores.outcomes.heads("w")] == [1]
    await stores.outcomes.record(history(1, start=119, seed=2))
    await weight_learner.refresh("w")
    (head,) = await stores.outcomes.heads("w")
    assert head.version == 2
    second = await weight_learner.snapshot_for("w", AGENTS)
    assert second is not None
    assert second.outcomes == 120


async def test_many_learners_at_once_make_one_snapshot(stores: Stores) -> None:
    await stores.outcomes.record(history(100))
    snapshots = await asyncio.gather(*(learner(stores).snapshot_for("w", AGENTS) for _ in range(5)))
    assert len({snapshot.id for snapshot in snapshots if snapshot is not None}) == 1
    assert None not in snapshots
    assert [head.version for head in await stores.outcomes.heads("w")] == [1]


async def test_agents_are_fitted_together_even_if_no_panel_held_all(stores: Stores) -> None:
    left = [new_outcome(i, o) for i, o in enumerate(crowd({"x": 0.9, "y": 0.4}, 30))]
    right = [new_outcome(100 + i, o) for i, o in enumerate(crowd({"y": 0.4, "z": 0.6}, 30, seed=1))]
    await stores.outcomes.record([*left, *right])
    weight_learner = learner(stores)
    await weight_learner.refresh("w")
    (head,) = await stores.outcomes.heads("w")
    assert head.panel == ("x", "y", "z")
    snapshot = await weight_learner.snapshot_for("w", ("x", "z"))
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
    weight_learner = learner(stores)
    assert await weight_learner.alarms("w") == []
    turned = history(100, start=300, seed=5, accuracy={**ACCURACY, "good": 0.0})
    await stores.outcomes.record(turned)
    (alarm,) = await weight_learner.alarms("w")
    assert (alarm.kind.value, alarm.agents) == ("accuracy_fell", ("good",))
    await weight_learner.refresh("w")
    (stored,) = await stores.outcomes.newest("w")
    assert stored.alarms[0]["agents"] == ["good"], "a snapshot remembers what was alarming when it was made"
    assert await weight_learner.alarms("empty") == []
    await weight_learner.close()
