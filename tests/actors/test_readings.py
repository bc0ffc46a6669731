"""What is measured beside the answers to Prometheus is what the database has, and is not shown when it is old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.keeper import Keeper
from actors.readings import EVERY_S, SHOWN_S, Readings
from cluster.domain.base.errors import ActorUnavailable, StoreUnavailable
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.budgets.budget import CREATED, Period, window_of
from cluster.domain.metrics import Labels
from cluster.ports.readings import ReadingStore
from cluster.ports.tasks import SubmitItem
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.actors.test_pushes import new_push
from tests.support.budgets import a_budget
from tests.support.notifications import (
    KEY,
    ORIGIN,
    SEALING,
    happens,
    keeping,
    new_channel,
    new_rule,
    put_channel,
    put_rule,
    queue_all,
    receiver,
    send_all,
    set_credential,
)
from tests.support.retention import ended_task
from tests.support.samples import ASKER, NOW, new_task
from tests.support.workflows import apply, settle, start, task, workflow_keeper

ALONE = {"region": "r", "leader": True, "fence": 1, "epoch": 3}


class Shown:
    """The gauges of readings of a real store, at a time that the test sets."""

    def __init__(self, store: ReadingStore, region: Mapping[str, Any] | None = None) -> None:
        self.gauges: dict[str, Mapping[Labels, float]] = {}
        self.clock = ManualClock(NOW)
        self.region = region
        self.readings = Readings(
            store=store,
            followers={"sealer": self._sealer, "scheduler": self._away},
            region=self._region,
            show=self.gauges.__setitem__,
            clock=self.clock,
        )

    async def measure(self) -> Mapping[str, Mapping[Labels, float]]:
        await self.readings.measure()
        return self.gauges

    async def _sealer(self) -> Mapping[str, Any]:
        return {"serving": True, "log_lag_s": {"workflows": 2.0, "notifications": 3.0}}

    async def _away(self) -> Mapping[str, Any]:
        raise ActorUnavailable("it restarts")

    async def _region(self) -> Mapping[str, Any]:
        if self.region is None:
            raise ActorUnavailable("it restarts")
        return self.region


class Away:
    """A store that can be away."""

    def __init__(self, store: ReadingStore) -> None:
        self._store = store
        self.is_away = False

    async def read(self, now: float) -> Mapping[str, Mapping[Labels, float]]:
        if self.is_away:
            raise StoreUnavailable("away")
        return await self._store.read(now)


async def test_queues_are_measured_by_what_could_start(stores: Stores) -> None:
    tasks = [
        new_task(queue="a", created_at=NOW - 100),
        new_task(queue="a", created_at=NOW - 50),
        new_task(queue="a", created_at=NOW - 900, run_at=NOW + 60),
        new_task(queue="b", created_at=NOW - 500, run_at=NOW + 60),
        new_task(queue="a", created_at=NOW - 70, origin=Origin(workspace="other", principal="user:x")),
    ]
    await stores.tasks.submit([SubmitItem(task=each) for each in tasks])
    gauges = await Shown(stores.readings).measure()
    assert gauges["aragora_cp_queue_depth"] == {("a",): 4.0, ("b",): 1.0}
    assert gauges["aragora_cp_queue_oldest_seconds"] == {("a",): 100.0, ("b",): 0.0}


async def test_dead_letters_are_counted_until_they_are_removed(stores: Stores) -> None:
    shown = Shown(stores.readings)
    assert (await shown.measure())["aragora_cp_dead_letters"] == {(): 0.0}
    await ended_task(stores, "t1", NOW - 50, fails=True, max_retries=0)
    await ended_task(stores, "t2", NOW - 50)
    await stores.pool.execute("update tasks set status_detail = 'dead_lettered' where id = 't1'")
    assert (await shown.measure())["aragora_cp_dead_letters"] == {(): 1.0}


async def test_a_breaker_is_open_until_its_time_is_over(stores: Stores) -> None:
    insert = "insert into breakers values ('w', $1, 'a1', $2, 3, 30, 3, 0, null, $3)"
    for name, state, changed_at in (("x", "open", NOW - 10), ("y", "open", NOW - 40), ("z", "closed", NOW)):
        await stores.pool.execute(insert, name, state, changed_at)
    gauges = await Shown(stores.readings).measure()
    assert gauges["aragora_cp_breakers"] == {("open",): 1.0, ("half_open",): 1.0, ("closed",): 1.0}


async def test_a_run_is_stalled_since_it_moved_or_should_have(stores: Stores) -> None:
    await start(stores, await apply(stores, {"id": "s", "task": task()}))
    shown = Shown(stores.readings)

    async def stalled(changed_at: float, due_at: float | None) -> float:
        await stores.pool.execute("update workflow_runs set changed_at = $1, due_at = $2", changed_at, due_at)
        gauges = await shown.measure()
        assert gauges["aragora_cp_workflow_runs_open"] == {(): 1.0}
        return gauges["aragora_cp_workflow_stalled_seconds"][()]

    assert await stalled(NOW - 300, None) == 300
    assert await stalled(NOW - 300, NOW - 100) == 100
    assert await stalled(NOW - 300, NOW + 100) == 0


async def test_a_budget_is_used_up_in_its_own_period(stores: Stores) -> None:
    for budget in (a_budget(id="day", period=Period.DAY), a_budget(id="month", period=Period.MONTH)):
        await stores.budgets.create(budget, budget.record(ASKER, NOW, CREATED), None)
    shown = Shown(stores.readings)

    async def told(budget: str, start: float, level: int) -> float:
        await stores.pool.execute(
            "insert into budget_levels select id, $2, limit_nanos, $3, workspace, $2 from budgets where id = $1",
            budget, start, level,
        )  # fmt: skip
        return (await shown.measure())["aragora_cp_budgets_used_up"][()]

    day, month = (window_of(period, NOW).start for period in (Period.DAY, Period.MONTH))
    assert await told("day", day, 90) == 0
    assert await told("day", day - 86_400, 100) == 0, "yesterday"
    assert await told("day", day, 100) == 1
    assert await told("month", month, 100) == 2


async def test_tables_and_retention_are_measured(stores: Stores) -> None:
    shown = Shown(stores.readings)
    gauges = await shown.measure()
    assert gauges["aragora_cp_table_bytes"][("log",)] > 0
    assert gauges["aragora_cp_retention_pass_age_seconds"] == {}, "there was none"
    await stores.pool.execute("insert into retention_passes values ('w', $1, null, 0, 0, 0)", NOW - 30)
    assert (await shown.measure())["aragora_cp_retention_pass_age_seconds"] == {(): 30.0}


async def test_rows_that_a_stored_cursor_has_not_passed_are_counted(stores: Stores) -> None:
    shown = Shown(stores.readings)
    await start(stores, await apply(stores, {"id": "s", "task": task()}))
    last = await stores.log.head()
    region = await stores.pool.value("select region from region_state")
    await stores.pool.execute("insert into telemetry values ('t', $1, '{}')", last)
    await stores.pool.execute("update telemetry set cursor = $1", last)
    await stores.pool.execute(
        "insert into workflow_cursors (region, epoch, seq) select region, epoch, $2 from region_state where region = $1 "
        "on conflict (region) do update set seq = excluded.seq",
        region,
        last - 1,
    )
    gauges = await shown.measure()
    assert gauges["aragora_cp_log_unread_rows"] == {("counts",): 0.0, ("workflows",): 1.0}
    await stores.pool.execute("update workflow_cursors set epoch = epoch + 1")
    assert (await shown.measure())["aragora_cp_log_unread_rows"] == {("counts",): 0.0}, "it begins anew"


async def test_a_region_without_peers_has_its_epoch_only(stores: Stores) -> None:
    gauges = await Shown(stores.readings, ALONE).measure()
    assert gauges["aragora_cp_region_epoch"] == {(): 3.0}
    assert gauges["aragora_cp_region_primary"] == {(): 1.0}
    assert not {"aragora_cp_region_in_sync", "aragora_cp_replication_lag_rows"} & gauges.keys()


async def test_a_region_with_peers_has_its_lag(stores: Stores) -> None:
    """The statuses are those of `regions.operator.Operator`."""
    shown = Shown(stores.readings, {"epoch": 4, "role": "primary", "in_sync": ["a"], "lag": {"b": {"rows": 17}}})
    gauges = await shown.measure()
    assert gauges["aragora_cp_region_in_sync"] == {(): 1.0}
    assert gauges["aragora_cp_replication_lag_rows"] == {("b",): 17.0}
    assert gauges["aragora_cp_replication_silent_seconds"] == {}
    shown.region = {"epoch": 4, "role": "secondary", "lag": {"b": {"silent_s": 0.5, "stale": False}}}
    gauges = await shown.measure()
    assert gauges["aragora_cp_region_primary"] == {(): 0.0}
    assert gauges["aragora_cp_replication_lag_rows"] == {}
    assert gauges["aragora_cp_replication_silent_seconds"] == {(): 0.5}


async def test_followers_that_answer_are_shown(stores: Stores) -> None:
    shown = Shown(stores.readings)
    await shown.measure()
    assert shown.readings.log_lags == {("workflows",): 2.0, ("notifications",): 3.0}


async def test_what_cannot_be_measured_is_shown_for_a_while(stores: Stores) -> None:
    store = Away(stores.readings)
    shown = Shown(store, ALONE)
    await shown.measure()
    store.is_away, shown.region = True, None
    await shown.clock.advance(SHOWN_S - EVERY_S)
    before = dict(await shown.measure())
    assert before["aragora_cp_dead_letters"] == {(): 0.0}
    assert before["aragora_cp_region_epoch"] == {(): 3.0}
    await shown.clock.advance(2 * EVERY_S)
    assert not any((await shown.measure()).values())
    store.is_away = False
    assert (await shown.measure())["aragora_cp_dead_letters"] == {(): 0.0}


async def test_keepers_say_how_long_ago_they_had_read_all(stores: Stores) -> None:
    clock = ManualClock(NOW)
    workflows = workflow_keeper(stores, clock=clock)
    async with keeping(stores, clock) as notifications:
        keeper = Keeper(workflows, notifications)
        await clock.advance(7)
        assert (await keeper.status())["log_lag_s"] == {"workflows": 7.0, "notifications": 7.0}
        await settle(workflows)
        assert (await keeper.status())["log_lag_s"] == {"workflows": 0.0, "notifications": 7.0}
        await queue_all(notifications)
        assert (await keeper.status())["log_lag_s"] == {"workflows": 0.0, "notifications": 0.0}


async def test_notifications_that_wait_and_that_were_given_up_are_counted(stores: Stores) -> None:
    shown = Shown(stores.readings)
    async with receiver() as it, keeping(stores, shown.clock) as keeper:
        await set_credential(stores, KEY)
        await put_channel(stores, new_channel(url=it.url))
        await put_rule(stores, new_rule())
        await queue_all(keeper)
        await stores.pushes(SEALING).put(new_push(it.url), _push_record())
        await happens(stores, "task_1", "task.failed")
        await queue_all(keeper)
        await shown.clock.advance(5)
        waiting = dict(await shown.measure())
        it.status = 410
        await send_all(keeper)
        ended = dict(await shown.measure())
    assert waiting["aragora_cp_notifications_pending"] == {("notification",): 1.0, ("push",): 1.0}
    assert waiting["aragora_cp_notifications_late_seconds"] == {(): 5.0}
    assert ended["aragora_cp_notifications_pending"] == {("notification",): 0.0, ("push",): 0.0}
    assert ended["aragora_cp_notifications_ended"] == {("delivered",): 0.0, ("dead",): 1.0}


def _push_record() -> LogRecord:
    push_id = new_push("http://127.0.0.1/").push_id
    return record_for(ORIGIN, NOW, "notification.push_set", push_id, {"push_id": push_id, "task_id": "task_1"})
