"""Lists of tasks: what they show is what their filters say, and they read no more, however old the workspace is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cluster.domain.tasks.task import TaskDetail, TaskStatus
from cluster.ports.tasks import TaskQuery
from cluster.ports.totals import EXACT_TO
from cluster.postgres.migrate import migrate
from cluster.postgres.queries import queries
from cluster.postgres.stores import Stores, open_stores
from cluster.postgres.task_lists import ENDED_DETAILS, matching_statements, page_statement
from tests.support.samples import NOW
from tests.support.stores import StoreUrls, fresh_name

ROWS = 100_000
LIMIT = 50
#: Branches of a list: one for each way to end, and the open tasks.
BRANCHES = len(ENDED_DETAILS) + 1

INSERT = """
    insert into tasks (id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries,
        max_retries, timeout_s, created_at, run_at, principal, region_routing_mode, origin_region, fallback_regions,
        required_capabilities, payload, metadata, result, assigned_agent, completed_at)
    select r.id, r.workspace, 0, r.queue, r.task_type, 50, r.status, r.detail, 1, 0, 0, 300, r.at, r.run_at, 'p', 'any',
           'r', '[]', '[]', '{}', '{}', r.result::json, r.agent, r.at
"""
#: Nearly all tasks are alike: one in a thousand has another type, agent, queue or end, each of its own.
OLD = f"""
    {INSERT} from (
        select 'old' || n as id, 'w' as workspace, $2::float8 + n as at, $2::float8 + n as run_at,
               case when n % 1000 = 1 then 'rare' else 'common' end as task_type,
               case when n % 1000 = 2 then 'rare' else 'common' end as agent,
               case when n % 1000 = 3 then 'rare' else 'common' end as queue,
               case n % 1000 when 4 then 'failed' when 5 then 'failed' when 6 then 'cancelled' when 7 then 'timeout'
                             when 8 then 'pending' else 'completed' end as status,
               case n % 1000 when 4 then 'failed' when 5 then 'dead_lettered' when 6 then 'cancelled' when 7 then 'timeout'
                             when 8 then 'queued' else 'completed' end as detail,
               case when n % 10000 = 2 then '{{"findings": [1, 2]}}' else '{{"ok": true}}' end as result
        from generate_series(1, $1) as n
    ) r
"""


@dataclass
class Ground:
    """One loop for all tests of this file, and two schemas: an old workspace, and one that each example fills anew."""

    runner: asyncio.Runner
    old: Stores
    small: Stores


@pytest.fixture(scope="module")
def ground(shared_stores: StoreUrls) -> Iterator[Ground]:
    with asyncio.Runner() as runner:
        both = []
        for _ in range(2):
            name = fresh_name()
            runner.run(migrate(shared_stores.database, name))
            both.append(runner.run(open_stores(shared_stores.database, name, "test-region")))
        runner.run(both[0].pool.execute(OLD, ROWS, NOW))
        runner.run(both[0].pool.execute("analyze tasks"))
        yield Ground(runner, *both)
        for stores in both:
            runner.run(stores.close())


def _visited(plan: dict[str, Any]) -> int:
    """Rows that a plan's scans looked at, shown or not."""
    rows = sum(_visited(inner) for inner in plan.get("Plans", ()))
    if "Scan" not in plan["Node Type"] or "Subquery" in plan["Node Type"]:
        return rows
    assert plan["Node Type"] != "Seq Scan", "the whole table is read"
    looked_at = [
        plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    ]
    return rows + int(sum(looked_at) * plan["Actual Loops"])


async def _rows_visited(stores: Stores, sql: str, arguments: Any) -> int:
    (plan,) = json.loads(await stores.pool.value(f"explain (analyze, format json) {sql}", *arguments))
    return _visited(plan["Plan"])


UNCOMMON = [detail for detail in ENDED_DETAILS if detail is not TaskDetail.COMPLETED]


def _queries() -> list[TaskQuery]:
    """Lists by status and detail, and those of type, agent and queue among the uncommon ends."""
    every = TaskQuery(workspace="w", limit=LIMIT, now=NOW)
    named = [every]
    for value in ("rare", "common", "none"):
        named += [replace(every, task_type=value), replace(every, agent_id=value), replace(every, queue=value)]
    ended = tuple(status for status in TaskStatus if status.terminal)
    by_end = [
        *(replace(every, statuses=(status,)) for status in TaskStatus),
        *(replace(every, details=(detail,)) for detail in TaskDetail),
        *(replace(query, details=(detail,)) for query in named for detail in UNCOMMON),
        *(replace(query, statuses=(TaskStatus.FAILED, TaskStatus.TIMEOUT)) for query in named),
        replace(every, statuses=ended),  # the history
    ]
    time = replace(every, created_after=NOW + ROWS / 2, created_before=NOW + ROWS / 2 + 1000)
    by_end += [replace(query, by_change=True) for query in [every, *by_end[: len(TaskStatus) + len(TaskDetail)]]]
    return [every, time, *by_end, *(replace(query, before=(NOW + ROWS / 2, "old")) for query in [every, *by_end])]


