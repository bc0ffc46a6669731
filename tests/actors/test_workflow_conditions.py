"""Conditions of steps and of items, on a real store: what they may name, and what they mean to the steps after them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cluster.domain.base.expressions import Expression
from cluster.domain.workflows.document import RunStatus
from cluster.postgres.stores import Stores
from tests.support.workflows import Agents, apply, fan_out, run_of, settle, start, submitted, task, workflow_keeper

pytestmark = pytest.mark.usefixtures("validated")

INPUT = {"from": "input"}
ITEM = {"from": "item"}
DRAFT = {"id": "draft", "task": task({"x": INPUT})}


async def goes_through(stores: Stores, work: Any) -> RunStatus:
    agents, keeper = Agents(stores), workflow_keeper(stores)
    for _ in range(20):
        await settle(keeper)
        for task_id in await agents.open():
            await agents.do(task_id, work)
        if (run := await run_of(stores)).ended_at is not None:
            return run.status
    raise AssertionError("the run does not end")


async def payload_of(stores: Stores, task_id: str) -> Any:
    ((payload, _),) = (await stores.tasks.bodies("w", [f"wfrun_1.{task_id}.1"])).values()
    return payload


@pytest.mark.parametrize("score", [0.4, 0.6])
async def test_a_condition_chooses_the_steps(stores: Stores, score: float) -> None:
    steps = (
        DRAFT,
        {"id": "publish", "when": "draft.score > 0.5 && input.go", "task": task({})},
        {"id": "review", "when": "publish == null", "task": task({})},
        {"id": "nap", "when": "review == null", "sleep": {"seconds": 0}},
        {"id": "last", "task": task({"of": {"from": "publish", "default": "none"}}), "after": ["review", "nap"]},
    )
    await start(stores, await apply(stores, *steps), {"go": True})
    assert await goes_through(stores, lambda payload: {"score": score}) is RunStatus.COMPLETED
    statuses = {step_id: state.status.value for step_id, state in (await run_of(stores)).steps.items()}
    skipped = {step_id for step_id, status in statuses.items() if status == "skipped"}
    assert skipped == ({"review"} if score > 0.5 else {"publish", "nap"})
    assert await payload_of(stores, "last.00000") == {"of": {"score": 0.6} if score > 0.5 else "none"}


async def test_a_handler_may_choose_its_failures(stores: Stores) -> None:
    handler = {"id": "h", "when": 'failure.code == "task_timeout"', "task": task({})}
    then = {"id": "then", "task": task({"of": {"from": "draft", "default": "none"}})}
    await start(stores, await apply(stores, {**DRAFT, "on_failure": {"step": "h"}}, handler, then), -1)

    def work(payload: Any) -> Any:
        if "x" in payload:
            raise ValueError("no")
        return 1

    assert await goes_through(stores, work) is RunStatus.COMPLETED
    assert await submitted(stores) == ["wfrun_1.draft.00000.1", "wfrun_1.then.00000.1"]


async def test_a_filter_leaves_out_items(stores: Stores) -> None:
    over = fan_out(
        {"from": "input", "path": "/items"},
        {"x": ITEM},
        filter="item.n > input.least && index < 5.0 && item.n != draft",
        concurrency=1,
    )
    items = [{"n": n} for n in (4, 1, 7, 9, 5, 8)]
    await start(
        stores,
        await apply(stores, {**DRAFT, "task": task({"x": 7})}, {"id": "all", "map": over}),
        {"items": items, "least": 3},
    )

    def work(payload: Any) -> Any:
        return payload["x"] if payload["x"] == 7 else payload["x"]["n"]

    assert await goes_through(stores, work) is RunStatus.COMPLETED
    (state,) = [state for step_id, state in (await run_of(stores)).steps.items() if step_id == "all"]
    assert state.total == 3
    assert [(await payload_of(stores, f"all.{n:05d}"))["x"]["n"] for n in range(3)] == [4, 9, 5]


async def test_whoever_takes_over_filters_alike(stores: Stores) -> None:
    over = fan_out(INPUT, {"x": ITEM}, filter="int(item) % 2 == 1")
    await start(stores, await apply(stores, {"id": "all", "map": over}), list(range(1200)))
    for _ in range(4):
        await workflow_keeper(stores).advance()
    assert len(await submitted(stores)) == 600
    assert await payload_of(stores, "all.00599") == {"x": 1199}


FAILED: list[tuple[dict[str, Any], Any, str, str]] = [
    ({"when": "input.x > 1.0", "task": task({})}, {}, "condition_failed", "Its when fails"),
    ({"when": "input", "task": task({})}, 3, "condition_failed", "neither true nor false"),
    ({"map": fan_out(INPUT, {}, filter="item > 1.0")}, [2, "a"], "condition_failed", "for item 1"),
    ({"map": fan_out(INPUT, {}, filter="false")}, [0] * 100_001, "limit_exceeded", "100,000"),
    ({"map": fan_out(INPUT, {}, filter="true")}, [0] * 10_001, "limit_exceeded", "10,000"),
    ({"map": fan_out(INPUT, {}, filter="true")}, {}, "not_a_list", "list"),
]


@pytest.mark.parametrize("n", range(len(FAILED)))
async def test_what_cannot_be_evaluated_fails_the_step(stores: Stores, n: int) -> None:
    step, given, code, reason = FAILED[n]
    await start(stores, await apply(stores, {"id": "s", **step}), given)
    await settle(workflow_keeper(stores))
    run = await run_of(stores)
    assert (run.status, run.steps["s"].code) == (RunStatus.FAILED, code)
    assert reason in run.steps["s"].reason
    assert await submitted(stores) == []


async def test_a_when_over_a_large_value_is_judged_beside_the_event_loop(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_in = []
    holds = Expression.holds

    def seen(self: Expression, variables: Any) -> bool:
        judged_in.append(threading.current_thread())
        return holds(self, variables)

    monkeypatch.setattr(Expression, "holds", seen)
    step = {"id": "any", "when": "input.exists(each, each == 1.0)", "task": task({})}
    await start(stores, await apply(stores, step), [0] * 50_000)
    await settle(workflow_keeper(stores))
    assert judged_in
    assert threading.main_thread() not in judged_in
