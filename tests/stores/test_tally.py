"""The tally of tasks is what ``group by`` gives, whatever happened, restarted or was deleted, and reads no ended tasks."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.base.log import Origin, record_for
from cluster.domain.tasks.events import CancelRequested, Claim, Complete, Fail, QueueTimedOut, Reporter, RunTimedOut
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.tally import KINDS
from cluster.domain.tasks.task import OTHER_TYPES, Priority, TaskHead
from cluster.log.task_tally import TaskTally
from cluster.ports.operations import Replay
from cluster.ports.tasks import ShardFence, SubmitItem, TaskQuery
from cluster.ports.totals import EXACT_TO
from cluster.postgres.migrate import migrate, shipped
from cluster.postgres.queries import queries
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from tests.support.samples import NOW, new_task
from tests.support.stores import StoreUrls, fresh_name

POLICY = RetryPolicy()
BY = Reporter(principal="p", agent_id="a1", attempt=1)
_numbers = itertools.count(1)

ENDS: dict[str, Any] = {
    "complete": Complete(by=BY),
    "fail": Fail(by=BY, error="no"),
    "refuse": Fail(by=BY, error="no", requeue=False),
    "cancel": CancelRequested(principal="p"),
    "queue time": QueueTimedOut(),
    "run time": RunTimedOut(),
}
#: Ends of a task that an agent has in hand; the others are of a task that waits.
IN_HAND = ("complete", "fail", "refuse", "run time")
REPLICAS = 2
#: Few, so that most histories have more.
TYPES_KEPT = 3
TYPES = "abcdefg"


def tally_of(stores: Stores, **options: Any) -> TaskTally:
    return TaskTally(stores.tally, SystemClock(), wait_s=30.0, **options)


@dataclass
class History:
    """Two replicas' tallies beside the tasks of workspaces that only this history has."""

    stores: Stores
    fence: ShardFence
    now: float = NOW
    tallies: list[TaskTally] = field(default_factory=list)
    workspaces: tuple[str, ...] = ()
    heads: list[TaskHead] = field(default_factory=list)
    #: (workspace, at, seconds) of claims and completions.
    waits: list[tuple[str, float, float]] = field(default_factory=list)
    runs: list[tuple[str, float, float]] = field(default_factory=list)
    #: (workspace, type) of tasks that ended, in the order of the log.
    ended: list[tuple[str, str]] = field(default_factory=list)

    async def begin(self) -> None:
        self.workspaces = tuple(f"w{next(_numbers)}" for _ in range(2))
        for _ in range(REPLICAS):
            self.tallies.append(tally_of(self.stores, batch=3, save_rows=4, types_kept=TYPES_KEPT))
            await self.tallies[-1].load()

    async def submit(self, where: int, task_type: str, priority: Priority) -> None:
        origin = Origin(workspace=self.workspaces[where], principal="p")
        task = new_task(
            id=f"tally_{next(_numbers)}", origin=origin, task_type=task_type, priority=priority, max_retries=0,
            created_at=self.now,
        )  # fmt: skip
        await self.stores.tasks.submit([SubmitItem(task=task)])
        self.heads.append(task.head())

    async def claim(self, which: int) -> None:
        await self.decide(which, "pending", Claim(agent_id="a1", claim_id="c", principal="p"))

    async def end(self, which: int, how: str) -> None:
        status = "running" if how in IN_HAND else "pending"
        await self.decide(which, status, ENDS[how])

    async def decide(self, which: int, status: str, event: Any) -> None:
        """Applies an event to one of the tasks of a status."""
        fitting = [n for n, head in enumerate(self.heads) if head.status == status]
        if not fitting:
            return
        old = self.heads[fitting[which % len(fitting)]]
        done = step(old, event, self.now, POLICY)
        assert done.decision is not None
        assert (await self.stores.tasks.decide(self.fence, [done.decision]))[0].applied
        self.heads[self.heads.index(old)] = done.head
        if done.head.status.terminal:
            self.ended.append((old.workspace, old.task_type))
        if isinstance(event, Claim):
            self.waits.append((old.workspace, self.now, self.now - old.run_at))
        if isinstance(event, Complete):
            assert old.started_at is not None
            self.runs.append((old.workspace, self.now, self.now - old.started_at))

    async def live(self, where: int, task_type: str, priority: Priority, how: str) -> None:
        """A task that ends in a given way: by chance alone, few histories have all ways in them."""
        await self.submit(where, task_type, priority)
        head = self.heads[-1]
        pending = [task for task in self.heads if task.status == "pending"]
        if how in IN_HAND:
            await self.claim(pending.index(head))
            running = [task for task in self.heads if task.status == "running"]
            await self.end(next(n for n, task in enumerate(running) if task.id == head.id), how)
        else:
            await self.end(pending.index(head), how)

    async def replay(self, which: int) -> None:
        """Submits a dead task again, as a task of its own, and removes it from the dead letter."""
        dead = [head for head in self.heads if head.detail == "dead_lettered"]
        if not dead:
            return
        old = dead[which % len(dead)]
        origin = Origin(workspace=old.workspace, principal="p")
        new = new_task(
            id=f"tally_{next(_numbers)}", origin=origin, task_type=old.task_type, priority=Priority(old.priority),
            max_retries=0, created_at=self.now, replay_of=old.id,
        )  # fmt: skip
        record = record_for(origin, self.now, "task.replayed", old.id, {"task_id": old.id, "replayed_as": new.id})
        (made,) = await self.stores.dead_letters.replay([Replay(of=old.id, task=new, new_payload=False, record=record)])
        if made == new.id:
            self.heads.append(new.head())
        purged = record_for(origin, self.now, "task.purged", old.id, {"task_id": old.id})
        await self.stores.dead_letters.purge(old.workspace, [old.id], [purged])

    async def restart(self, which: int) -> None:
        """Kill -9 of a replica: what it had not stored is lost."""
        self.tallies[which] = tally_of(self.stores, batch=3, save_rows=4, types_kept=TYPES_KEPT)
        await self.tallies[which].load()

    async def save(self, which: int) -> None:
        await self.tallies[which].save()

    async def prune(self) -> None:
        """Deletes the log up to what every replica can begin from. The last row stays, since it has the last number."""
        await self.stores.pool.execute(
            "delete from log where seq < least((select max(seq) from log), "
            "(select cursor from telemetry where name = 'tasks'), $1)",
            min(tally.cursor for tally in self.tallies),
        )

    async def tick(self, seconds: float) -> None:
        self.now += seconds

    async def check(self, which: int) -> None:
        for workspace in self.workspaces:
            rows = await self.stores.pool.rows(
                "select status, task_type, priority, completed_at from tasks where workspace = $1", workspace
            )
            counts = await self.tallies[which].counts(workspace)
            assert counts["total"] == len(rows)
            values = [row["status"] for row in rows]
            assert counts["by_status"] == {value: values.count(value) for value in set(values)}
            assert counts["by_type"] == self.by_type(workspace, rows)
            waiting = [Priority(row["priority"]).wire_name for row in rows if row["status"] == "pending"]
            assert counts["by_priority"] == {name: waiting.count(name) for name in set(waiting)}
            assert await self.tallies[which].queue_metrics(workspace, self.now) == pytest.approx(
                self.metrics(workspace, rows), abs=1e-6
            )

    def by_type(self, workspace: str, rows: Any) -> dict[str, int]:
        """The types that ended first, then the most frequent of the open ones while there is room; the rest is one."""
        named = list(dict.fromkeys(name for where, name in self.ended if where == workspace))[:TYPES_KEPT]
        waiting = Counter(row["task_type"] for row in rows if row["status"] in ("pending", "running"))
        others = sorted(set(waiting) - set(named), key=lambda name: (-waiting[name], name))
        named += others[: TYPES_KEPT - len(named)]
        return dict(Counter(row["task_type"] if row["task_type"] in named else OTHER_TYPES for row in rows))

    def metrics(self, workspace: str, rows: Any) -> dict[str, float]:
        midnight = self.now - self.now % 86_400
        today = [row["status"] for row in rows if (row["completed_at"] or 0) >= midnight]
        hour_ago = self.now // 60 * 60 - 3600
        waits = [took for where, at, took in self.waits if where == workspace and at >= hour_ago]
        runs = [took for where, at, took in self.runs if where == workspace and at >= hour_ago]
        statuses = [row["status"] for row in rows]
        return {
            "pending": statuses.count("pending"),
            "running": statuses.count("running"),
            "completed_today": today.count("completed"),
            "failed_today": today.count("failed") + today.count("timeout"),
            "avg_wait_time_ms": sum(waits) / len(waits) * 1000 if waits else 0.0,
            "avg_execution_time_ms": sum(runs) / len(runs) * 1000 if runs else 0.0,
            "throughput_per_minute": len(
                [at for where, at, _ in self.runs if where == workspace and at >= self.now - 60]
            ),
        }


