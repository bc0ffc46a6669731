"""Runs of workflows on a real store: whoever advances them may be killed at any commit, and each task starts once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict, TryLater, Unstorable
from cluster.domain.base.log import record_for
from cluster.domain.workflows.document import RunStatus
from cluster.domain.workflows.stored import StoredWorkflow
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.samples import NOW
from tests.support.workflows import (
    ORIGIN,
    Agents,
    apply,
    fan_out,
    run_of,
    send_signal,
    settle,
    start,
    submitted,
    task,
    workflow_keeper,
)

pytestmark = pytest.mark.usefixtures("validated")

INPUT = {"from": "input"}
ITEM = {"from": "item"}


def square(payload: Any) -> Any:
    if payload["x"] < 0:
        raise ValueError("no")
    return payload["x"] ** 2


async def lives(stores: Stores, agents: Agents, work: Any, keeper: Any = None, run_id: str = "wfrun_1") -> RunStatus:
    """Advances the run, and does its tasks in order, until it has ended."""
    keeper = keeper or workflow_keeper(stores, agents)
    for _ in range(200):
        await settle(keeper)
        run = await run_of(stores, run_id)
        if run.ended_at is not None:
            return run.status
        for task_id in await agents.open():
            await agents.do(task_id, work)
    raise AssertionError("the run does not end")


async def results(stores: Stores, *task_ids: str) -> list[Any]:
    found = await stores.tasks.get_many("w", task_ids)
    return [found[task_id].result for task_id in task_ids]


async def test_a_fan_out_is_gathered_in_order(stores: Stores) -> None:
    steps = (
        {"id": "all", "map": fan_out(INPUT, {"x": ITEM}, concurrency=2)},
        {"id": "sum", "task": task({"of": {"from": "all"}, "n": {"from": "all", "path": "/1"}})},
    )
    await start(stores, await apply(stores, *steps), [3, 1, 2])
    agents = Agents(stores)

    def work(payload: Any) -> Any:
        return sum(payload["of"]) if "of" in payload else square(payload)

    assert await lives(stores, agents, work) is RunStatus.COMPLETED
    assert await results(stores, "wfrun_1.sum.00000.1") == [14]
    ((payload, metadata),) = (await stores.tasks.bodies("w", ["wfrun_1.sum.00000.1"])).values()
    assert payload == {"of": [9, 1, 4], "n": 1}
    assert metadata == {"workflow_run": "wfrun_1", "step": "sum"}


async def test_tasks_start_in_the_name_of_who_started_the_run(stores: Stores) -> None:
    await start(stores, await apply(stores, {"id": "a", "task": task({})}))
    await settle(workflow_keeper(stores))
    rows = await stores.log.read(0, 100)
    (begun,) = [row for row in rows if row.kind == "workflow.run_started"]
    (row,) = [row for row in rows if row.kind == "task.submitted"]
    assert (row.principal, row.cause) == ("user:tester", f"#{begun.seq}")


async def test_failed_items_are_null_where_the_policy_goes_on(stores: Stores) -> None:
    steps = (
        {"id": "all", "map": fan_out(INPUT, {"x": ITEM}, on_item_failure="continue")},
        {"id": "then", "task": task({"x": 0, "of": {"from": "all"}})},
    )
    await start(stores, await apply(stores, *steps), [2, -1, 3])
    assert await lives(stores, Agents(stores), square) is RunStatus.COMPLETED
    ((payload, _),) = (await stores.tasks.bodies("w", ["wfrun_1.then.00000.1"])).values()
    assert payload["of"] == [4, None, 9]


async def test_a_handler_takes_the_place_of_what_failed(stores: Stores) -> None:
    steps = (
        {"id": "a", "task": task({"x": -1}), "on_failure": {"step": "h"}},
        {"id": "h", "task": task({"x": 7, "why": {"from": "failure", "path": "/code"}})},
        {"id": "b", "task": task({"x": {"from": "a"}})},
    )
    await start(stores, await apply(stores, *steps))
    assert await lives(stores, Agents(stores), square) is RunStatus.COMPLETED
    ids = ["wfrun_1.h.00000.1", "wfrun_1.b.00000.1"]
    bodies = await stores.tasks.bodies("w", ids)
    assert [bodies[id_][0] for id_ in ids] == [{"x": 7, "why": "task_failed"}, {"x": 49}]


UNRESOLVED: list[tuple[dict[str, Any], Any, str]] = [
    ({"task": task({"x": {"from": "input", "path": "/absent"}})}, {}, "input_unresolved"),
    ({"map": fan_out({"from": "input", "path": "/0/1"}, {})}, [[]], "input_unresolved"),
    ({"map": fan_out(INPUT, {"x": {"from": "item", "path": "/a"}})}, [{"a": 1}, {}], "input_unresolved"),
    ({"map": fan_out(INPUT, {})}, {"a": 1}, "not_a_list"),
    ({"map": fan_out(INPUT, {})}, [0] * 10_001, "limit_exceeded"),
    ({"map": {**fan_out(INPUT, {"x": ITEM}), "filter": "true"}}, ["x" * 65_536], "input_too_large"),
    ({"map": fan_out(INPUT, {"x": ITEM})}, ["x" * 1_000_000], "input_too_large"),
    ({"task": task({"x": INPUT, "y": INPUT})}, "x" * 2_000_000, "input_too_large"),
]


@pytest.mark.parametrize(
    ("step", "given", "code"), UNRESOLVED, ids=[f"{n}-{row[2]}" for n, row in enumerate(UNRESOLVED)]
)
async def test_what_cannot_be_had_fails_the_step(stores: Stores, step: dict[str, Any], given: Any, code: str) -> None:
    await start(stores, await apply(stores, {"id": "s", **step}), given)
    await settle(workflow_keeper(stores))
    run = await run_of(stores)
    assert (run.status, run.steps["s"].code, bool(run.steps["s"].reason)) == (RunStatus.FAILED, code, True)
    assert await submitted(stores) == [], "nothing starts of a step that has failed already"


async def test_a_page_of_a_fan_out_is_one_commit(stores: Stores) -> None:
    await start(stores, await apply(stores, {"id": "all", "map": fan_out(INPUT, {"x": ITEM})}), list(range(1100)))
    keeper = workflow_keeper(stores)
    counts = []
    for _ in range(4):
        await keeper.advance()
        counts.append(len(await submitted(stores)))
    assert counts == [500, 1000, 1100, 1100]
    assert [id_.split(".")[2] for id_ in (await submitted(stores))[:2]] == ["00000", "00001"]


async def test_a_cancelled_run_stops_its_tasks_and_ends(stores: Stores) -> None:
    await start(stores, await apply(stores, {"id": "all", "map": fan_out([1, 2, 3], {"x": ITEM}, concurrency=2)}))
    keeper, agents = workflow_keeper(stores), Agents(stores)
    await settle(keeper)
    await cancel(stores)
    await settle(workflow_keeper(stores, agents))
    assert (await run_of(stores)).status is RunStatus.CANCELLED
    assert (len(await submitted(stores)), await agents.open()) == (2, [])


async def cancel(stores: Stores) -> None:
    await stores.workflows.ask(
        record_for(ORIGIN, NOW, "workflow.run_cancel_requested", "wfrun_1", {"run_id": "wfrun_1"})
    )


async def test_a_run_keeps_the_version_that_it_was_started_with(stores: Stores) -> None:
    first = await apply(stores, {"id": "a", "task": task({"x": 1})})
    await start(stores, first)
    await apply(stores, {"id": "b", "task": task({"x": 2})})
    assert await lives(stores, Agents(stores), square) is RunStatus.COMPLETED
    assert list((await run_of(stores)).steps) == ["a"]


async def test_a_workflow_that_was_deleted_and_applied_again_is_another_one(stores: Stores) -> None:
    agents = Agents(stores)
    keeper = workflow_keeper(stores, agents)
    for run_id, x in (("wfrun_1", 2), ("wfrun_2", 3)):
        workflow = await apply(stores, {"id": "a", "task": task({"x": x})})
        await start(stores, workflow, run_id=run_id)
        assert await lives(stores, agents, square, keeper, run_id) is RunStatus.COMPLETED
        record = record_for(ORIGIN, NOW, "workflow.deleted", "flow", {"workflow": "flow"})
        assert await stores.workflows.remove([record]) == ["flow"]
    assert await results(stores, "wfrun_1.a.00000.1", "wfrun_2.a.00000.1") == [4, 9]


class Killed(Exception):
    pass


class Tripwire:
    """The store, which kills whoever makes its ``at``-th commit: before it is written, or after."""

    def __init__(self, stores: Stores, at: int, *, written: bool) -> None:
        self._workflows = stores.workflows
        self._at = at
        self._written = written
        self.commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workflows, name)

    async def advance(self, *arguments: Any) -> None:
        await self._commit(self._workflows.advance, arguments)

    async def ask(self, *records: Any) -> None:
        await self._commit(self._workflows.ask, records)

    async def _commit(self, commit: Callable[..., Awaitable[None]], arguments: Sequence[Any]) -> None:
        self.commits += 1
        if self.commits != self._at or self._written:
            await commit(*arguments)
        if self.commits == self._at:
            raise Killed


async def _whole_life(stores: Stores, workflow: StoredWorkflow, run_id: str, at: int, written: bool) -> tuple[int, Any]:
    """(kills, what the end is). A run with a fan-out, a failure that is handled, one that stops others, and their tasks; a sleep,
    and a signal that comes whenever it is taken."""
    agents, clock = Agents(stores), ManualClock(NOW)
    wire = Tripwire(stores, at, written=written)
    keeper, kills = workflow_keeper(stores, agents, workflows=wire, clock=clock), 0
    begins = await stores.log.head()
    await start(stores, workflow, [1, 2, -3, 4], run_id)
    for _ in range(100):
        try:
            await settle(keeper)
        except Killed:
            keeper, kills = workflow_keeper(stores, agents, workflows=wire, clock=clock), kills + 1
            continue
        if (await run_of(stores, run_id)).ended_at is not None:
            break
        for task_id in (await agents.open())[:2]:
            await agents.do(task_id, square)
        await send_signal(stores, "go", 3, run_id)
        await clock.advance(5.0)
    run = await run_of(stores, run_id)
    steps = {step_id: (state.status.value, state.total, state.failed) for step_id, state in run.steps.items()}
    assert await agents.open() == []
    rows = await stores.log.read(begins, 100_000)
    started = [row.entity.removeprefix(run_id) for row in rows if row.kind == "task.submitted"]
    assert max(Counter(started).values()) == 1, "no task starts twice"
    ended = Counter(row.data["step"] for row in rows if row.kind == "workflow.run_step_ended")
    assert set(ended.values()) == {1}
    return kills, (run.status, steps, sorted(started))


TASK_STEPS = (
    {"id": "some", "map": fan_out(INPUT, {"x": ITEM}, concurrency=2, on_item_failure="continue")},
    {"id": "a", "task": task({"x": -1}), "on_failure": {"step": "h"}},
    {"id": "h", "task": task({"x": 2})},
    {"id": "b", "task": task({"x": {"from": "a"}}), "after": ["some"]},
    {"id": "last", "map": fan_out([-1, 5, 6], {"x": ITEM}), "after": ["b"]},
)
STEPS = (
    *TASK_STEPS[:3],
    {"id": "nap", "sleep": {"seconds": 9}, "after": ["a"]},
    {"id": "go", "signal": {"name": "go"}, "after": ["nap"]},
    {"id": "missed", "signal": {"name": "absent", "timeout_seconds": 1}, "on_failure": "continue", "after": ["go"]},
    {"id": "b", "task": task({"x": {"from": "go"}, "of": {"from": "a"}}), "after": ["some", "missed"]},
    TASK_STEPS[4],
)


@pytest.mark.parametrize("written", [True, False], ids=["after", "before"])
async def test_a_kill_at_any_commit_leaves_the_same_end(stores: Stores, written: bool) -> None:
    workflow = await apply(stores, *STEPS)
    _, expected = await _whole_life(stores, workflow, "wfrun_0", 0, written)
    assert expected[0] is RunStatus.FAILED
    for at in itertools.count(1):
        kills, end = await _whole_life(stores, workflow, f"wfrun_{at}", at, written)
        assert end == expected, f"commit {at}"
        if kills == 0:
            break
    assert at > 6, "the run has commits to die at"


async def test_nothing_to_do_is_nothing_written(stores: Stores) -> None:
    keeper = workflow_keeper(stores)
    assert [await keeper.advance() for _ in range(2)] == [False, False]
    assert await stores.log.read(0, 10) == []


async def test_of_two_that_advance_runs_one_commits(stores: Stores) -> None:
    await start(stores, await apply(stores, {"id": "a", "task": task({"x": 1})}))
    first, second = workflow_keeper(stores), workflow_keeper(stores)
    for keeper in (first, second):
        await keeper.advance()
    assert await submitted(stores) == ["wfrun_1.a.00000.1"]
    agents = Agents(stores)
    await agents.do("wfrun_1.a.00000.1", square)
    await first.advance()
    await second.advance()
    rows = [row.kind for row in await stores.log.read(0, 100)]
    assert rows.count("workflow.run_ended") == 1


async def test_a_region_that_takes_over_reads_open_runs_anew(stores: Stores) -> None:
    """Its cursor is of another epoch, if it has one."""
    await start(stores, await apply(stores, *TASK_STEPS), [1, 2, -3, 4])
    agents = Agents(stores)
    await settle(workflow_keeper(stores, agents))
    for task_id in await agents.open():
        await agents.do(task_id, square)
    await stores.pool.execute("update workflow_cursors set seq = 1000000, epoch = 0")
    assert await lives(stores, agents, square) is RunStatus.FAILED
    assert max(Counter(await submitted(stores)).values()) == 1


async def test_a_scheduler_that_is_away_is_asked_again(stores: Stores) -> None:
    await start(stores, await apply(stores, {"id": "a", "task": task({"x": 1})}))
    agents, away = Agents(stores), [True]

    async def ask(request: Any) -> None:
        if away.pop() if away else False:
            raise TryLater("The scheduler is away.")
        await agents.cancel(request)

    keeper = workflow_keeper(stores, cancel=ask)
    await settle(keeper)
    await cancel(stores)
    with pytest.raises(TryLater):
        await settle(keeper)
    await settle(keeper)
    assert (await run_of(stores)).status is RunStatus.CANCELLED


async def test_a_run_that_cannot_be_stored_stops_no_other(stores: Stores) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(stores.workflows, name)

        async def advance(self, cursor: Any, runs: Any, *parts: Any) -> None:
            if any(run.id == "wfrun_1" for run in runs):
                raise Unstorable("It cannot be stored.")
            await stores.workflows.advance(cursor, runs, *parts)

    workflow = await apply(stores, {"id": "a", "task": task({"x": 1})})
    await start(stores, workflow, run_id="wfrun_1")
    await start(stores, workflow, run_id="wfrun_2")
    keeper = workflow_keeper(stores, workflows=Refusing())
    await settle(keeper)
    assert await submitted(stores) == ["wfrun_2.a.00000.1"]
    (warning,) = (await keeper.status())["warnings"]
    assert "wfrun_1" in warning


async def test_an_older_cursor_commits_nothing(stores: Stores) -> None:
    workflow = await apply(stores, {"id": "a", "task": task({"x": 1})})
    await start(stores, workflow)
    begins = await stores.workflows.begin()
    await settle(workflow_keeper(stores))
    with pytest.raises(TryLater):
        await stores.workflows.advance((begins, begins + 1), [], [], [])


async def test_a_deleted_run_takes_its_commit_with_it(stores: Stores) -> None:
    run_id = await start(stores, await apply(stores, {"id": "a", "task": task({"x": 1})}))
    run = await run_of(stores, run_id)
    begins = await stores.workflows.begin()
    await stores.pool.execute("delete from workflow_runs")
    with pytest.raises(Conflict):
        await stores.workflows.advance((begins, begins + 1), [run], [], [])
    assert await stores.workflows.begin() == begins


async def test_the_region_is_locked_for_rows_of_the_log_only(stores: Stores) -> None:
    """A run is stored after its tasks, since that takes the lock first, and others would wait while a page is inserted."""
    workflow = await apply(stores, {"id": "all", "map": fan_out([1, 2, 3], {"x": {"from": "item"}})})
    await start(stores, workflow)
    await settle(workflow_keeper(stores))
    kinds = [row.kind for row in await stores.log.read(0, 100)]
    assert kinds[kinds.index("task.submitted") :] == [*["task.submitted"] * 3, "workflow.run_advanced"]
