"""The statements of lists of tasks, made of the filters that a list has.

One statement for all filters (``$3 is null or task_type = $3``) was rejected: its plan serves every list, so it walks the whole
workspace for the few tasks that failed. A list of some statuses reads a range of an index for each uncommon detail in which tasks
end, one of the completed tasks and one of the open ones, and merges them. Each range has the list's order, so none is read
further than the page needs.

Type, agent and queue have no index of their own (migration 8 says why): ranges are read on until enough rows match them.

A list in the order of last changes is merged from a range for each status, and from the few tasks that ask people: since when
those ask is not among their columns. Only the ended ones have an index of their own (migration 48), whose entries are made once
for each task; what runs is few, and what waits is in the order of its submits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.tasks.task import TaskDetail, TaskStatus
from cluster.ports.tasks import TaskQuery
from cluster.postgres.task_rows import page_of

#: Detail of an ended task → its status.
ENDED_DETAILS: Mapping[TaskDetail, TaskStatus] = {
    TaskDetail.COMPLETED: TaskStatus.COMPLETED,
    TaskDetail.FAILED: TaskStatus.FAILED,
    TaskDetail.DEAD_LETTERED: TaskStatus.FAILED,
    TaskDetail.CANCELLED: TaskStatus.CANCELLED,
    TaskDetail.TIMEOUT: TaskStatus.TIMEOUT,
}
OPEN = "status in ('pending', 'running')"
_COMPLETED = "status = 'completed'"
_UNCOMMON = "status in ('failed', 'cancelled', 'timeout')"
_ORDER = "order by created_at desc, id desc"
# Of a task in each state: what does not wait any more has begun, and what waits again has not.
_ENDED = "completed_at"
_BEGUN = "coalesce(started_at, created_at)"
_SUBMITTED = "created_at"
_ASKING = "status_detail = 'input_required'"
_ASKED = "coalesce((select max(q.asked_at) from task_questions q where q.task_id = tasks.id), created_at)"


class Arguments:
    """The arguments of a statement, in the order in which its text names them."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


def branches(query: TaskQuery, arguments: Arguments) -> list[str]:
    """A condition for each range of an index that the list is merged from. No task meets two of them."""
    common = _common(query, arguments)
    if not query.statuses and not query.details:
        return [" and ".join(common)]  # the index of the workspace has just these
    found = [
        [_COMPLETED] if detail is TaskDetail.COMPLETED else [_UNCOMMON, f"status_detail = '{detail.value}'"]
        for detail in _ended_details(query)
    ]
    if not query.statuses or any(not status.terminal for status in query.statuses):
        found += _open_branch(query, arguments)
    return [" and ".join([*common, *branch]) for branch in found]


def _common(query: TaskQuery, arguments: Arguments) -> list[str]:
    """What holds in every range."""
    common = [f"workspace = {arguments.add(query.workspace)}"]
    by_name = {"task_type": query.task_type, "assigned_agent": query.agent_id, "queue": query.queue}
    common += [f"{column} = {arguments.add(value)}" for column, value in by_name.items() if value is not None]
    if query.created_after is not None:
        common.append(f"created_at >= {arguments.add(query.created_after)}::float8")
    if query.created_before is not None:
        common.append(f"created_at < {arguments.add(query.created_before)}::float8")
    return common


def _ended_details(query: TaskQuery) -> list[TaskDetail]:
    return [
        detail
        for detail, status in ENDED_DETAILS.items()
        if (not query.statuses or status in query.statuses) and (not query.details or detail in query.details)
    ]


def _open_branch(query: TaskQuery, arguments: Arguments) -> list[list[str]]:
    """The condition for open tasks, or none if the details are those of ended ones."""
    details = [detail.value for detail in query.details if detail not in ENDED_DETAILS]
    if query.details and not details:
        return []
    branch = [OPEN]
    if query.statuses:
        branch.append(f"status = any ({arguments.add([status.value for status in query.statuses])}::text[])")
    if details:
        branch.append(_detail_is(details, query, arguments))
    return [branch]


def _detail_is(details: Sequence[str], query: TaskQuery, arguments: Arguments) -> str:
    now = arguments.add(query.now)
    return (
        f"case when status_detail = 'delayed' and run_at <= {now}::float8 then 'queued' else status_detail end "
        f"= any ({arguments.add(list(details))}::text[])"
    )


