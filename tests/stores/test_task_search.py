"""A search finds what its conditions say, each task once, page by page, while tasks change; a page reads a bounded part."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.domain.base.conditions import Search, parse_search
from cluster.domain.tasks.task import TaskDetail, TaskStatus
from cluster.ports.tasks import SubmitItem, TaskQuery
from cluster.postgres import task_search
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.postgres.task_lists import ENDED_DETAILS
from cluster.postgres.task_search import SCANNED, search_statement, task_terms
from tests.support.samples import ASKER, NOW, new_task
from tests.support.stores import StoreUrls, fresh_name

INSERT = """
    insert into tasks (id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries,
        max_retries, timeout_s, created_at, run_at, principal, region_routing_mode, origin_region, fallback_regions,
        required_capabilities, payload, metadata, rules, assigned_agent, completed_at)
    select r.id, r.workspace, 0, r.queue, r.task_type, 50, r.status, r.detail, 1, 0, 0, 300, r.at, r.at, 'p', 'any',
           'r', '[]', '[]', '{}', r.metadata::json, r.rules::json, r.agent, r.ended
"""


@dataclass
class Ground:
    runner: asyncio.Runner
    stores: Stores


@pytest.fixture(scope="module")
def ground(shared_stores: StoreUrls) -> Iterator[Ground]:
    """One loop and one schema for all tests of this file."""
    with asyncio.Runner() as runner:
        name = fresh_name()
        runner.run(migrate(shared_stores.database, name))
        stores = runner.run(open_stores(shared_stores.database, name, "test-region"))
        yield Ground(runner, stores)
        runner.run(stores.close())


def _status(detail: TaskDetail) -> TaskStatus:
    if detail in ENDED_DETAILS:
        return ENDED_DETAILS[detail]
    return TaskStatus.RUNNING if detail in (TaskDetail.RUNNING, TaskDetail.CANCELLING) else TaskStatus.PENDING


@dataclass(frozen=True)
class State:
    """What changes of a task. A waiting one has no agent, and one that has not ended no end."""

    detail: TaskDetail
    agent: str
    took: int

    @property
    def held_by(self) -> str | None:
        return None if _status(self.detail) is TaskStatus.PENDING else self.agent


@dataclass(frozen=True)
class Row:
    workspace: str
    task_type: str
    queue: str
    at: int
    metadata: dict[str, Any]
    tenant: str | None
    state: State


_names = st.sampled_from(["w", "%", "a_b"])
_details = st.sampled_from([detail for detail in TaskDetail if detail is not TaskDetail.DELAYED])
_states = st.builds(State, _details, st.sampled_from(["w", "x"]), st.integers(0, 3))
_plain = st.sampled_from([17, "17", 1.5, True, None, "x", "", [1], {"a": 1}])
_metadata = st.dictionaries(st.sampled_from(["pr", "x", "a.b"]), _plain, max_size=3) | st.builds(
    lambda tags: {"tags": tags}, st.lists(st.sampled_from(["x", "17", 17, None]), max_size=3) | st.just("x")
)
_rows = st.lists(
    st.builds(
        Row, st.sampled_from(["w", "w", "v"]), _names, _names, st.integers(0, 4), _metadata, st.none() | _names, _states
    ),
    max_size=20,
)
_times = st.integers(0, 6).map(lambda at: f"{NOW + at!r}")
_condition = st.one_of(
    st.builds(
        "metadata.{}={}".format,
        st.sampled_from(["pr", "x", "a.b", "none"]),
        st.sampled_from(["17", "1.5", "true", "null", "x", ""]),
    ),
    st.builds("tag={}".format, st.sampled_from(["x", "17", "none"])),
    st.builds("tenant={}".format, _names),
    st.builds("agent={}".format, st.sampled_from(["w", "x", "none"])),
    st.builds("id~{}".format, st.sampled_from(["01", "TASK", "_", "%"])),
    st.builds("type~{}".format, st.sampled_from(["A", "_", "%", "none"])),
    st.builds("created>={}".format, _times),
    st.builds("created<{}".format, _times),
    st.builds("ended>={}".format, _times),
    st.builds("ended<{}".format, _times),
)
_OF_ONE = re.compile(r"(agent|id|type|created|ended)[<>~=]+")


def _kind(condition: str) -> str:
    """Equal for two conditions of which a search takes one."""
    found = _OF_ONE.match(condition)
    return condition if found is None else found.group()


_where = st.lists(_condition, max_size=2, unique_by=_kind)


def _seldom(value: st.SearchStrategy[Any], else_: Any = None) -> st.SearchStrategy[Any]:
    """Mostly no filter: with many of them nothing matches, and a test of what is found tests nothing."""
    return st.integers(0, 4).flatmap(lambda drawn: value if drawn == 0 else st.just(else_))


_query = st.builds(
    TaskQuery,
    workspace=st.just("w"),
    statuses=_seldom(st.lists(st.sampled_from(TaskStatus), min_size=1, max_size=3).map(tuple), ()),
    details=_seldom(st.lists(_details, min_size=1, max_size=3).map(tuple), ()),
    task_type=_seldom(_names),
    agent_id=_seldom(st.sampled_from(["w", "x"])),
    queue=_seldom(_names),
    created_after=_seldom(st.integers(0, 4).map(lambda at: NOW + at)),
    limit=st.integers(1, 5),
    now=st.just(NOW + 2),
)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _has(row: Row, kind: str, key: str, value: str) -> bool:
    if kind == "m":
        found = row.metadata.get(key, [])
        return not isinstance(found, list | dict) and _shown(found) == value
    if kind == "g":
        tags = row.metadata.get("tags")
        return isinstance(tags, list) and value in [tag for tag in tags if isinstance(tag, str)]
    return value == (row.workspace if row.tenant is None else row.tenant)


def _matches(task_id: str, row: Row, state: State, query: TaskQuery, search: Search) -> bool:
    """The dumb model of a search."""
    at, status = NOW + row.at, _status(state.detail)
    ended = at + state.took if status.terminal else None
    wanted = [
        row.workspace == query.workspace,
        query.task_type in (None, row.task_type),
        query.queue in (None, row.queue),
        query.agent_id in (None, state.held_by),
        search.agent in (None, state.held_by),
        not query.statuses or status in query.statuses,
        not query.details or state.detail in query.details,
        query.created_after is None or at >= query.created_after,
        search.created_from is None or at >= search.created_from,
        search.created_to is None or at < search.created_to,
        search.ended_from is None or (ended is not None and ended >= search.ended_from),
        search.ended_to is None or (ended is not None and ended < search.ended_to),
        (search.id_contains or "").lower() in task_id.lower(),
        (search.type_contains or "").lower() in row.task_type.lower(),
        *(_has(row, term.kind, term.key, term.value) for term in search.terms),
    ]
    return all(wanted)


async def _fill(stores: Stores, rows: dict[str, Row]) -> None:
    await stores.pool.execute("truncate tasks")
    await stores.pool.execute(
        f"{INSERT} from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], "
        "$8::text[], $9::text[], $10::text[], $11::float8[]) as "
        "r (id, workspace, task_type, queue, status, detail, at, metadata, rules, agent, ended)",
        [*rows],
        [row.workspace for row in rows.values()],
        [row.task_type for row in rows.values()],
        [row.queue for row in rows.values()],
        [_status(row.state.detail).value for row in rows.values()],
        [row.state.detail.value for row in rows.values()],
        [NOW + row.at for row in rows.values()],
        [json.dumps(row.metadata) if row.metadata else "{}" for row in rows.values()],
        [None if row.tenant is None else json.dumps({"tenant": row.tenant}) for row in rows.values()],
        [row.state.held_by for row in rows.values()],
        [NOW + row.at + row.state.took if row.state.detail in ENDED_DETAILS else None for row in rows.values()],
    )


async def _change(stores: Stores, task_id: str, row: Row, state: State) -> None:
    ended = NOW + row.at + state.took if state.detail in ENDED_DETAILS else None
    await stores.pool.execute(
        "update tasks set status = $2, status_detail = $3, assigned_agent = $4, completed_at = $5 where id = $1",
        *(task_id, _status(state.detail).value, state.detail.value, state.held_by, ended),
    )


@settings(max_examples=60, phases=(Phase.explicit, Phase.generate), suppress_health_check=[*HealthCheck], deadline=None)
@given(
    rows=_rows,
    query=_query,
    where=_where,
    changes=st.lists(st.tuples(st.integers(0, 19), _states), max_size=8),
    scanned=st.sampled_from([1, 3]),
)
def test_a_search_finds_each_matching_task_once_while_tasks_change(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[Row],
    query: TaskQuery,
    where: list[str],
    changes: list[tuple[int, State]],
    scanned: int,
) -> None:
    """Between two pages a task changes. One that matched all the time is found once, one that never did is not."""
    monkeypatch.setattr(task_search, "SCANNED", scanned)
    search = parse_search(where)
    named = {f"task_{n:03}": row for n, row in enumerate(rows)}
    states = {task_id: [row.state] for task_id, row in named.items()}

    async def live() -> list[tuple[float, str]]:
        stores, left, before = ground.stores, list(changes), None
        await _fill(stores, named)
        seen: list[tuple[float, str]] = []
        for _ in range(2 * len(rows) + 3):
            page = await stores.tasks.search(replace(query, before=before), search)
            seen += [(task.created_at, task.id) for task in page.tasks]
            if page.following is None:
                return seen
            before = page.following
            if left and named:
                number, state = left.pop()
                task_id = [*named][number % len(named)]
                states[task_id].append(state)
                await _change(stores, task_id, named[task_id], state)
        raise AssertionError("the pages do not end")

    seen = ground.runner.run(live())
    assert seen == sorted(set(seen), reverse=True)
    found = {task_id for _, task_id in seen}
    for task_id, row in named.items():
        matched = [_matches(task_id, row, state, query, search) for state in states[task_id]]
        assert not all(matched) or task_id in found, (task_id, row)
        assert any(matched) or task_id not in found, (task_id, row)


MANY = 20_000
OF_ALL = [
    *(
        ["metadata.env=prod"],
        ["metadata.none=1"],
        ["metadata.n=77"],
        ["metadata.half=0", "metadata.half=1"],
        ["tag=all"],
    ),
    *(["tenant=acme"], ["tenant=w"], ["agent=a-7"], ["agent=none"], ["id~000"], ["id~none"], ["type~none"]),
    *([f"ended>={NOW + 10 * MANY!r}"], [f"ended<{NOW!r}"], [f"created<{NOW + 5!r}"], [f"created>={NOW + 10 * MANY!r}"]),
]


def _read(plan: dict[str, Any]) -> int:
    """Rows that a plan's scans looked at, shown or not."""
    rows = sum(_read(inner) for inner in plan.get("Plans", ()))
    if "Relation Name" not in plan:
        return rows
    assert plan["Node Type"] in ("Index Scan", "Index Only Scan"), plan["Node Type"]
    looked_at = [
        plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    ]
    return rows + int(sum(looked_at) * plan["Actual Loops"])


