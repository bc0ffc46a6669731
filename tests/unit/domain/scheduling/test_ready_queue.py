"""Order of the ready queue: priority with ageing, fairness between workspaces, age, requirements and targets."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.log import Origin
from cluster.domain.scheduling.eligibility import Profile
from cluster.domain.scheduling.ready_queue import AGEING_S, ReadyQueue
from cluster.domain.scheduling.sub_queues import LEVELS, SPARE_SUB_QUEUES
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import Priority, TaskHead
from tests.support.samples import NOW, new_task

ALL = frozenset({"a", "b", "c"})


def _head(**changes: object) -> TaskHead:
    return new_task(**changes).head()


def _drain(queue: ReadyQueue, now: float = NOW, capabilities: frozenset[str] = ALL, agent: str = "x") -> list[str]:
    taken = []
    while (task_id := queue.take(Profile("w", capabilities), agent, now)) is not None:
        taken.append(task_id)
    return taken


def test_higher_priority_first_then_older_first() -> None:
    queue = ReadyQueue()
    for name, priority, age in [("n1", 50, 1.0), ("u", 100, 2.0), ("n0", 50, 0.0), ("l", 0, 0.0), ("h", 75, 3.0)]:
        queue.push(_head(id=name, priority=Priority(priority), created_at=NOW + age))
    assert _drain(queue, NOW + 10) == ["u", "h", "n0", "n1", "l"]


def test_ageing_lifts_a_task_level_by_level_to_the_highest() -> None:
    queue = ReadyQueue()
    queue.push(_head(id="old-low", priority=Priority.LOW, created_at=NOW))
    later = NOW + 3 * AGEING_S
    queue.push(_head(id="new-urgent", priority=Priority.URGENT, created_at=later))
    assert queue.take(Profile("w", ALL), "x", later) == "old-low", "the bound on starvation is 3 ageing steps"
    queue.push(_head(id="not-so-old", priority=Priority.LOW, created_at=later - AGEING_S))
    assert queue.take(Profile("w", ALL), "x", later) == "new-urgent"


def test_an_agent_gets_only_tasks_that_fit_and_target_it() -> None:
    queue = ReadyQueue()
    queue.push(_head(id="needs-ab", required_capabilities=("a", "b")))
    queue.push(_head(id="for-x", target_agent="x"))
    queue.push(_head(id="for-x-needs-c", target_agent="x", required_capabilities=("c",), priority=Priority.URGENT))
    queue.push(_head(id="elsewhere", origin=Origin(workspace="other")))
    assert _drain(queue, capabilities=frozenset("a"), agent="y") == []
    assert _drain(queue, capabilities=frozenset("ab"), agent="x") == ["for-x", "needs-ab"]
    assert _drain(queue, capabilities=ALL, agent="x") == ["for-x-needs-c"]
    assert queue.take(Profile("other", ALL), "x", NOW) == "elsewhere"
    assert len(queue) == 0


def test_a_moved_task_is_served_once_at_its_new_position() -> None:
    queue = ReadyQueue()
    low = _head(id="t", priority=Priority.LOW)
    queue.push(_head(id="n"))
    queue.push(low)
    queue.push(replace(low, priority=int(Priority.HIGH)))
    queue.push(low)
    queue.push(replace(low, priority=int(Priority.HIGH)))
    assert _drain(queue) == ["t", "n"]


def test_tenants_that_have_gone_are_forgotten_without_a_change_of_turns() -> None:
    queue = ReadyQueue()
    for number in range(5000):
        queue.push(_head(id=f"t{number}", rules=TaskRules(tenant=f"tenant{number}")))
        if number % 50 == 49:
            assert len(_drain(queue)) == 50
    assert len(queue._tags) < 2500
    assert len(queue._sub_queues) < 2500
    for number in range(4):
        queue.push(_head(id=f"x{number}", rules=TaskRules(tenant="x")))
        queue.push(_head(id=f"y{number}", rules=TaskRules(tenant="y")))
    assert [task_id[0] for task_id in _drain(queue)] == ["x", "y"] * 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(LEVELS),
            st.floats(0, 500),
            st.frozensets(st.sampled_from("abc"), max_size=2),
            st.booleans(),
        ),
        max_size=40,
    ),
    st.frozensets(st.sampled_from("abc")),
    st.sets(st.integers(0, 39)),
)
@settings(max_examples=200)
def test_the_index_serves_in_the_order_of_a_plain_sort(
    tasks: list[tuple[int, float, frozenset[str], bool]], capabilities: frozenset[str], removed: set[int]
) -> None:
    queue, now = ReadyQueue(), NOW + 500
    heads = []
    for number, (priority, age, required, targeted) in enumerate(tasks):
        head = _head(
            id=f"t{number:02d}",
            priority=Priority(priority),
            created_at=NOW + age,
            required_capabilities=tuple(sorted(required)),
            target_agent="x" if targeted else None,
        )
        queue.push(head)
        heads.append(head)
    for number in removed:
        queue.discard(f"t{number:02d}")

    def key(head: TaskHead) -> tuple[int, float, str]:
        aged = LEVELS.index(head.priority) + int((now - head.created_at) / AGEING_S)
        return (-min(3, aged), head.created_at, head.id)

    able = [h for h in heads if h.required <= capabilities and int(h.id[1:]) not in removed]
    assert _drain(queue, now, capabilities) == [h.id for h in sorted(able, key=key)]
    assert len(queue) == len([h for h in heads if int(h.id[1:]) not in removed]) - len(able)


def test_a_queue_that_is_built_anew_favours_no_tenant() -> None:
    """One dispatch after each of many restarts: who gets it is a matter of lots, not of whose task is the oldest."""
    served = dict.fromkeys(("ann", "ben", "cid"), 0)
    for generation in range(300):
        queue = ReadyQueue()
        for order_key, tenant in enumerate(served):
            queue.push(_head(id=tenant, created_at=NOW + order_key, rules=TaskRules(tenant=tenant)))
        queue.seed(generation)
        first = queue.take(Profile("w", ALL), "x", NOW + 10)
        assert first is not None
        served[first] += 1
    assert all(80 <= count <= 120 for count in served.values()), served


@settings(max_examples=200)
@given(
    ages=st.lists(st.integers(0, 2), min_size=1, max_size=8),
    moves=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 10)), max_size=12),
    slots=st.booleans(),
)
def test_a_task_gets_the_position_that_it_is_moved_to(
    ages: list[int], moves: list[tuple[int, int]], slots: bool
) -> None:
    """Against a list. Tasks whose slot is taken are put aside meanwhile, and come back at their places."""
    rules = TaskRules(concurrency_key="k") if slots else None
    heads = {f"t{n}": _head(id=f"t{n}", created_at=NOW + age, rules=rules) for n, age in enumerate(ages)}
    queue = ReadyQueue()
    for head in heads.values():
        queue.push(head)
    line = sorted(heads, key=lambda name: (heads[name].created_at, name))
    if slots:
        queue.limits.acquire("w", "k", "holder")
        assert _drain(queue, NOW + 5) == []
    for number, position in moves:
        name = f"t{number % len(heads)}"
        order_key = queue.order_key_at(heads[name], position)
        if order_key is not None:
            heads[name] = replace(heads[name], order_key=order_key)
            queue.push(heads[name])
        line.remove(name)
        line.insert(max(position, 1) - 1, name)
        queue.push(_head(id="other", queue="other"))
        assert queue.order_key_at(_head(id="alone", priority=Priority.LOW), position) is None
        queue.discard("other")
    if slots:
        queue.limits.release("w", "k", "holder")
        queue.slot_free("w", "k")
    served = []
    while (task_id := queue.take(Profile("w", ALL), "x", NOW + 5)) is not None:
        served.append(task_id)
        if slots:
            queue.slot_free("w", "k")
    assert served == line


def test_a_moved_task_is_counted_once_among_those_ahead() -> None:
    queue = ReadyQueue()
    heads = [_head(id=f"t{n}", created_at=NOW + n) for n in range(3)]
    for head in heads:
        queue.push(head)
    for position in (1, 3, 2, 1):
        order_key = queue.order_key_at(heads[2], position)
        heads[2] = replace(heads[2], order_key=order_key)
        queue.push(heads[2])
        assert queue.ahead_of(heads[2], NOW + 5) == position - 1
    assert [queue.ahead_of(head, NOW + 5) for head in heads] == [1, 2, 0]


def test_sub_queues_of_agents_without_tasks_are_forgotten() -> None:
    queue = ReadyQueue()
    most = 0
    for number in range(20 * SPARE_SUB_QUEUES):
        queue.push(_head(id=f"t{number}", target_agent=f"agent-{number}"))
        assert _drain(queue, agent=f"agent-{number}") == [f"t{number}"]
        most = max(most, len(queue._sub_queues))
    assert most <= 2 * SPARE_SUB_QUEUES


def test_looking_for_empty_sub_queues_costs_each_new_one_little() -> None:
    """Counted, not timed: how many lines are looked at while thousands wait."""
    queue, looked = ReadyQueue(), 0
    for number in range(10 * SPARE_SUB_QUEUES):
        before = queue._sub_queues._look_through_at
        queue.push(_head(id=f"t{number}", target_agent=f"agent-{number}"))
        looked += len(queue._sub_queues) if queue._sub_queues._look_through_at != before else 0
    assert len(queue._sub_queues) == 10 * SPARE_SUB_QUEUES
    assert looked <= 6 * len(queue._sub_queues)
