"""Large values of runs on a real store: a task refers to them, whoever reads its payload gets them, and they are not copied."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.log import record_for
from cluster.domain.tasks.task import Body
from cluster.domain.workflows.large_values import KEY, MOST_COPIED
from cluster.ports.tasks import SubmitItem, TaskQuery
from cluster.postgres.stores import Stores
from tests.support.samples import NOW, new_task
from tests.support.workflows import ORIGIN, Agents, apply, decide, fan_out, settle, start, task, workflow_keeper

LONG = "x" * (MOST_COPIED + 1)
INPUT = {"from": "input"}
THEN = "wfrun_1.then.00000.1"


async def payload_of(stores: Stores, task_id: str = THEN) -> Any:
    """As those get it that claim it, by either way."""
    ((payload, _),) = (await stores.tasks.bodies("w", [task_id])).values()
    found = await stores.tasks.get("w", task_id)
    assert found is not None
    assert found.payload == payload
    return payload


async def stored_chars(stores: Stores, task_id: str = THEN) -> int:
    return int(await stores.pool.value("select length(payload::text) from tasks where id = $1", task_id))


async def run_to_then(
    stores: Stores, first: dict[str, Any], then: Any, results: list[Any], given: Any = None
) -> Agents:
    """Does the tasks of the first step, so that the step ``then`` has its task."""
    await start(stores, await apply(stores, {"id": "first", **first}, {"id": "then", "task": task(then)}), given)
    agents, keeper = Agents(stores), workflow_keeper(stores)
    await settle(keeper)
    for task_id, result in zip(sorted(await agents.open()), results, strict=True):
        await agents.do(task_id, lambda _, result=result: result)
    await settle(keeper)
    return agents


async def test_a_large_result_is_referred_to(stores: Stores) -> None:
    then = {"text": {"from": "first", "path": "/a~1b/0"}, "also": [{"from": "first"}], "small": 1}
    await run_to_then(stores, {"task": task()}, then, [{"a/b": [LONG]}])
    assert await payload_of(stores) == {"text": LONG, "also": [{"a/b": [LONG]}], "small": 1}
    assert await stored_chars(stores) < 1_000


async def test_a_large_gathered_list_is_referred_to_with_its_gaps(stores: Stores) -> None:
    parts = ["x" * 40_000, "y" * 40_000, "z"]
    first = {"map": fan_out([1, 2, 3, 4], {}, on_item_failure="continue")}
    await start(
        stores, await apply(stores, {"id": "first", **first}, {"id": "then", "task": task({"all": {"from": "first"}})})
    )
    agents, keeper = Agents(stores), workflow_keeper(stores)
    await settle(keeper)

    def fails(_: Any) -> Any:
        raise ValueError("no")

    for task_id, part in zip(sorted(await agents.open()), [parts[0], None, *parts[1:]], strict=True):
        await agents.do(task_id, fails if part is None else lambda _, part=part: part)
    await settle(keeper)
    assert await payload_of(stores) == {"all": [parts[0], None, *parts[1:]]}
    assert await stored_chars(stores) < 1_000


async def test_what_a_run_was_given_and_its_items_are_referred_to(stores: Stores) -> None:
    each = {"item": {"from": "item", "path": "/text"}, "whole": {"from": "input", "path": "/doc"}}
    steps = {"id": "all", "map": fan_out({"from": "input", "path": "/items"}, each)}
    items = [{"text": "small"}, {"text": LONG}]
    await start(stores, await apply(stores, steps), {"items": items, "doc": [LONG]})
    await settle(workflow_keeper(stores))
    for n, item in enumerate(items):
        id_ = f"wfrun_1.all.{n:05d}.1"
        assert await payload_of(stores, id_) == {"item": item["text"], "whole": [LONG]}
        assert await stored_chars(stores, id_) < 1_000


async def test_a_large_decision_is_referred_to(stores: Stores) -> None:
    first = {"deliberation": {"content": "Which?"}}
    await start(
        stores, await apply(stores, {"id": "first", **first}, {"id": "then", "task": task({"of": {"from": "first"}})})
    )
    keeper = workflow_keeper(stores)
    await settle(keeper)
    await decide(stores, "wfrun_1.first.00000.1", LONG)
    await settle(keeper)
    assert (await payload_of(stores))["of"]["answer"] == LONG
    assert await stored_chars(stores) < 1_000


async def test_values_up_to_the_bound_are_copied(stores: Stores) -> None:
    await run_to_then(stores, {"task": task()}, {"of": {"from": "first"}}, ["x" * (MOST_COPIED - 100)])
    assert await stored_chars(stores) > MOST_COPIED - 100


async def test_an_erased_value_is_null_wherever_it_was_referred_to(stores: Stores) -> None:
    await run_to_then(stores, {"task": task()}, {"of": {"from": "first"}, "n": 1}, [LONG])
    record = record_for(ORIGIN, NOW, "task.erased", "wfrun_1.first.00000.1", {"task_id": "wfrun_1.first.00000.1"})
    assert await stores.erasures.erase_tasks("w", [record]) == 1
    assert await payload_of(stores) == {"of": None, "n": 1}
    assert not await stores.pool.value(
        "select count(*) from tasks where payload::text like '%xxx%' or result::text like '%xxx%'"
    )


async def test_a_list_leaves_out_what_has_no_room(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.postgres.task_rows.PAGE_CHARS", 100_000)
    steps = {"id": "all", "map": fan_out([1, 2, 3], {"of": INPUT})}
    await start(stores, await apply(stores, steps), LONG)
    await settle(workflow_keeper(stores))
    tasks, _ = await stores.tasks.list(TaskQuery(workspace="w", bodies=(Body.PAYLOAD,)))
    assert sorted((found.payload is None, found.left_out) for found in tasks) == [
        (False, ()),
        (True, (Body.PAYLOAD,)),
        (True, (Body.PAYLOAD,)),
    ]


async def test_nobody_writes_a_reference_of_their_own(stores: Stores) -> None:
    """Whoever submits would read by it what they may not."""
    await run_to_then(stores, {"task": task()}, {"of": {"from": "first"}}, [LONG])
    origin = {"run": "wfrun_1", "step": "first", "total": 1, "fan_out": False, "failed": []}
    own = {KEY: {"payload": {"x": None}, "values": [{"at": "/x", "origin": origin, "path": ""}], "chars": 1}}
    await stores.tasks.submit([SubmitItem(task=new_task(id="mine", payload=own))])
    assert await payload_of(stores, "mine") == own
