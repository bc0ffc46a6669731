"""Retention on a real store: what may go goes, what something refers to stays, and what is left answers."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import pytest

from cluster.domain.audit.retention import DAY_S, RULE_SET, RUN_REQUESTED, TASKS_REMOVED, RetentionRule
from cluster.domain.base.errors import Fenced, NotFound, Removed
from cluster.domain.base.log import Origin, record_for
from cluster.domain.tasks.chunks import START, NewChunks
from cluster.domain.tasks.progress import Progress, ProgressReport
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import PERSON_TYPE, PULL_CALL_TYPE, LeaseToken, TaskStatus
from cluster.domain.workflows import stored
from cluster.ports.tasks import TaskQuery, missing_task
from cluster.postgres.stores import Stores, open_stores
from tests.support.probes import eventually
from tests.support.retention import (
    KEPT_FOR_EVER,
    MONTH,
    OLD,
    YOUNG,
    Hurried,
    ended_task,
    kept,
    open_task,
    retention_keeper,
    waiting_for,
)
from tests.support.samples import ASKER, NOW
from tests.support.schedules import create, new_schedule
from tests.support.stores import StoreUrls
from tests.support.workflows import apply, start

pytestmark = pytest.mark.usefixtures("validated")


async def test_what_ended_before_the_bound_goes_and_the_rest_stays(stores: Stores) -> None:
    for n in range(5):
        await ended_task(stores, f"old{n}", OLD + n, fails=n == 0)
    await ended_task(stores, "young", YOUNG)
    await open_task(stores, "open", OLD)
    await retention_keeper(stores, batch=2).look()
    assert await kept(stores) == ["open", "young"]
    rows = [row for row in await stores.log.read(0, 100) if row.kind == "retention.tasks_removed"]
    assert sorted(task_id for row in rows for task_id in row.data["task_ids"]) == [f"old{n}" for n in range(5)]
    assert {(row.principal, row.entity) for row in rows} == {("system:retention", "w")}


async def test_what_is_younger_than_the_bounds_is_not_read(stores: Stores) -> None:
    """A pass would else read all that is kept, each time."""
    await ended_task(stores, "old", OLD)
    await ended_task(stores, "young", YOUNG)
    within = MONTH.bounds(NOW, DAY_S)[TASKS_REMOVED]
    window = await stores.retention.window("w", TASKS_REMOVED, within, None, (float("-inf"), ""), 10)
    assert (list(window.ids), window.last) == (["old"], (OLD, "old"))


async def test_a_rule_without_bounds_removes_nothing(stores: Stores) -> None:
    await ended_task(stores, "old", OLD)
    await retention_keeper(stores, KEPT_FOR_EVER).look()
    assert await kept(stores) == ["old"]


@pytest.mark.parametrize("count", [1, 3, 5])
async def test_of_the_newest_by_submit_a_number_is_kept(stores: Stores, count: int) -> None:
    for n in range(4):
        await ended_task(stores, f"t{n}", YOUNG + n)
    await retention_keeper(stores, replace(KEPT_FOR_EVER, task_count=count)).look()
    assert await kept(stores) == [f"t{n}" for n in range(max(0, 4 - count), 4)]


async def test_nothing_goes_while_its_key_is_remembered(stores: Stores) -> None:
    """Neither by age nor by number: a repeat of the submit has to find what it names."""
    await ended_task(stores, "t0", NOW - 0.9 * DAY_S, key="k")
    await ended_task(stores, "t1", NOW - 0.8 * DAY_S)
    rule = RetentionRule(task_days=0.01, task_count=1, deliberation_days=0.01, deliberation_count=1)
    await retention_keeper(stores, rule).look()
    assert await kept(stores) == ["t0", "t1"]
    await retention_keeper(stores, rule, Hurried(NOW + DAY_S)).look()
    assert await kept(stores) == []


async def test_a_result_can_be_read_for_as_long_as_a_key_lasts(stores: Stores) -> None:
    """A task that waited for weeks and has ended just now stays, although its submit is one of the oldest."""
    await open_task(stores, "late", OLD)
    await ended_task(stores, "young", YOUNG)
    await stores.pool.execute("update tasks set status = 'completed', completed_at = $1 where id = 'late'", NOW - 60)
    await retention_keeper(stores, replace(KEPT_FOR_EVER, task_count=1)).look()
    assert await kept(stores) == ["late", "young"]


async def test_what_open_work_or_a_schedule_names_stays(stores: Stores) -> None:
    for task_id in ("before", "last", "run", "other"):
        await ended_task(stores, task_id, OLD)
    await open_task(stores, "after", YOUNG, **waiting_for("before"))
    await create(stores, replace(new_schedule(), last_run="last", runs=("run",)))
    await retention_keeper(stores).look()
    assert await kept(stores) == ["after", "before", "last", "run"]


async def test_a_run_of_a_workflow_that_a_schedule_names_stays(stores: Stores) -> None:
    workflow = await apply(stores, {"id": "a", "task": {}})
    for run_id in ("wfrun_last", "wfrun_listed", "wfrun_other"):
        await start(stores, workflow, run_id=run_id)
    await stores.pool.execute("update workflow_runs set status = 'completed', created_at = $1, ended_at = $1", OLD)
    await create(stores, replace(new_schedule(), last_run="wfrun_last", runs=("wfrun_listed",)))
    await retention_keeper(stores).look()
    rows = await stores.pool.rows("select id from workflow_runs order by id")
    assert [row["id"] for row in rows] == ["wfrun_last", "wfrun_listed"]


async def test_children_of_an_open_task_stay_until_it_has_ended(stores: Stores) -> None:
    await open_task(stores, "parent", OLD)
    await ended_task(stores, "done", OLD)
    for parent in ("parent", "done"):
        await ended_task(stores, f"child of {parent}", OLD + 1, rules=TaskRules(parent=parent, depth=1))
    await retention_keeper(stores).look()
    assert await kept(stores) == ["child of parent", "parent"]


async def test_tasks_of_an_open_run_stay(stores: Stores) -> None:
    """Its later steps take their inputs from them."""
    run_id = await start(stores, await apply(stores, {"id": "a", "task": {}}))
    step_id = stored.task_id(run_id, "a", 0)
    await ended_task(stores, step_id, OLD)
    await retention_keeper(stores).look()
    assert await kept(stores) == [step_id]
    await stores.pool.execute("update workflow_runs set ended_at = $1, status = 'completed'", NOW)
    await retention_keeper(stores).look()
    assert await kept(stores) == []


async def test_calls_of_an_open_deliberation_stay(stores: Stores) -> None:
    await stores.pool.execute(
        """insert into deliberations (request_id, task_id, workspace, principal, admitted_at, deadline_at, contract,
               contract_digest, mode, state)
           values ('d', 'd', 'w', 'p', $1, $1, '{}', '', 'async', 'ADMITTED')""",
        OLD,
    )
    await ended_task(stores, "call", OLD + 1, task_type=PULL_CALL_TYPE)
    await ended_task(stores, "earlier", OLD - 1, task_type=PULL_CALL_TYPE)
    await ended_task(stores, "person", OLD + 2, task_type=PERSON_TYPE)
    await retention_keeper(stores).look()
    assert await kept(stores) == ["call", "person"]


async def test_all_that_a_task_has_goes_with_it_and_the_audit_stays(stores: Stores) -> None:
    await open_task(stores, "t", OLD, metadata={"name": "secret"}, rules=TaskRules(tenant="secret"))
    fence = await stores.tasks.take_generation("main", "test")
    await stores.pool.execute("update tasks set status = 'running', attempt = 1, assigned_agent = 'a1' where id = 't'")
    progress = Progress(message="secret", checkpoint_json='"secret"')
    report = ProgressReport(workspace="w", task_id="t", attempt=1, at=OLD, progress=progress)
    await stores.tasks.store_progress(fence, [report])
    token = LeaseToken(task_id="t", attempt=1, agent_id="a1")
    await stores.chunks.write([NewChunks(workspace="w", token=token, first=1, contents=['"secret"'], at=OLD)])
    await stores.pool.execute(
        "update tasks set status = 'failed', error = 'secret', completed_at = created_at, status_detail = 'dead_lettered'"
    )
    await stores.log.append([record_for(ASKER, OLD, "task.failed", "t", {}, {"error": "secret"})])
    before = [row.digest for row in await stores.log.read(0, 100)]
    await retention_keeper(stores).look()
    for table in ("tasks", "task_terms", "task_progress", "task_chunks", "task_chunk_totals"):
        assert await stores.pool.value(f"select count(*) from {table}") == 0, table
    rows = await stores.log.read(0, 100)
    assert [row.digest for row in rows][: len(before)] == before
    assert all(row.private_json is None for row in rows)
    assert await stores.chunks.read("w", "t", START, 10) is None


async def test_a_removed_task_answers_with_how_it_ended(stores: Stores) -> None:
    await ended_task(stores, "t", OLD, fails=True)
    await retention_keeper(stores).look()
    assert await stores.tasks.get("w", "t") is None
    assert await stores.tasks.statuses("w", ["t", "none"]) == {"t": TaskStatus.FAILED}
    assert await stores.tasks.statuses("other", ["t"]) == {}
    error = await missing_task(stores.tasks, "w", "t")
    assert (type(error), error.status, error.code) == (Removed, 410, "task_removed")
    assert "ended as failed" in error.message
    assert type(await missing_task(stores.tasks, "other", "t")) is NotFound
    tasks, total = await stores.tasks.list(TaskQuery(workspace="w"))
    assert (tasks, total.entries) == ([], 0)


async def test_a_workspaces_own_rule_counts_before_the_default(stores: Stores) -> None:
    other = Origin(workspace="other")
    await ended_task(stores, "mine", OLD)
    await ended_task(stores, "theirs", OLD, origin=other)
    await stores.retention.set_rule("other", {"task_days": 60}, record_for(other, NOW, RULE_SET, "other"))
    await retention_keeper(stores).look()
    assert await kept(stores) == ["theirs"]


async def test_a_requested_run_does_not_wait_for_the_next_pass(stores: Stores) -> None:
    clock = Hurried(NOW)
    keeper = retention_keeper(stores, clock=clock)
    await keeper.look()
    await ended_task(stores, "old", OLD)
    await keeper.look()
    assert await kept(stores) == ["old"]
    await stores.retention.request_run("w", NOW, record_for(ASKER, NOW, RUN_REQUESTED, "w"))
    assert (await stores.retention.state("w")).is_requested
    await keeper.look()
    assert await kept(stores) == []
    state = await stores.retention.state("w")
    assert state.last is not None
    assert (state.is_requested, state.last.tasks) == (False, 1)
    assert await stores.retention.requested() == []


async def test_a_region_that_is_not_primary_removes_nothing(stores: Stores) -> None:
    await ended_task(stores, "old", OLD)
    await stores.region.raise_epoch("another")
    await stores.pool.execute("update region_state set role = 'secondary'")
    await retention_keeper(stores).look()
    assert await kept(stores) == ["old"]


@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_kill_at_a_commit_leaves_each_task_whole_or_removed(
    stores: Stores, store_urls: StoreUrls, schema: str, point: str
) -> None:
    for n in range(6):
        await ended_task(stores, f"old{n}", OLD + n)
    command = [
        sys.executable,
        "-m",
        "tests.support.retention_process",
        store_urls.database,
        schema,
        "test-region",
        point,
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"stopped\n"
    process.kill()
    await process.wait()
    there = await kept(stores)
    assert len(there) == (4 if point == "before" else 2)
    stubs = [row["id"] for row in await stores.pool.rows("select id from task_stubs")]
    assert sorted([*there, *stubs]) == [f"old{n}" for n in range(6)]
    await retention_keeper(stores).look()
    assert await kept(stores) == []


async def test_two_at_once_remove_each_task_once(stores: Stores, store_urls: StoreUrls, schema: str) -> None:
    for n in range(12):
        await ended_task(stores, f"old{n:02}", OLD + n)
    other = await open_stores(store_urls.database, schema, "test-region", max_connections=2)
    await asyncio.gather(*(retention_keeper(some, batch=2).look() for some in (stores, other)))
    await other.close()
    assert await kept(stores) == []
    assert await stores.pool.value("select count(*) from task_stubs") == 12


async def test_a_writer_of_an_earlier_epoch_is_refused(stores: Stores, store_urls: StoreUrls, schema: str) -> None:
    await ended_task(stores, "old", OLD)
    record = record_for(ASKER, NOW, "retention.tasks_removed", "w", {"task_ids": ["old"]})
    other = await open_stores(store_urls.database, schema, "test-region", max_connections=2)
    await other.region.raise_epoch("another")
    await other.close()
    with pytest.raises(Fenced):
        await stores.retention.remove("retention.tasks_removed", record)
    assert await kept(stores) == ["old"]


async def test_the_loop_goes_on_until_it_is_stopped(stores: Stores) -> None:
    await ended_task(stores, "old", OLD)
    keeper = retention_keeper(stores, MONTH)
    await keeper.start()

    async def removed() -> bool:
        return await kept(stores) == []

    await eventually(removed)
    assert (await keeper.status())["serving"]
    await keeper.stop()


async def test_deliberations_go_with_their_journals_by_age_and_number(stores: Stores) -> None:
    insert = """
        with d as (
            insert into deliberations (request_id, task_id, workspace, principal, admitted_at, deadline_at, contract,
                contract_digest, mode, state, terminal, completed_at)
            values ($1, $1, 'w', 'p', $2, $2, '{}', '', 'async', 'DONE', $3, $4))
        insert into deliberation_events (request_id, n, at, kind, data) values ($1, 1, $2, 'answered', '{}')
    """
    for request_id, at, terminal in (
        *(("old", OLD, "DECIDED"), ("open", OLD, None), ("run", OLD, "DECIDED")),
        *(("d1", YOUNG, "DECIDED"), ("d2", YOUNG + 1, "DECIDED")),
    ):
        await stores.pool.execute(insert, request_id, at, terminal, None if terminal is None else at + 1)
    await create(stores, replace(new_schedule(), last_run="run"))

    async def there() -> list[str]:
        rows = await stores.pool.rows("select request_id, n from deliberation_events order by 1")
        found = [row["request_id"] for row in rows]
        assert found == [
            row["request_id"] for row in await stores.pool.rows("select request_id from deliberations order by 1")
        ]
        return found

    await retention_keeper(stores).look()
    assert await there() == ["d1", "d2", "open", "run"]
    await retention_keeper(stores, replace(KEPT_FOR_EVER, deliberation_count=1)).look()
    assert await there() == ["d2", "open", "run"]
    stub = await stores.deliberations.stub("w", "old")
    assert stub is not None
    assert (stub.status, stub.removed_at >= NOW) == ("DECIDED", True)
    assert await stores.deliberations.stub("other", "old") is None


async def test_another_region_deletes_what_it_alone_has_of_them(stores: Stores) -> None:
    """Its own chunks, and the words of rows that it had before, when it applies the rows that name what is removed."""
    for task_id in ("t", "other"):
        await ended_task(stores, task_id, OLD if task_id == "t" else YOUNG)
        await stores.pool.execute("insert into task_chunks values ($1, 1, 1, 0, 1, '1')", task_id)
    await retention_keeper(stores).look()
    await stores.pool.execute("insert into task_chunks values ('t', 1, 1, 0, 1, '1')")
    await stores.pool.execute("update log set private = '{}' where entity in ('t', 'other')")
    await stores.pool.execute("select follow_erasures(0)")
    assert [row["task_id"] for row in await stores.pool.rows("select task_id from task_chunks")] == ["other"]
    worded = await stores.pool.rows("select distinct entity from log where private is not null")
    assert [row["entity"] for row in worded] == ["other"]