@dataclass
class Ground:
    """One loop and one schema for all examples of a test."""

    runner: asyncio.Runner
    stores: Stores

    async def live(self, steps: list[tuple[Any, ...]]) -> None:
        history = History(self.stores, await self.stores.tasks.take_generation("s", "test"))
        await history.begin()
        for name, *arguments in steps:
            await getattr(history, name)(*arguments)
        for which in range(REPLICAS):
            await history.check(which)
            await history.restart(which)
            await history.check(which)
            await history.save(which)
            await history.restart(which)
            await history.check(which)


@pytest.fixture(scope="module")
def ground(shared_stores: StoreUrls) -> Iterator[Ground]:
    with asyncio.Runner() as runner:
        name = fresh_name()
        runner.run(migrate(shared_stores.database, name))
        stores = runner.run(open_stores(shared_stores.database, name, "test-region"))
        yield Ground(runner, stores)
        runner.run(stores.close())


which = st.integers(0, 9)
replica = st.integers(0, REPLICAS - 1)
change = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 1), st.sampled_from(TYPES), st.sampled_from(Priority)),
    *[
        st.tuples(st.just("live"), st.integers(0, 1), st.sampled_from(TYPES), st.sampled_from(Priority), st.just(how))
        for how in sorted(ENDS)
    ],
    st.tuples(st.just("claim"), which),
    st.tuples(st.just("end"), which, st.sampled_from(sorted(ENDS))),
    st.tuples(st.just("replay"), which),
    st.tuples(st.just("restart"), replica),
    st.tuples(st.just("save"), replica),
    st.tuples(st.just("prune")),
    st.tuples(st.just("tick"), st.sampled_from((0.5, 1.0, 59.0, 3541.0, 86_400.0))),
    st.tuples(st.just("check"), replica),
)


