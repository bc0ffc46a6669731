"""What holds of machines between any two events: each test that plays one checks it, also at its end."""

from __future__ import annotations

from collections import Counter

from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.lease_table import key_of
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus
from cluster.domain.workflows.document import StepStatus, waits_for
from cluster.domain.workflows.machine import Run

_BLOCKED = (TaskDetail.BLOCKED, TaskDetail.WAITING_CHILDREN)


def validate_core(core: SchedulerCore) -> None:
    """The tables of a shard tell of the same tasks. It costs as much as there are tasks, so no product runs it."""
    heads = core._open
    assert all(task_id == head.id and not head.status.terminal for task_id, head in heads.items())
    running = {task_id: head for task_id, head in heads.items() if head.status is TaskStatus.RUNNING}
    leased = [(task_id, key) for key, agent in core._leases._by_agent.items() for task_id in agent.leases]
    assert Counter(leased) == Counter((task_id, key_of(head)) for task_id, head in running.items()), "one lease each"
    assert core._leases._extended.keys() | core._leases._deliveries.keys() <= running.keys()
    stopping = {task_id for ids in core._tasks._cancellations._stopping.values() for task_id in ids}
    assert stopping == {task_id for task_id, head in heads.items() if head.detail is TaskDetail.CANCELLING}
    assert core._queue.running._running.items() <= Counter(head.workspace for head in running.values()).items()
    waiting = {task_id: heads[task_id] for task_id in core._queue._entries}
    assert not any(_is_held_up(head) for head in waiting.values()), "what waits for something else is not in the queue"
    assert core._sticky._waiting.keys() <= waiting.keys()
    _validate_edges(core)
    for parent, children in core._families._children.items():
        assert children, parent
        assert all(heads[child].rules is not None and heads[child].rules.parent == parent for child in children)  # type: ignore[union-attr]
    holding = [
        (head.workspace, head.rules.concurrency_key, task_id)
        for task_id, head in running.items()
        if head.rules is not None and head.rules.concurrency_key is not None
    ]
    holders = core._queue.limits._slot_holders
    assert Counter((*key, task_id) for key, ids in holders.items() for task_id in ids) == Counter(holding)


def _is_held_up(head: TaskHead) -> bool:
    return head.status is not TaskStatus.PENDING or head.detail in (*_BLOCKED, TaskDetail.INPUT_REQUIRED)


def _validate_edges(core: SchedulerCore) -> None:
    edges, dependents = core._dependencies._edges, core._dependencies._dependents
    assert edges.keys() == {task_id for task_id, head in core._open.items() if head.detail in _BLOCKED}
    forth = {(task_id, after) for task_id, of in edges.items() for after in of}
    assert forth == {(task_id, after) for after, of in dependents.items() for task_id in of}


def validate_run(run: Run) -> None:
    """The steps of a run are as far as each other allow, and their counts belong together."""
    for step_id, state in run.steps.items():
        of = run.workflow.steps[step_id]
        assert state.open <= set(range(state.next)), step_id
        assert state.next <= (state.total or 0) or state.total is None, step_id
        assert not state.open & set(state.failed), step_id
        assert not (state.ended_at is None and state.status in (StepStatus.COMPLETED, StepStatus.FAILED)), step_id
        if state.status is StepStatus.WAITING:
            assert not state.open, step_id
            assert state.next == 0, step_id
        if state.status is StepStatus.RUNNING:
            before = [run.steps[name].status for name in waits_for(of, run.workflow.steps)]
            assert StepStatus.WAITING not in before, step_id
            assert StepStatus.RUNNING not in before, step_id
    assert run.status.ended == (run.ended_at is not None)
    for step_id, index in run.stopping:
        assert index < run.steps[step_id].next, "what is to end was started"
    if run.status.ended:
        assert not any(state.open for state in run.steps.values()), "a run ends when nothing of it is open"
