"""A page of tasks costs by its rows: it has room for some megabytes of bodies, and says which it leaves out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.domain.tasks.task import ALL_BODIES, Body, Task, TaskStatus
from cluster.ports.operations import DeadLetterQuery
from cluster.ports.tasks import TaskQuery
from cluster.postgres.stores import Stores
from cluster.postgres.task_rows import PAGE_CHARS, SMALL
from tests.support.samples import NOW

INSERT = """
    insert into tasks (id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries,
        max_retries, timeout_s, created_at, run_at, principal, region_routing_mode, origin_region, fallback_regions,
        required_capabilities, payload, metadata, result, completed_at)
    values ($1, 'w', 0, 'q', 't', 50, $3, $4, 1, 0, 0, 300, $2, $2, 'p', 'any', 'r', '[]', '[]', $5, $6, $7, $8)
"""
#: Half of a page's room, and a text of which PostgreSQL keeps a ninetieth.
HALF, SPACES = PAGE_CHARS // 2, " " * (PAGE_CHARS - 100)


async def _fill(
    stores: Stores, bodies: Sequence[tuple[Any, Any, Any]], status: str = "completed", detail: str = "completed"
) -> None:
    """Tasks t0, t1, ..., the newest first, with these payloads, metadata and results."""
    for n, (payload, metadata, result) in enumerate(bodies):
        texts = (json.dumps(payload), json.dumps(metadata), None if result is None else json.dumps(result))
        ended = None if status in ("pending", "running") else NOW - n
        await stores.pool.execute(INSERT, f"t{n:03}", NOW - n, status, detail, *texts, ended)


def _kept(tasks: Sequence[Task]) -> list[str]:
    """Ids of the tasks with bodies. The others have none, and say so."""
    for task in tasks:
        if task.left_out:
            assert (task.payload, dict(task.metadata), task.result) == (None, {}, None)
    return [task.id for task in tasks if not task.left_out]


async def test_small_bodies_are_all_there(stores: Stores) -> None:
    await _fill(stores, [({"n": n}, {"name": f"n{n}"}, [n]) for n in range(50)])
    tasks, total = await stores.tasks.list(TaskQuery(workspace="w"))
    assert [(task.payload, task.metadata, task.result) for task in tasks] == [
        ({"n": n}, {"name": f"n{n}"}, [n]) for n in range(50)
    ]
    assert total.entries == 50
    assert len(_kept(tasks)) == 50


@pytest.mark.parametrize("body", list(Body))
async def test_large_bodies_are_there_until_the_page_is_full(stores: Stores, body: Body) -> None:
    """The page goes on: what is small is there, also behind what is left out."""
    large = [{"text": f"{n}" + "ab" * (HALF // 2 - SMALL)} if n % 2 else {"n": n} for n in range(10)]
    empty: dict[Body, Any] = {Body.PAYLOAD: {}, Body.METADATA: {}, Body.RESULT: None}
    await _fill(stores, [tuple((empty | {body: value}).values()) for value in large])  # type: ignore[misc]
    tasks, _ = await stores.tasks.list(TaskQuery(workspace="w"))
    assert _kept(tasks) == ["t000", "t001", "t002", "t003", "t004", "t006", "t008"]
    assert [getattr(task, body) for task in tasks if not task.left_out] == [*large[:5], large[6], large[8]]
    assert {task.left_out for task in tasks if task.left_out} == {tuple(Body)}


async def test_the_first_large_body_is_there_whatever_it_is(stores: Stores) -> None:
    """Also one that was stored before there were bounds, and one that compression makes small."""
    await _fill(stores, [(SPACES * 3, {}, SPACES), (SPACES, {}, 1), ({}, {}, None)])
    tasks, _ = await stores.tasks.list(TaskQuery(workspace="w"))
    assert _kept(tasks) == ["t000", "t002"]
    assert (tasks[0].payload, tasks[0].result) == (SPACES * 3, SPACES)


async def test_bodies_that_nobody_asks_for_take_no_room(stores: Stores) -> None:
    await _fill(stores, [(SPACES, {"name": "n"}, SPACES)] * 4)
    tasks, _ = await stores.tasks.list(TaskQuery(workspace="w", bodies=(Body.METADATA,)))
    assert [(task.payload, task.metadata, task.result) for task in tasks] == [(None, {"name": "n"}, None)] * 4
    assert not any(task.left_out for task in tasks)


async def test_open_and_dead_tasks_have_the_same_bound(stores: Stores) -> None:
    await _fill(stores, [(SPACES, {}, None)] * 3, "pending", "queued")
    assert len(_kept(await stores.tasks.oldest("w", TaskStatus.PENDING, 10))) == 1
    assert len(_kept(await stores.tasks.oldest("w", TaskStatus.PENDING, 10, (Body.METADATA,)))) == 3
    await stores.pool.execute(
        "update tasks set status = 'failed', status_detail = 'dead_lettered', completed_at = created_at"
    )
    tasks, total = await stores.dead_letters.list(DeadLetterQuery(workspace="w", bodies=ALL_BODIES))
    assert (len(_kept(tasks)), len(tasks), total.entries) == (1, 3, 3)


async def test_a_task_by_its_id_is_whole(stores: Stores) -> None:
    await _fill(stores, [(SPACES, {"m": SPACES}, SPACES)] * 2)
    tasks = await stores.tasks.get_many("w", ["t000", "t001"])
    assert {task_id: (task.payload, task.metadata, task.result) for task_id, task in tasks.items()} == {
        task_id: (SPACES, {"m": SPACES}, SPACES) for task_id in ("t000", "t001")
    }
    assert await stores.tasks.statuses("w", ["t000", "none"]) == {"t000": TaskStatus.COMPLETED}
    assert await stores.tasks.statuses("other", ["t000"]) == {}
