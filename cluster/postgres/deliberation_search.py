"""The statement of a search of deliberations, as `cluster.postgres.task_search` has it of tasks: a page reads a bounded part of a
range of an index, and says how far it came. A range is that of the rarest term (migration 40), else that of lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.domain.base.conditions import Term
from cluster.ports.deliberations import DeliberationQuery
from cluster.postgres.search_terms import stored_term
from cluster.postgres.task_lists import Arguments
from cluster.postgres.task_search import SCANNED

#: How far the clocks of an admission and of an end may be apart: nothing ends before it was admitted, but for that.
_SKEW_S = 600.0


def deliberation_terms(query: DeliberationQuery) -> list[bytes]:
    """The terms that deliberations must have."""
    search = query.search
    agents = [] if search.agent is None else [Term(kind="a", value=search.agent)]
    return [stored_term(query.workspace, term) for term in dict.fromkeys([*search.terms, *agents])]


def search_statement(query: DeliberationQuery, terms: Sequence[bytes]) -> tuple[str, *tuple[Any, ...]]:
    """The statement of a page and its arguments; ``terms``: those of the query, the rarest first.

    Each row is a deliberation of the page, with ``end_at`` and ``end_id`` of the last candidate if the page is not full and there
    may be more; a page without deliberations has one row without one."""
    arguments = Arguments()
    limit = arguments.add(query.limit)
    candidates = _candidates(query, terms, arguments)
    filters = _filters(query, terms[1:], arguments)
    text = f"""
        with found as materialized (
            select s.id, s.at from ({candidates} limit {SCANNED}) as s
            cross join lateral (select * from deliberations d where d.request_id = s.id offset 0) d
            where {" and ".join(filters)}
            order by s.at desc, s.id desc limit {limit}
        )
        select e.at as end_at, e.id as end_id, d.*, d.contract::text as contract_text, d.result::text as result_text
        from (select) as one
        left join lateral (
            {candidates} offset {SCANNED - 1} limit case when (select count(*) from found) < {limit} then 1 else 0 end
        ) e on true
        left join found f on true
        left join deliberations d on d.request_id = f.id
        order by d.admitted_at desc, d.request_id desc"""
    return text, *arguments.values


def _candidates(query: DeliberationQuery, terms: Sequence[bytes], arguments: Arguments) -> str:
    """The deliberations of the narrowest range, in the order of lists."""
    search = query.search
    if terms:
        source, at, key = "deliberation_terms", "at", "id"
        conditions = [f"term = {arguments.add(terms[0])}::bytea"]
    else:
        source, at, key = "deliberations", "admitted_at", "request_id"
        conditions = [f"workspace = {arguments.add(query.workspace)}"]
    before_end = None if search.ended_to is None else search.ended_to + _SKEW_S
    if search.created_from is not None:
        conditions.append(f"{at} >= {arguments.add(search.created_from)}::float8")
    for bound in (search.created_to, before_end):
        if bound is not None:
            conditions.append(f"{at} < {arguments.add(bound)}::float8")
    if query.before is not None:
        before_at, before_id = (arguments.add(value) for value in query.before)
        conditions.append(f"({at}, {key}) < ({before_at}::float8, {before_id}::text)")
    chosen = f"select {at} as at, {key} as id from {source} where {' and '.join(conditions)}"
    return f"{chosen} order by {at} desc, {key} desc"


def _filters(query: DeliberationQuery, terms: Sequence[bytes], arguments: Arguments) -> list[str]:
    search = query.search
    found = [f"d.workspace = {arguments.add(query.workspace)}"]
    found += [
        f"exists (select from deliberation_terms k where k.term = {arguments.add(term)}::bytea "
        "and k.at = s.at and k.id = s.id offset 0)"
        for term in terms
    ]
    kind = "case when d.contract ->> 'rounds' = '0' then 'quick' else 'debate' end"
    for column, part in (("s.id", search.id_contains), (kind, search.type_contains)):
        if part is not None:
            found.append(f"strpos(lower({column}), lower({arguments.add(part)}::text)) > 0")
    for sign, at in ((">=", search.ended_from), ("<", search.ended_to)):
        if at is not None:
            found.append(f"d.completed_at {sign} {arguments.add(at)}::float8")
    if query.states is not None:
        found.append(f"coalesce(d.terminal, d.state) = any ({arguments.add(sorted(query.states))}::text[])")
    return found
