"""Who may have a task: the table of conditions, and that the indexes of the ready queue and of waiting claims agree with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.scheduling.eligibility import CONDITIONS, Demand, Profile, Refusal, demand_of, eligible
from cluster.domain.scheduling.ready_queue import ReadyQueue
from cluster.domain.tasks.agent_bounds import AgentBounds
from cluster.domain.tasks.rules import PREFERENCE_S, Affinity, TaskRules
from cluster.domain.tasks.task import NewTask, TaskHead
from tests.support.samples import NOW, new_task
from tests.unit.domain.scheduling.test_core_rules import Shard

ONLY = frozenset
EU = {"regions": ("eu",)}

BOUND = AgentBounds(policy_id="p1", version=1, regions=ONLY({"eu"}), blocked_regions=ONLY({"us"}))

CASES: list[tuple[Refusal, dict[str, Any], dict[str, Any], float]] = [
    (Refusal.TARGET, {"target_agent": "b"}, {}, 0.0),
    (Refusal.STICKY, {"sticky_agent": "b"}, {}, 0.0),
    (Refusal.CAPABILITIES, {"required_capabilities": ("x", "y")}, {"capabilities": ONLY("x")}, 0.0),
    (Refusal.EXPLICIT_ONLY, {}, {"explicit_only": True}, 0.0),
    (Refusal.EXCLUDED, {"rules": TaskRules(excluded_agents=("a",))}, {}, 0.0),
    (Refusal.REGION, {"rules": TaskRules(affinity=Affinity.STRICT, **EU)}, {"regions": ONLY({"us"})}, PREFERENCE_S),
    (Refusal.PREFERRED_REGION, {"rules": TaskRules(affinity=Affinity.PREFERRED, **EU)}, {}, PREFERENCE_S - 1),
    (Refusal.VERSION, {"rules": TaskRules(worker_version=">=2")}, {"version": "1.9"}, 0.0),
    (Refusal.POLICY, {"rules": TaskRules(policies=(BOUND,))}, {"regions": ONLY({"eu", "us"})}, 0.0),
    (Refusal.TASK_TYPE, {"task_type": "k1"}, {"task_types": ONLY({"k2"})}, 0.0),
    (Refusal.QUEUE, {"queue": "q1"}, {"queues": ONLY({"q2"})}, 0.0),
]
ADMITTED: list[tuple[dict[str, Any], dict[str, Any], float]] = [
    ({}, {}, 0.0),
    ({"target_agent": "a"}, {"explicit_only": True}, 0.0),
    ({"sticky_agent": "a"}, {}, 0.0),
    ({"required_capabilities": ("x",)}, {"capabilities": ONLY("xy"), "explicit_only": True}, 0.0),
    ({"rules": TaskRules(excluded_agents=("b",))}, {}, 0.0),
    ({"rules": TaskRules(affinity=Affinity.STRICT, **EU)}, {"regions": ONLY({"us", "eu"})}, 0.0),
    ({"rules": TaskRules(affinity=Affinity.PREFERRED, **EU)}, {"regions": ONLY({"eu"})}, 0.0),
    ({"rules": TaskRules(affinity=Affinity.PREFERRED, **EU)}, {}, PREFERENCE_S),
    ({"rules": TaskRules(worker_version="<3,>=2")}, {"version": "2.1"}, 0.0),
    ({"rules": TaskRules(policies=(BOUND,))}, {"regions": ONLY({"eu"})}, 0.0),
    ({"task_type": "k1", "queue": "q1"}, {"task_types": ONLY({"k1", "k2"}), "queues": ONLY({"q1"})}, 0.0),
]


def _answer(task: dict[str, Any], claim: dict[str, Any], waited_s: float) -> Refusal | None:
    profile = Profile(**({"workspace": "w", "capabilities": frozenset()} | claim))
    return eligible(_demand(task, _named(0, task).head()), profile, "a", waited_s)


@pytest.mark.parametrize(("refusal", "task", "claim", "waited_s"), CASES, ids=[case[0].value for case in CASES])
def test_each_condition_refuses_by_its_own_name(
    refusal: Refusal, task: dict[str, Any], claim: dict[str, Any], waited_s: float
) -> None:
    assert _answer(task, claim, waited_s) is refusal


@pytest.mark.parametrize("case", range(len(ADMITTED)))
def test_what_no_condition_concerns_is_admitted(case: int) -> None:
    assert _answer(*ADMITTED[case]) is None


def test_the_table_has_one_row_and_one_case_for_each_refusal() -> None:
    assert [condition.refusal for condition in CONDITIONS] == list(Refusal)
    assert {case[0] for case in CASES} == set(Refusal)


some = st.sampled_from
tasks = st.builds(
    lambda required, target, sticky_agent, queue, kind, rules, age: {
        "required_capabilities": tuple(required),
        "target_agent": target,
        "sticky_agent": sticky_agent if target is None else None,
        "queue": queue,
        "task_type": kind,
        "rules": rules.or_none(),
        "created_at": NOW - age,
    },
    some(["", "", "x", "xy"]),
    some([None, None, None, "a"]),
    some([None, None, None, "a", "b"]),
    some(["q1", "q2"]),
    some(["k1", "k2", "k3"]),
    st.builds(
        lambda tenant, excluded, regions, versions, policies: TaskRules(
            tenant=tenant, excluded_agents=excluded, worker_version=versions, policies=policies, **regions
        ),
        some([None, None, "t1"]),
        some([(), (), ("a",), ("a", "b")]),
        some([{}, {}, {"affinity": Affinity.STRICT, **EU}, {"affinity": Affinity.PREFERRED, **EU}]),
        some([None, None, "<2", ">=2"]),
        some([(), (), (BOUND,), (AgentBounds(policy_id="p2", version=1, allowed=ONLY("ab"), blocked=ONLY("a")),)]),
    ),
    some([0.0, PREFERENCE_S - 1, PREFERENCE_S]),
)
claims = st.tuples(
    some("abc"),
    st.fixed_dictionaries(
        {
            "capabilities": some([ONLY(), ONLY("x"), ONLY("xy")]),
            "explicit_only": some([False, False, True]),
            "regions": some([ONLY(), ONLY({"eu"}), ONLY({"us"})]),
            "task_types": some([None, None, ONLY({"k1"}), ONLY({"k2", "k3"}), ONLY({"none"})]),
            "version": some([None, "1", "2"]),
            "queues": some([None, None, ONLY({"q1"}), ONLY({"q2", "none"})]),
        }
    ),
)


def _named(number: int, task: dict[str, Any]) -> NewTask:
    return new_task(id=f"t{number:03d}", **{name: value for name, value in task.items() if name != "sticky_agent"})


def _demand(task: dict[str, Any], head: TaskHead) -> Demand:
    return demand_of(head, task.get("sticky_agent"))


@given(st.lists(tasks | claims, max_size=40), st.integers(1, 3))
@settings(max_examples=150)
def test_the_ready_queue_finds_what_the_predicate_admits_and_nothing_else(steps: list[Any], most: int) -> None:
    """``most``: profiles that are kept, so that the index is also made anew."""
    queue, heads, sticky = ReadyQueue(most_profiles=most), dict[str, TaskHead](), dict[str, str | None]()
    for number, step in enumerate(steps):
        if isinstance(step, dict):
            head = heads[f"t{number:03d}"] = _named(number, step).head()
            sticky[head.id] = step["sticky_agent"]
            queue.push(head, sticky[head.id])
            continue
        agent, values = step
        profile = Profile("w", **values)
        if profile.task_types is not None:
            for name in queue.give_own("w", profile.task_types, set):
                for head in heads.values():
                    if head.task_type == name:
                        queue.push(head, sticky[head.id])
        admitted = {
            task_id
            for task_id, head in heads.items()
            if eligible(demand_of(head, sticky[task_id]), profile, agent, NOW - head.created_at) is None
        }
        certain = [count for count in range(len(heads) + 2) if queue.has_for(profile, agent, count)]
        assert certain[-1] <= len(admitted)
        found = set()
        while (task_id := queue.take(profile, agent, NOW)) is not None:
            found.add(task_id)
        assert found == admitted
        for task_id in found:
            queue.push(heads[task_id], sticky[task_id])


@given(st.lists(tasks | claims, max_size=30))
@settings(max_examples=100)
def test_a_waiting_claim_gets_the_first_task_that_the_predicate_admits(steps: list[Any]) -> None:
    """Claims wait from when they are made, tasks come one by one: each goes to the oldest claim that may have it."""
    shard, waiting, open_tasks = Shard(), dict[int, tuple[str, Profile]](), dict[str, TaskHead]()

    def may(head: TaskHead, agent: str, profile: Profile) -> bool:
        return eligible(demand_of(head), profile, agent, NOW - head.created_at) is None

    for number, step in enumerate(steps):
        if isinstance(step, dict):
            task = _named(number, step | {"created_at": NOW})  # the time of its row, by which the core goes
            head = task.head()
            first = next((ticket for ticket, claim in waiting.items() if may(head, *claim)), None)
            shard.submit(task, NOW)
            got = {ticket for ticket in waiting if ticket in shard.answered}
            assert got == ({first} - {None})
            if first is None:
                open_tasks[head.id] = head
            else:
                del waiting[first]
            continue
        agent, values = step
        profile = Profile("w", **values)
        able = {task_id for task_id, head in open_tasks.items() if may(head, agent, profile)}
        answer = shard.claim(agent, NOW, wait=True, **values)
        if isinstance(answer, int):
            assert not able
            waiting[answer] = (agent, profile)
        else:
            (grant,) = answer
            assert grant.head.id in able
            del open_tasks[grant.head.id]