def test_no_list_reads_what_its_filters_leave_out(ground: Ground) -> None:
    """Of a workspace with 100,000 tasks, nearly all of which completed. Open tasks may be read, and those of an uncommon end: the
    queue bounds the first."""
    few = ROWS // 1000 * (1 + len(UNCOMMON))

    async def live() -> None:
        for query in _queries():
            page, matching = page_statement(query), matching_statements(query, EXACT_TO + 1)
            if page is None or matching is None:
                continue
            visited = await _rows_visited(ground.old, *page)
            assert visited <= (BRANCHES + 1) * LIMIT + few, query
            counted = f"select count(*) from ({matching.first} limit {EXACT_TO + 1}) as counted"
            assert await _rows_visited(ground.old, counted, matching.arguments) <= EXACT_TO + 1 + few, query

    ground.runner.run(live())


def test_the_findings_of_an_agent_are_summed_without_its_results(ground: Ground) -> None:
    async def live() -> None:
        found = ROWS // 10_000
        assert await ground.old.agents.findings("w", "rare") == 2 * found
        assert await ground.old.agents.findings("w", "common") == 0
        for agent in ("rare", "common"):
            sql = queries("agents")["agent_findings"]
            assert await _rows_visited(ground.old, sql, ("w", agent)) <= found

    ground.runner.run(live())


_names = st.sampled_from("ab")
_open = {TaskDetail.RUNNING: TaskStatus.RUNNING, TaskDetail.CANCELLING: TaskStatus.RUNNING}
_pending = {detail: TaskStatus.PENDING for detail in TaskDetail if detail not in {**ENDED_DETAILS, **_open}}
STATUS_OF = {**ENDED_DETAILS, **_open, **_pending}


@dataclass(frozen=True)
class Row:
    workspace: str
    task_type: str
    agent: str
    queue: str
    detail: TaskDetail
    at: int
    delay: int


rows = st.lists(
    st.builds(
        Row, _names, _names, _names, _names, st.sampled_from(TaskDetail), st.integers(0, 4), st.sampled_from([-5, 5])
    ),
    max_size=30,
)
_maybe = st.none() | _names
_query = st.builds(
    TaskQuery,
    workspace=_names,
    statuses=st.lists(st.sampled_from(TaskStatus), max_size=2).map(tuple),
    details=st.lists(st.sampled_from(TaskDetail), max_size=2).map(tuple),
    task_type=_maybe,
    agent_id=_maybe,
    queue=_maybe,
    created_after=st.none() | st.integers(0, 4).map(lambda at: NOW + at),
    created_before=st.none() | st.integers(0, 5).map(lambda at: NOW + at),
    limit=st.integers(1, 7),
    now=st.just(NOW + 2),
)


def _matches(row: Row, query: TaskQuery) -> bool:
    detail = row.detail
    if detail is TaskDetail.DELAYED and NOW + row.at + row.delay <= query.now:
        detail = TaskDetail.QUEUED
    same = query.workspace == row.workspace
    same &= query.task_type in (None, row.task_type) and query.agent_id in (None, row.agent)
    same &= query.queue in (None, row.queue)
    same &= not query.statuses or STATUS_OF[row.detail] in query.statuses
    same &= not query.details or detail in query.details
    same &= query.created_after is None or NOW + row.at >= query.created_after
    return bool(same and (query.created_before is None or NOW + row.at < query.created_before))


#: Its statuses are of open and ended tasks, its details of ended ones only.
OPEN_BY_STATUS_ONLY = TaskQuery(
    workspace="w", statuses=(TaskStatus.RUNNING, TaskStatus.COMPLETED), details=(TaskDetail.COMPLETED,), now=NOW
)


@settings(
    max_examples=60,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(rows=[], asked=[OPEN_BY_STATUS_ONLY])
@given(rows=rows, asked=st.lists(_query, min_size=1, max_size=6))
def test_a_list_shows_what_its_filters_say_page_by_page(
    ground: Ground, rows: list[Row], asked: list[TaskQuery]
) -> None:
    async def live() -> None:
        stores = ground.small
        await stores.pool.execute("truncate tasks")
        ids = [f"task_{n:03}" for n in range(len(rows))]
        await stores.pool.execute(
            f"{INSERT} from (select null as result, * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],"
            "$6::text[], $7::text[], $8::float8[], $9::float8[]) as "
            "u (id, workspace, task_type, agent, queue, status, detail, at, run_at)) as r",
            ids,
            [row.workspace for row in rows],
            [row.task_type for row in rows],
            [row.agent for row in rows],
            [row.queue for row in rows],
            [STATUS_OF[row.detail].value for row in rows],
            [row.detail.value for row in rows],
            [NOW + row.at for row in rows],
            [NOW + row.at + row.delay for row in rows],
        )
        for query in asked:
            matching = [(NOW + row.at, task_id) for row, task_id in zip(rows, ids, strict=True) if _matches(row, query)]
            matching.sort(reverse=True)
            by_cursor: list[tuple[float, str]] = []
            by_offset: list[tuple[float, str]] = []
            for start in range(0, len(matching) + query.limit, query.limit):
                before = by_cursor[-1] if by_cursor else None
                page, total = await stores.tasks.list(replace(query, before=before))
                by_cursor += [(task.created_at, task.id) for task in page]
                assert (total.entries, total.exact) == (len(matching), True)
                page, _ = await stores.tasks.list(replace(query, offset=start))
                by_offset += [(task.created_at, task.id) for task in page]
            assert by_cursor == by_offset == matching

    ground.runner.run(live())
