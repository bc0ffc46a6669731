"""Schedules on a real store: each due run is submitted once, by the commit that advances its schedule, whatever is killed."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict, TryLater, Unstorable
from cluster.domain.schedules.schedule import CatchUp, Overlap
from cluster.domain.schedules.template import workflow_template
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.probes import eventually
from tests.support.schedules import EVERY_S, START, create, new_schedule, schedule_keeper
from tests.support.stores import StoreUrls
from tests.support.workflows import apply

pytestmark = pytest.mark.usefixtures("validated")


async def submitted(stores: Stores) -> list[str]:
    return [row.entity for row in await stores.log.read(0, 10_000) if row.kind == "task.submitted"]


async def fired(stores: Stores) -> list[tuple[str, int]]:
    rows = await stores.log.read(0, 10_000)
    return [(row.data["run"], row.data["due"]) for row in rows if row.kind == "schedule.fired"]


async def test_a_due_run_is_a_task_of_its_template(stores: Stores) -> None:
    await create(stores, new_schedule())
    clock = ManualClock(START + EVERY_S)
    await schedule_keeper(stores, clock).fire_due()
    ((run, due),) = await fired(stores)
    assert due == START + EVERY_S
    task = await stores.tasks.get("w", run)
    assert task is not None
    assert (task.task_type, task.payload, task.metadata) == ("report", {"n": [1]}, {"a": "b"})
    created, *_, row = [row for row in await stores.log.read(0, 10) if row.kind != "schedule.fired"]
    assert (row.kind, row.cause, row.principal) == ("task.submitted", f"#{created.seq}", "user:tester")
    await schedule_keeper(stores, clock).fire_due()
    assert await submitted(stores) == [run]


@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_kill_at_the_commit_neither_loses_nor_doubles_a_run(
    stores: Stores, store_urls: StoreUrls, schema: str, point: str
) -> None:
    """A real process and SIGKILL: it has read what is due, and its third commit has not begun or has just been answered."""
    await create(stores, new_schedule(overlap=Overlap.ALLOW))
    command = [
        sys.executable,
        "-m",
        "tests.support.schedules_process",
        store_urls.database,
        schema,
        "test-region",
        point,
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"stopped\n"
    finally:
        process.kill()
        await process.wait()
    done = {"before": 2, "after": 3}[point]
    assert len(await fired(stores)) == done
    clock = ManualClock(START + 3 * EVERY_S)
    for _ in range(3):
        await schedule_keeper(stores, clock).fire_due()
        await clock.advance(EVERY_S)
    runs = await fired(stores)
    assert [due for _, due in runs] == [START + n * EVERY_S for n in range(1, 6)]
    assert await submitted(stores) == [run for run, _ in runs]


async def test_a_kill_at_any_moment_leaves_each_due_time_one_run(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    await create(stores, new_schedule(overlap=Overlap.ALLOW))
    command = [
        sys.executable,
        "-m",
        "tests.support.schedules_process",
        store_urls.database,
        schema,
        "test-region",
        "none",
    ]
    process = await asyncio.create_subprocess_exec(*command)

    async def is_far() -> bool:
        return len(await fired(stores)) > 30

    try:
        await eventually(is_far)
    finally:
        process.kill()
        await process.wait()
    # One look, for a commit that was under way outlives who made it.
    rows = await stores.log.read(0, 100_000)
    runs = [row.data["run"] for row in rows if row.kind == "schedule.fired"]
    dues = [row.data["due"] for row in rows if row.kind == "schedule.fired"]
    assert dues == [START + n * EVERY_S for n in range(1, len(runs) + 1)]
    assert [row.entity for row in rows if row.kind == "task.submitted"] == runs


async def test_of_two_keepers_each_run_starts_by_one(stores: Stores) -> None:
    for n in range(5):
        await create(stores, new_schedule(f"sched_{n}"))
    clock = ManualClock(START + EVERY_S)
    await asyncio.gather(*(schedule_keeper(stores, clock).fire_due() for _ in range(3)))
    assert len(await submitted(stores)) == 5


async def test_an_older_revision_commits_nothing(stores: Stores) -> None:
    await create(stores, new_schedule())
    read = await stores.schedules.get("w", "sched_1")
    assert read is not None
    await schedule_keeper(stores, ManualClock(START + EVERY_S)).fire_due()

    class Stale:
        def __getattr__(self, name: str) -> Any:
            return getattr(stores.schedules, name)

        async def due(self, now: float, limit: int) -> Any:
            return [read]

    await schedule_keeper(stores, ManualClock(START + EVERY_S), schedules=Stale()).fire_due()
    assert len(await submitted(stores)) == len(await fired(stores)) == 1


async def test_after_an_outage_the_policy_decides_and_says_so(stores: Stores) -> None:
    await create(stores, new_schedule(catch_up=CatchUp.ALL, limit=2, overlap=Overlap.ALLOW))
    await schedule_keeper(stores, ManualClock(START + 10 * EVERY_S)).fire_due()
    (skipped,) = [row for row in await stores.log.read(0, 100) if row.kind == "schedule.skipped"]
    assert skipped.data["reason"] == "missed"
    assert [due for _, due in await fired(stores)] == [START + n * EVERY_S for n in (7, 8, 9, 10)]


async def test_a_queued_run_waits_for_the_one_before(stores: Stores) -> None:
    await create(stores, new_schedule(overlap=Overlap.QUEUE))
    clock = ManualClock(START)
    for _ in range(2):
        await clock.advance(EVERY_S)
        await schedule_keeper(stores, clock).fire_due()
    first, second = await submitted(stores)
    task = await stores.tasks.get("w", second)
    assert task is not None
    assert task.rules is not None
    assert [edge.after for edge in task.rules.after] == [first]


async def test_the_earlier_run_is_cancelled_before_its_successor_starts(stores: Stores) -> None:
    await create(stores, new_schedule(overlap=Overlap.CANCEL))
    clock, cancelled = ManualClock(START + EVERY_S), list[str]()
    keeper = schedule_keeper(stores, clock, cancelled)
    await keeper.fire_due()
    await clock.advance(EVERY_S)

    async def away(request: Any) -> None:
        raise TryLater("The scheduler is away.")

    with pytest.raises(TryLater):
        await schedule_keeper(stores, clock, cancel=away).fire_due()
    assert len(await submitted(stores)) == 1
    await keeper.fire_due()
    assert cancelled == (await submitted(stores))[:1]
    assert len(await submitted(stores)) == 2


async def test_a_workspace_that_is_suspended_starts_nothing(stores: Stores) -> None:
    await create(stores, new_schedule())
    await stores.pool.execute("insert into workspaces values ('w', 'W', 'suspended', 0, 0)")
    clock = ManualClock(START + EVERY_S)
    await schedule_keeper(stores, clock).fire_due()
    assert await submitted(stores) == []
    await stores.pool.execute("update workspaces set state = 'active'")
    await schedule_keeper(stores, clock).fire_due()
    assert len(await submitted(stores)) == 1


async def test_a_schedule_that_cannot_be_stored_holds_no_other_up(stores: Stores) -> None:
    await create(stores, new_schedule("sched_bad"))
    await create(stores, new_schedule("sched_good"))

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(stores.schedules, name)

        async def change(self, changes: Any) -> None:
            if any(change.schedule.id == "sched_bad" for change in changes):
                raise Unstorable("no")
            await stores.schedules.change(changes)

    keeper = schedule_keeper(stores, ManualClock(START + EVERY_S), schedules=Refusing())
    await keeper.fire_due()
    assert len(await submitted(stores)) == 1
    assert (await keeper.status())["warnings"] == ["Schedule sched_bad cannot run; see the log of this process."]


async def test_a_change_states_the_revision_that_it_was_made_from(stores: Stores) -> None:
    from cluster.ports.schedules import ScheduleChange

    await create(stores, new_schedule())
    read = await stores.schedules.get("w", "sched_1")
    assert read is not None
    with pytest.raises(Conflict):
        await stores.schedules.change([ScheduleChange(schedule=replace(read, revision=5), records=[])])


OF_A_WORKFLOW = workflow_template("flow", None, {"items": [1]}, {"subject": "ann"})


async def _started(stores: Stores) -> list[str]:
    return [row.entity for row in await stores.log.read(0, 10_000) if row.kind == "workflow.run_started"]


async def test_a_due_run_may_be_one_of_the_newest_workflow(stores: Stores) -> None:
    await create(stores, new_schedule(template=OF_A_WORKFLOW, overlap=Overlap.ALLOW))
    for step_id in ("a", "b"):
        await apply(stores, {"id": step_id, "task": {"task_type": "work"}})
    clock = ManualClock(START + EVERY_S)
    await schedule_keeper(stores, clock).fire_due()
    ((run_id, _),) = await fired(stores)
    assert await _started(stores) == [run_id]
    run = (await stores.workflows.runs("w", [run_id]))[run_id]
    metadata = {"schedule": "sched_1", "due_at": START + EVERY_S, "subject": "ann"}
    assert (run.version, run.principal, run.metadata) == (2, "user:tester", metadata)
    assert (await stores.workflows.run_input("w", run_id))[0] == {"items": [1]}
    assert await stores.schedules.open_runs("w", [run_id, "other"]) == {run_id}
    assert await stores.schedules.has_run("w", run_id)
    await schedule_keeper(stores, clock).fire_due()
    assert await _started(stores) == [run_id]


async def test_a_workflow_that_was_deleted_skips_runs_and_says_so(stores: Stores) -> None:
    await create(stores, new_schedule(template=OF_A_WORKFLOW))
    clock = ManualClock(START + EVERY_S)
    await schedule_keeper(stores, clock).fire_due()
    (row,) = [
        row
        for row in await stores.log.read(0, 10)
        if row.kind.startswith("schedule.") and row.kind != "schedule.created"
    ]
    assert (row.kind, row.data["reason"]) == ("schedule.skipped", "no_workflow")
    schedule = await stores.schedules.get("w", "sched_1")
    assert schedule is not None
    assert (schedule.fired, schedule.last_run, schedule.runs) == (0, None, ())
    await apply(stores, {"id": "a", "task": {"task_type": "work"}})
    await clock.advance(EVERY_S)
    await schedule_keeper(stores, clock).fire_due()
    assert len(await _started(stores)) == 1


@pytest.mark.parametrize(("overlap", "runs"), [(Overlap.SKIP, 1), (Overlap.ALLOW, 2), (Overlap.CANCEL, 2)])
async def test_runs_of_workflows_overlap_as_the_policy_says(stores: Stores, overlap: Overlap, runs: int) -> None:
    await create(stores, new_schedule(template=OF_A_WORKFLOW, overlap=overlap))
    await apply(stores, {"id": "a", "task": {"task_type": "work"}})
    clock = ManualClock(START + EVERY_S)
    for _ in range(2):
        await schedule_keeper(stores, clock).fire_due()
        await clock.advance(EVERY_S)
    started = await _started(stores)
    assert len(started) == runs
    asked = [row.entity for row in await stores.log.read(0, 100) if row.kind == "workflow.run_cancel_requested"]
    assert asked == (started[:1] if overlap is Overlap.CANCEL else [])