def page_statement(query: TaskQuery) -> tuple[str, Sequence[Any]] | None:
    """A statement for the page of a list, and its arguments. None if no task can match."""
    if query.by_change:
        return _changed_statement(query)
    arguments = Arguments()
    found = branches(query, arguments)
    before = ""
    if query.before is not None:
        at, task_id = (arguments.add(value) for value in query.before)
        before = f" and (created_at, id) < ({at}::float8, {task_id}::text)"
    limit, offset = arguments.add(query.limit), arguments.add(query.offset)
    # An offset counts rows of all ranges, and they may all be of one.
    ranges = [
        f"(select id, created_at from tasks where {branch}{before} {_ORDER} limit {limit}::bigint + {offset}::bigint)"
        for branch in found
    ]
    if not ranges:
        return None
    page = f"select id from ({' union all '.join(ranges)}) as found {_ORDER} limit {limit} offset {offset}"
    return page_of(page, "t.created_at desc, t.id desc", query.bodies), arguments.values


def _changed_ranges(query: TaskQuery, arguments: Arguments) -> list[tuple[str, list[str]]]:
    """When tasks have changed, and the conditions, for each range of a list by last change but for what asks people."""
    statuses = query.statuses or tuple(TaskStatus)
    open_ones = [
        (_BEGUN if status is TaskStatus.RUNNING else _SUBMITTED, [f"status = '{status.value}'", f"not {_ASKING}"])
        for status in statuses
        if not status.terminal
    ]
    if not query.details:
        ended = [[f"status = '{status.value}'"] for status in statuses if status.terminal]
    else:
        ended = [
            [f"status = '{ENDED_DETAILS[detail].value}'", f"status_detail = '{detail.value}'"]
            for detail in _ended_details(query)
        ]
    ranges = [(_ENDED, [*conditions, "completed_at is not null"]) for conditions in ended]  # the index has just these
    others = {*query.details} - {*ENDED_DETAILS, TaskDetail.INPUT_REQUIRED}
    if query.details and others and open_ones:
        rest = _detail_is([detail.value for detail in others], query, arguments)
        open_ones = [(changed, [*conditions, rest]) for changed, conditions in open_ones]
    return [*ranges, *(open_ones if others or not query.details else [])]


def _changed_statement(query: TaskQuery) -> tuple[str, Sequence[Any]] | None:
    arguments = Arguments()
    common = _common(query, arguments)
    sources = [
        f"select id, {changed} as changed from tasks where {' and '.join([*common, *conditions])}"
        for changed, conditions in _changed_ranges(query, arguments)
    ]
    if not query.details or TaskDetail.INPUT_REQUIRED in query.details:
        conditions = [*common, _ASKING]
        if query.statuses:
            statuses = arguments.add([status.value for status in query.statuses])
            conditions.append(f"status = any ({statuses}::text[])")
        sources.append(f"select id, {_ASKED} as changed from tasks where {' and '.join(conditions)}")
    if not sources:
        return None
    before = ""
    if query.before is not None:
        at, task_id = (arguments.add(value) for value in query.before)
        before = f'where (changed, id collate "C") < ({at}::float8, {task_id}::text)'
    limit, offset = arguments.add(query.limit), arguments.add(query.offset)
    order = 'order by changed desc, id collate "C" desc'
    ranges = [
        f"(select id, changed from ({source}) as source {before} {order} limit {limit}::bigint + {offset}::bigint)"
        for source in sources
    ]
    page = f"select id, changed from ({' union all '.join(ranges)}) as found {order} limit {limit} offset {offset}"
    return page_of(page, 'page.changed desc, t.id collate "C" desc', query.bodies), arguments.values


@dataclass(frozen=True, slots=True)
class Matching:
    """Statements with a row for each task that a list's filters match: of all of them, which is to be planned and not run, and of
    the first ones, which is to be counted."""

    every: str
    first: str
    arguments: Sequence[Any]


def matching_statements(query: TaskQuery, most: int) -> Matching | None:
    """Statements for the total of a list; ``first`` has up to ``most`` rows of each range. None if no task can match.

    It reads them in the list's order: that is the order of the indexes, while a scan of the table could meet a million rows of
    other workspaces before the first one that counts."""
    arguments = Arguments()
    every = [f"select 1 from tasks where {branch}" for branch in branches(query, arguments)]
    if not every:
        return None
    first = " union all ".join(f"({branch} {_ORDER} limit {most})" for branch in every)
    return Matching(" union all ".join(every), f"select 1 from ({first}) as found", arguments.values)
