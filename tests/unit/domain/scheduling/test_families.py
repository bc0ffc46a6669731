"""Children in the scheduler's core: whose parent ends without a result, and what a parked task waits for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.workspace_ends import ENDED_APART_S, ENDED_AT_ONCE
from cluster.domain.tasks.events import CancelRequested
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import TaskDecision, TaskDetail, TaskHead, TaskStatus
from tests.support.samples import ASKER, NOW, new_task

W = ASKER.workspace


def _child(task_id: str, parent: str) -> TaskHead:
    return new_task(id=task_id, rules=TaskRules(parent=parent, depth=1)).head()


def _core(*heads: TaskHead) -> SchedulerCore:
    core = SchedulerCore(lease_ttl_s=30.0)
    core.load(heads, NOW)
    core.loaded(1)
    return core


def _cancel(core: SchedulerCore, task_id: str) -> None:
    core.carry_out(*core.consider(task_id, W, CancelRequested(principal="user:ann"), NOW), NOW)


def _decided(core: SchedulerCore, now: float = NOW) -> list[TaskDecision]:
    return core.take_output(now)[0]


def _parked(*children: str) -> TaskHead:
    return replace(
        new_task(id="parent").head(), detail=TaskDetail.WAITING_CHILDREN, attempt=1, holder="p", children=children
    )


def test_many_children_end_some_at_a_time() -> None:
    number = 2 * ENDED_AT_ONCE + 7
    core = _core(new_task(id="parent").head(), *(_child(f"c{n}", "parent") for n in range(number)))
    _cancel(core, "parent")
    assert len(_decided(core)) == 1 + ENDED_AT_ONCE
    rounds, now = 0, NOW
    while core.open_tasks:
        now += ENDED_APART_S
        core.tick(now)
        decisions = _decided(core, now)
        assert 0 < len(decisions) <= ENDED_AT_ONCE
        assert {(each.record.data["reason"], each.record.principal) for each in decisions} == {
            ("parent_ended", "system")
        }
        rounds += 1
    assert rounds == 2


def test_a_deep_family_ends_without_recursion() -> None:
    depth = 400  # far more generations than a submit may make
    core = _core(new_task(id="c0").head(), *(_child(f"c{n}", f"c{n - 1}") for n in range(1, depth)))
    _cancel(core, "c0")
    assert [each.head.id for each in _decided(core)] == [f"c{n}" for n in range(depth)]


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED])
def test_a_parent_that_is_not_open_is_looked_up(status: TaskStatus) -> None:
    core = _core(_child("c1", "parent"))
    assert core.take_unresolved() == {W: ["parent"]}
    assert core.take_unresolved() == {}, "once"
    core.ended_before([("parent", status)], NOW)
    assert core.open_tasks == (1 if status is TaskStatus.COMPLETED else 0)


def test_a_parent_that_is_read_later_is_not_looked_up() -> None:
    core = _core(_child("c1", "parent"), new_task(id="parent").head())
    assert core.take_unresolved() == {}


def test_a_parked_task_is_queued_once_by_its_last_child() -> None:
    core = _core(_parked("c1", "c2", "gone"), *(_child(name, "parent") for name in ("c1", "c2")))
    assert core.take_unresolved() == {W: ["gone"]}
    core.ended_before([("gone", TaskStatus.CANCELLED)], NOW)
    _cancel(core, "c1")
    assert {each.head.id for each in _decided(core)} == {"c1"}
    _cancel(core, "c2")
    core.ended_before([("gone", TaskStatus.CANCELLED)], NOW)
    decisions = _decided(core)
    assert [(each.head.id, each.record.kind) for each in decisions] == [
        ("c2", "task.cancelled"),
        ("parent", "task.unparked"),
    ]
    assert core.head("parent").children == ()


def test_a_parked_task_that_is_cancelled_leaves_no_edge() -> None:
    core = _core(_parked("c1"), _child("c1", "other"), new_task(id="other").head())
    _cancel(core, "parent")
    _cancel(core, "c1")
    assert [each.head.id for each in _decided(core)] == ["parent", "c1"]