@settings(
    max_examples=40,
    phases=(Phase.explicit, Phase.generate),  # a history is short enough to read; shrinking it takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(change, min_size=8, max_size=40))
def test_the_tally_is_what_group_by_gives(ground: Ground, steps: list[tuple[Any, ...]]) -> None:
    ground.runner.run(ground.live(steps))


async def _old_tasks(stores: Stores, count: int, status: str = "completed") -> None:
    await stores.pool.execute(
        """
        insert into tasks (id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries,
            max_retries, timeout_s, created_at, run_at, principal, region_routing_mode, origin_region, fallback_regions,
            required_capabilities, payload, metadata, started_at, completed_at)
        select 'old' || n, 'w', 0, 'default', 'echo', 50, $2, $2, 1, 0, 0, 300, $3::float8 + n, $3::float8 + n, 'p', 'any',
               'r', '[]', '[]', '{}', '{}', $3::float8 + n, $3::float8 + n
        from generate_series(1, $1) as n
        """,
        count,
        status,
        NOW,
    )  # fmt: skip
    await stores.pool.execute("analyze tasks")


async def test_tasks_that_ended_under_earlier_builds_are_counted(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema, [migration for migration in shipped() if migration.version < 7])
    stores = await open_stores(store_urls.database, schema, "test-region")
    try:
        await _old_tasks(stores, 3)
        open_task = new_task()
        await stores.tasks.submit([SubmitItem(task=open_task)])
        await migrate(store_urls.database, schema)
        tally = tally_of(stores)
        await tally.load()
        assert tally.cursor == 1
        assert (await tally.counts("w"))["by_status"] == {"completed": 3, "pending": 1}
    finally:
        await stores.close()


async def test_new_types_without_end_grow_no_answer_and_no_fold(stores: Stores) -> None:
    """Open and ended ones. The answers of a replica that read every row and of one that began with the stored fold are equal."""
    fence = await stores.tasks.take_generation("s", "test")
    tasks = [new_task(task_type=f"type-{n % 40}", created_at=NOW + n) for n in range(80)]
    await stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    first, second = (tally_of(stores, types_kept=5, save_rows=1) for _ in range(2))
    for task in tasks[:40]:
        end = step(task.head(), CancelRequested(principal="p"), NOW, POLICY).decision
        assert end is not None
        await stores.tasks.decide(fence, [end])
        await first.counts("w")
        await first.save()
    counts = await first.counts("w")
    await second.load()
    assert await second.counts("w") == counts
    assert counts["by_type"] == {**{f"type-{n}": 2 for n in range(5)}, OTHER_TYPES: 70}
    assert counts["total"] == 80
    _, stored = await stores.tally.load()
    assert len(stored["ended"]) == 6


#: Tuples of tasks that this connection has read and not reported yet.
TUPLES_READ = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'tasks'::regclass"


async def test_what_is_asked_often_reads_no_ended_tasks(stores: Stores) -> None:
    """Tuples that the statements read in one transaction, which PostgreSQL counts exactly."""
    await _old_tasks(stores, 5000)
    await stores.tasks.submit([SubmitItem(task=new_task(created_at=NOW + 10_000))])
    sql = {**queries("tasks"), **queries("tally")}
    asked: dict[str, tuple[Any, ...]] = {
        "tally_page": (0, list(KINDS), 100, "w", [], 256, OTHER_TYPES),
        "waiting_tasks": (),
    }
    read = {}
    for name, arguments in asked.items():
        async with stores.pool.snapshot() as connection:
            before = await connection.fetchval(TUPLES_READ)
            await connection.fetch(sql[name], *arguments)
            read[name] = await connection.fetchval(TUPLES_READ) - before
    assert read == {"tally_page": 1, "waiting_tasks": 1}


@pytest.mark.parametrize(("entries", "exact"), [(EXACT_TO, True), (EXACT_TO + 1, False), (5 * EXACT_TO, False)])
async def test_a_total_is_exact_up_to_a_bound(stores: Stores, entries: int, exact: bool) -> None:
    await _old_tasks(stores, entries)
    for query in (TaskQuery(workspace="w"), TaskQuery(workspace="w", task_type="echo")):
        _, total = await stores.tasks.list(query)
        assert (total.exact, total.entries) == (exact, pytest.approx(entries, rel=0.1))
    _, none = await stores.tasks.list(replace(query, queue="other"))
    assert (none.entries, none.exact) == (0, True)


async def test_an_answer_waits_for_the_end_of_the_log_within_a_bound(stores: Stores) -> None:
    """Nothing is answered while rows are missing: a partial count would be wrong."""
    tasks = [new_task(created_at=NOW + n) for n in range(3)]
    await stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    tally = TaskTally(stores.tally, SystemClock(), wait_s=0.2)
    await tally.load()
    async with tally._reading:  # a read that hangs
        with pytest.raises(StoreUnavailable, match="still being counted"):
            await tally.counts("w")
    assert (await tally.counts("w"))["total"] == 3


def test_every_end_of_a_task_is_counted(ground: Ground) -> None:
    waits: list[tuple[Any, ...]] = [("submit", 0, "a", Priority.HIGH)]
    for how in ENDS:
        ground.runner.run(ground.live([*waits, ("claim", 0), ("end", 0, how), ("check", 1), ("replay", 0)]))
        ground.runner.run(ground.live([*waits, ("end", 0, how), ("check", 0)]))
