"""A task that prefers a region waits for agents there only if there are some, as claims and explanations both say."""

from __future__ import annotations

import pytest

from cluster.domain.tasks.rules import PREFERENCE_S, Affinity, TaskRules
from tests.support.samples import NOW, new_task
from tests.unit.domain.scheduling.test_core_rules import TTL_S, Shard

SOFT = TaskRules(regions=("eu",), affinity=Affinity.PREFERRED)
EU, US = frozenset({"eu"}), frozenset({"us"})


def _shard_that_knows_its_agents() -> tuple[Shard, float]:
    """One whose agents have all had the time to claim: a1 in eu, a2 in us."""
    shard = Shard()
    shard.claim("a1", NOW, wait=False, regions=EU)
    return shard, NOW + PREFERENCE_S


def test_a_preferred_region_without_agents_is_not_waited_for() -> None:
    shard, now = _shard_that_knows_its_agents()
    shard.submit(new_task(id="near", rules=SOFT), now)
    shard.submit(new_task(id="far", rules=TaskRules(regions=("asia",), affinity=Affinity.PREFERRED)), now)
    shard.submit(new_task(id="strict", rules=TaskRules(regions=("asia",), affinity=Affinity.STRICT)), now)
    assert shard.claimed("a2", now, regions=US, max_tasks=5) == ["far"]
    assert shard.claimed("a1", now, regions=EU, max_tasks=5) == ["near"]


def test_a_new_shard_waits_for_agents_that_it_does_not_know() -> None:
    shard = Shard()
    shard.submit(new_task(id="t", rules=SOFT), NOW)
    assert shard.claimed("a2", NOW, regions=US) == []
    assert shard.claimed("a2", NOW + PREFERENCE_S - 1, regions=US) == []


@pytest.mark.parametrize("how", ["status_changed", "unregistered"])
def test_the_last_agent_of_a_region_leaves_tasks_to_others(how: str) -> None:
    shard, now = _shard_that_knows_its_agents()
    shard.submit(new_task(id="t", rules=SOFT), now)
    ticket = shard.claim("a2", now, wait=True, regions=US)
    assert ticket not in shard.answered
    shard.agent_row("a1", how, now, is_unschedulable=how == "status_changed")
    assert [grant.head.id for grant in shard.answered[ticket]] == ["t"]  # type: ignore[index]


def test_a_silent_or_incapable_agent_is_not_waited_for() -> None:
    shard, now = _shard_that_knows_its_agents()
    shard.submit(new_task(id="other", rules=SOFT, required_capabilities=("paint",)), now)
    assert shard.claimed("a2", now, regions=US, capabilities=frozenset({"paint"})) == ["other"]
    later = now + 3 * TTL_S
    shard.submit(new_task(id="t", rules=SOFT), later)
    assert shard.claimed("a2", later, regions=US) == ["t"]


def test_the_view_of_a_task_says_whether_its_region_has_agents() -> None:
    shard, now = _shard_that_knows_its_agents()
    shard.submit(new_task(id="near", rules=SOFT), now)
    shard.submit(new_task(id="far", rules=TaskRules(regions=("asia",), affinity=Affinity.PREFERRED)), now)
    assert [shard.core.view(task_id, "w", now).is_near for task_id in ("near", "far")] == [True, False]
