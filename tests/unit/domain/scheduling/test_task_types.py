"""Claims that name task types: they get these types alone, in order of arrival, and cost nothing for others' tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.ready_queue import ReadyQueue
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.scheduling.sub_queues import MAX_OWN_TYPES, SubQueue
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import TaskHead
from tests.support.samples import NOW, new_task
from tests.unit.domain.scheduling.test_core_rules import Shard

ONLY = frozenset


def _request(agent: str = "a", types: frozenset[str] | None = None) -> ClaimRequest:
    return ClaimRequest(
        workspace="w",
        agent_id=agent,
        principal="p",
        capabilities=frozenset(),
        max_concurrency=1000,
        max_tasks=1,
        claim_id=f"claim-{agent}",
        client_claim_id=True,
        task_types=types,
    )


def _heads(count: int, task_type: str) -> list[TaskHead]:
    return [new_task(id=f"{task_type}-{n:06d}", task_type=task_type).head() for n in range(count)]


def test_a_claim_gets_only_tasks_of_the_types_that_it_names() -> None:
    shard = Shard()
    for number, kind in enumerate(["x", "y", "z", "y"]):
        shard.submit(new_task(id=f"t{number}", task_type=kind), NOW)
    shard.submit(new_task(id="mine", task_type="x", target_agent="a"), NOW)
    assert shard.claimed("a", NOW, task_types=ONLY({"y", "none"}), max_tasks=9) == ["t1", "t3"]
    assert shard.claimed("a", NOW, task_types=ONLY({"none"}), max_tasks=9) == []
    assert shard.claimed("a", NOW, task_types=ONLY({"x"}), max_tasks=9) == ["mine", "t0"]
    assert shard.claimed("a", NOW, max_tasks=9) == ["t2"]


def test_a_waiting_claim_is_answered_by_the_first_task_of_its_type() -> None:
    shard = Shard()
    waiting = shard.claim("a", NOW, task_types=ONLY({"y"}), wait=True)
    assert isinstance(waiting, int)
    shard.submit(new_task(id="other", task_type="x"), NOW)
    assert waiting not in shard.answered
    shard.submit(new_task(id="own", task_type="y"), NOW)
    assert [grant.head.id for grant in shard.answered[waiting]] == ["own"]


@given(
    filters=st.lists(st.sampled_from([None, ONLY("x"), ONLY("y"), ONLY("xy")]), min_size=1, max_size=8),
    kinds=st.lists(st.sampled_from("xyz"), max_size=12),
)
def test_waiting_claims_with_different_types_are_served_in_order_of_arrival(
    filters: list[frozenset[str] | None], kinds: list[str]
) -> None:
    shard, waiting = Shard(), {}
    for number, types in enumerate(filters):
        waiting[shard.claim(f"a{number}", NOW, task_types=types, wait=True)] = types
    for number, kind in enumerate(kinds):
        first = next((ticket for ticket, types in waiting.items() if types is None or kind in types), None)
        shard.submit(new_task(id=f"t{number:03d}", task_type=kind, created_at=NOW + number), NOW + number)
        assert {ticket for ticket in waiting if ticket in shard.answered} == ({first} - {None})
        if first is not None:
            del waiting[first]  # type: ignore[arg-type]


class CountedQueue(ReadyQueue):
    """Counts how many heaps claims look at, and how many tasks are put in."""

    looks = 0
    pushes = 0

    def _first(self, sub_queue, fifo):  # type: ignore[no-untyped-def]
        type(self).looks += 1
        return super()._first(sub_queue, fifo)

    def push(self, head: TaskHead, sticky_agent: str | None = None) -> SubQueue:
        type(self).pushes += 1
        return super().push(head, sticky_agent)


def test_100_000_tasks_of_another_type_cost_a_claim_nothing() -> None:
    core = SchedulerCore(lease_ttl_s=30.0, queue=CountedQueue())
    core.load(_heads(100_000, "other"), NOW)
    CountedQueue.looks, CountedQueue.pushes = 0, 0
    for number in range(100):
        assert core.claim(_request(f"a{number}", ONLY({"mine", f"mine-{number}"})), None, NOW) == ()
    assert (CountedQueue.looks, CountedQueue.pushes) == (0, 0)


def test_waiting_tasks_are_moved_once_when_a_claim_first_names_their_type() -> None:
    core = SchedulerCore(lease_ttl_s=30.0, queue=CountedQueue())
    core.load([*_heads(50, "other"), *_heads(3, "mine")], NOW)
    CountedQueue.pushes = 0
    for number in range(5):
        core.claim(_request(f"a{number}", ONLY({"mine"})), None, NOW)
    assert CountedQueue.pushes == 3


def test_types_that_nobody_waits_for_are_dropped_and_found_again() -> None:
    shard = Shard()
    waiting = shard.claim("first", NOW, task_types=ONLY({"kept"}), wait=True)
    for number in range(0, 2 * MAX_OWN_TYPES, 100):
        names = ONLY(f"type-{n}" for n in range(number, number + 100))
        assert shard.claimed("a", NOW, task_types=names) == []
    assert len(shard.core._queue._sub_queues._own_types["w"]) <= MAX_OWN_TYPES
    shard.submit(new_task(id="dropped", task_type="type-5"), NOW)
    shard.submit(new_task(id="kept", task_type="kept"), NOW)
    assert [grant.head.id for grant in shard.answered[waiting]] == ["kept"]  # type: ignore[index]
    assert shard.claimed("a", NOW, task_types=ONLY({"type-5"})) == ["dropped"]


def test_claims_that_were_withdrawn_leave_nothing_behind() -> None:
    shard = Shard()
    for number in range(50):
        ticket = shard.claim("a", NOW, task_types=ONLY({f"type-{number}"}), wait=True)
        assert shard.core.withdraw(ticket)  # type: ignore[arg-type]
    assert not shard.core._waiting._alike
    assert not shard.core._waiting._by_type


@pytest.mark.parametrize("own", [ONLY({"x"}), ONLY({"x", "y"})])
def test_a_freed_concurrency_key_wakes_a_claim_of_its_type(own: frozenset[str]) -> None:
    shard = Shard()
    rules = TaskRules(concurrency_key="k")
    for number in range(2):
        shard.submit(new_task(id=f"t{number}", task_type="x", rules=rules), NOW)
    assert shard.claimed("a", NOW, task_types=own) == ["t0"]
    waiting = shard.claim("b", NOW, task_types=own, wait=True)
    assert isinstance(waiting, int)
    shard.report("t0", NOW)
    assert [grant.head.id for grant in shard.answered[waiting]] == ["t1"]
