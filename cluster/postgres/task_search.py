"""The statement of a search: a range of an index, of which a bounded part is read for each page.

A search may match one task in a million, or none. Whatever it asks for, a page reads at most ``SCANNED`` candidates in the order
of lists, and says how far it came; the next page goes on there. So no search takes long, and none holds a connection while the
table is read through. Candidates come from what narrows them most: a term (migration 27), the index of agents, else the states of
lists. The other conditions are looked at on each candidate.

All is one statement, so that a page is of one snapshot. Candidates are joined by ``lateral (... offset 0)``, which the planner
cannot turn into a join that reads the whole table, whatever the statistics of a young table say. Rejected: the candidates in a
common table expression. PostgreSQL before 17 does not know its order, and reads all of them for every page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.domain.base.conditions import Search, Term
from cluster.ports.tasks import TaskQuery
from cluster.postgres.search_terms import stored_term
from cluster.postgres.task_lists import Arguments, branches
from cluster.postgres.task_rows import page_of

#: Most candidates that a page reads. More than the longest page has, so that a page that finds all of them is full.
SCANNED = 4_000
#: How far the clocks of a task's submit and of its end may be apart: no task ends before it was submitted, but for that.
_SKEW_S = 600.0
_ORDER = "order by created_at desc, id desc"


def task_terms(workspace: str, search: Search) -> list[bytes]:
    """The terms that tasks must have."""
    return [stored_term(workspace, term) for term in dict.fromkeys(search.terms) if not _is_default(workspace, term)]


def _is_default(workspace: str, term: Term) -> bool:
    """Whether it is the tenant of the tasks that name none, which have no term."""
    return term.kind == "t" and term.value == workspace


def search_statement(query: TaskQuery, search: Search, terms: Sequence[bytes]) -> tuple[str, *tuple[Any, ...]] | None:
    """The statement of a page and its arguments; ``terms``: those of the search, the rarest first. None if no task can match.

    Each row is a task of the page, with ``end_at`` and ``end_id`` of the last candidate if the page is not full and there may be
    more; a page without tasks has one row without a task."""
    arguments = Arguments()
    agents = {agent for agent in (query.agent_id, search.agent) if agent is not None}
    if len(agents) > 1:
        return None
    agent = next(iter(agents), None)
    position = _position(query, search, arguments)
    limit = arguments.add(query.limit)
    filters = _filters(query, search, arguments)
    if terms:
        ranges = [_of_term(terms[0], position, arguments)]
        filters += [_has_term(term, arguments) for term in terms[1:]] + _states(query, arguments)
        filters += [f"t.assigned_agent = {arguments.add(agent)}"] if agent is not None else []
    elif agent is not None:
        common = f"workspace = {arguments.add(query.workspace)} and assigned_agent = {arguments.add(agent)}"
        ranges = [_of_tasks(f"{common} and status {sign} 'running'", position) for sign in ("=", "<>")]
        filters += _states(query, arguments)
    else:
        plain = replace(query, task_type=None, queue=None, created_after=None, created_before=None)
        ranges = [_of_tasks(branch, position) for branch in branches(plain, arguments)]
    if not ranges:
        return None
    every = f"select created_at, id from ({' union all '.join(ranges)}) as r {_ORDER}"
    text = f"""
        with found as materialized (
            select s.id, s.created_at from ({every} limit {SCANNED}) as s
            cross join lateral (select * from tasks t where t.id = s.id offset 0) t
            where {" and ".join(filters)}
            order by s.created_at desc, s.id desc limit {limit}
        ), page as (
            {page_of("select id from found", "t.created_at desc, t.id desc", query.bodies)}
        )
        select e.created_at as end_at, e.id as end_id, page.* from (select) as one
        left join lateral (
            {every} offset {SCANNED - 1} limit case when (select count(*) from found) < {limit} then 1 else 0 end
        ) e on true
        left join page on true
        order by page.created_at desc, page.id desc"""
    return text, *arguments.values


def _position(query: TaskQuery, search: Search, arguments: Arguments) -> str:
    """The part of every range that the times and the page leave, as a condition on ``(at)`` and ``(id)``."""
    froms = [at for at in (query.created_after, search.created_from) if at is not None]
    before_end = None if search.ended_to is None else search.ended_to + _SKEW_S
    tos = [at for at in (query.created_before, search.created_to, before_end) if at is not None]
    text = f" and (at) >= {arguments.add(max(froms))}::float8" if froms else ""
    text += f" and (at) < {arguments.add(min(tos))}::float8" if tos else ""
    if query.before is not None:
        at, task_id = (arguments.add(value) for value in query.before)
        text += f" and ((at), id) < ({at}::float8, {task_id}::text)"
    return text


def _of_term(term: bytes, position: str, arguments: Arguments) -> str:
    condition = f"term = {arguments.add(term)}::bytea{position.replace('(at)', 'at')}"
    return f"(select at as created_at, id from task_terms where {condition} order by at desc, id desc limit {SCANNED})"


def _of_tasks(branch: str, position: str) -> str:
    condition = f"{branch}{position.replace('(at)', 'created_at')}"
    return f"(select created_at, id from tasks where {condition} {_ORDER} limit {SCANNED})"


def _has_term(term: bytes, arguments: Arguments) -> str:
    return (
        f"exists (select from task_terms k where k.term = {arguments.add(term)}::bytea "
        "and k.at = s.created_at and k.id = s.id offset 0)"
    )


def _filters(query: TaskQuery, search: Search, arguments: Arguments) -> list[str]:
    found = [f"t.workspace = {arguments.add(query.workspace)}"]
    for column, value in (("task_type", query.task_type), ("queue", query.queue)):
        if value is not None:
            found.append(f"t.{column} = {arguments.add(value)}")
    for column, part in (("s.id", search.id_contains), ("t.task_type", search.type_contains)):
        if part is not None:
            found.append(f"strpos(lower({column}), lower({arguments.add(part)}::text)) > 0")
    for sign, at in ((">=", search.ended_from), ("<", search.ended_to)):
        if at is not None:
            found.append(f"t.completed_at {sign} {arguments.add(at)}::float8")
    if any(_is_default(query.workspace, term) for term in search.terms):
        found.append("coalesce(t.rules ->> 'tenant', t.workspace) = t.workspace")
    return found


def _states(query: TaskQuery, arguments: Arguments) -> list[str]:
    found = []
    if query.statuses:
        found.append(f"t.status = any ({arguments.add([status.value for status in query.statuses])}::text[])")
    if query.details:
        details = arguments.add([detail.value for detail in query.details])
        delayed = f"t.status_detail = 'delayed' and t.run_at <= {arguments.add(query.now)}::float8"
        found.append(f"case when {delayed} then 'queued' else t.status_detail end = any ({details}::text[])")
    return found