def test_no_page_reads_more_than_its_part_of_the_table(ground: Ground) -> None:
    """Right after the load, when the planner knows nothing, and later. First, middle and last pages, what is found or not."""

    async def check(statistics: str) -> None:
        for where in OF_ALL:
            for before in (None, (NOW + MANY / 2, "x"), (NOW + 10, "x")):
                query, search = TaskQuery(workspace="w", before=before), parse_search(where)
                statement = search_statement(query, search, task_terms("w", search))
                assert statement is not None
                text, *arguments = statement
                (plan,) = json.loads(
                    await ground.stores.pool.value(f"explain (analyze, format json) {text}", *arguments)
                )
                assert _read(plan["Plan"]) <= 3 * SCANNED + 300, (statistics, where, before)

    async def live() -> None:
        pool = ground.stores.pool
        await pool.execute("truncate tasks")
        await pool.execute(
            f"{INSERT} from (select 'task_' || lpad(n::text, 9, '0') as id, 'w' as workspace, 'q' as queue, 't' as task_type,"
            "'completed' as status, 'completed' as detail, $2::float8 + n as at, $2::float8 + n as ended,"
            "json_build_object('env', 'prod', 'n', n % 10000, 'half', n % 2, 'tags', json_build_array('all'))::text "
            "as metadata,"
            "'{\"tenant\": \"acme\"}' as rules, 'a-' || n % 100 as agent from generate_series(1, $1) n) r",
            *(MANY, NOW),
        )
        await check("none")
        await pool.execute("vacuum analyze tasks")
        await pool.execute("vacuum analyze task_terms")
        await check("some")

    ground.runner.run(live())


