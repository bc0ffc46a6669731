"""What holds of machines between any two events: each test that plays one checks it, also at its end."""

from __future__ import annotations

import json
from collections import Counter

from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.lease_table import key_of
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus
from cluster.domain.workflows.document import RunStatus, StepStatus, waits_for, workflow_of
from cluster.domain.workflows.machine import Run
from cluster.postgres.stores import Stores

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
        assert set(state.open) <= set(range(state.next)), step_id
        assert state.next <= (state.total or 0) or state.total is None, step_id
        assert not set(state.open) & set(state.failed), step_id
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


#: What no row may be, and the ids of those that are.
_NO_ROWS = """
select 'a task is there that was removed' as what, id from tasks join task_stubs using (id)
union all
select 'a run is there that was removed', id from workflow_runs join workflow_run_stubs using (id)
union all
select 'a deliberation is there that was removed', d.request_id
from deliberations d join deliberation_stubs s on s.id = d.request_id
union all
select 'a task waits for people whom it has not asked', t.id from tasks t
where t.status_detail = 'input_required'
  and not exists (select from task_questions q where q.task_id = t.id and q.verdict is null)
union all
select 'a question is of no task', q.task_id from task_questions q
where not exists (select from tasks t where t.id = q.task_id)
union all
select 'a run has ended and is open, or neither', r.id from workflow_runs r
where (r.ended_at is null) <> (r.status in ('running', 'failing', 'cancelling'))
union all
select 'a budget holds a reservation of an attempt that does not run', b.task_id from budget_entries b
where b.spent is null
  and not exists (select from tasks t where t.id = b.task_id and t.status = 'running' and t.attempt = b.attempt)
union all
select 'a budget''s entry is negative', b.task_id from budget_entries b where b.reserved < 0 or b.spent < 0
union all
select 'a schedule is paused and due', s.id from schedules s where s.paused and s.fire_at is not null
"""


async def validate_stores(stores: Stores) -> None:
    """What is stored of workflows, schedules, budgets, retention and people belongs together."""
    assert [(row["what"], row["id"]) for row in await stores.pool.rows(_NO_ROWS)] == []
    for row in await stores.pool.rows(_RUNS):
        workflow, status = workflow_of(json.loads(row["document"])), RunStatus(row["status"])
        run = Run.from_json(workflow, status, json.loads(row["state"]), row["ended_at"])
        validate_run(run)


_RUNS = """
select r.status, r.state, r.ended_at, w.document from workflow_runs r
join workflows w on (w.workspace, w.name, w.version) = (r.workspace, r.name, r.version)
"""