async def test_terms_follow_from_tasks_whoever_writes_those(stores: Stores) -> None:
    async def found(*where: str) -> list[str]:
        query = TaskQuery(workspace=ASKER.workspace)
        return [task.id for task in (await stores.tasks.search(query, parse_search(where))).tasks]

    task = new_task(metadata={"pr": 17, "tags": ["x"]})
    bare = new_task(created_at=NOW + 1)
    await stores.tasks.submit([SubmitItem(task=task), SubmitItem(task=bare)])
    assert await found("metadata.pr=17", "tag=x") == [task.id]
    assert await stores.pool.value("select count(*) from task_terms") == 2
    await stores.pool.execute("update tasks set metadata = '{\"pr\": 18}' where id = $1", task.id)
    assert (await found("metadata.pr=17"), await found("metadata.pr=18")) == ([], [task.id])
    # What an earlier build may have stored and no text can hold: not found, and not in the way.
    await stores.pool.execute('update tasks set metadata = \'{"pr": "\\u0000"}\' where id = $1', task.id)
    assert await stores.pool.value("select count(*) from task_terms") == 0
    await stores.pool.execute("update tasks set metadata = '{\"pr\": 19}' where id = $1", task.id)
    await stores.pool.execute("delete from tasks where id = $1", task.id)
    assert await stores.pool.value("select count(*) from task_terms") == 0


async def test_only_the_first_values_of_metadata_are_found(stores: Stores) -> None:
    task = new_task(metadata={f"k{n}": "é" * 5000 for n in range(40)} | {"tags": [f"t{n}" for n in range(40)]})
    await stores.tasks.submit([SubmitItem(task=task)])
    assert await stores.pool.value("select count(*) from task_terms") == 64
