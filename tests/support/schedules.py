"""Schedules for tests of their stores and of what fires them."""

from __future__ import annotations

from typing import Any

from actors.schedules import ScheduleKeeper
from cluster.domain.base.log import Origin, record_for
from cluster.domain.schedules.schedule import Plan, Schedule
from cluster.domain.schedules.timing import interval
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.task import NewTask
from cluster.domain.tasks.template import task_template
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock, SystemClock
from tests.support.samples import NOW

EVERY_S = 60
START = int(NOW)
ORIGIN = Origin(workspace="w", principal="user:tester", cause="trace-1")


class SilentBell:
    """A doorbell that nobody hears: what it would announce is in the log."""

    async def notify(self, *topics: Any) -> None:
        return None

    async def wait(self, timeout_s: float, topics: Any = ()) -> bool:
        return False


class AheadClock(SystemClock):
    """The machine's clock, some seconds ahead. It goes on: whoever waits between two looks looks again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return super().now() + self._seconds


def new_schedule(schedule_id: str = "sched_1", template: Any = None, **plan: Any) -> Schedule:
    chosen = Plan(**{"timing": interval(EVERY_S, START), **plan})
    task = NewTask(id="", origin=ORIGIN, task_type="report", created_at=0.0, payload={"n": [1]}, metadata={"a": "b"})
    return Schedule(
        id=schedule_id,
        workspace="w",
        principal=ORIGIN.principal,
        name="nightly",
        plan=chosen,
        template=template or task_template(task),
        created_at=NOW,
        changed_at=NOW,
        next_due=chosen.next_after(START),
    )


async def create(stores: Stores, schedule: Schedule) -> None:
    record = record_for(ORIGIN, NOW, "schedule.created", schedule.id, {"schedule_id": schedule.id})
    await stores.schedules.create(schedule, record, None)


def schedule_keeper(
    stores: Stores, clock: ManualClock, cancelled: list[str] | None = None, **parts: Any
) -> ScheduleKeeper:
    async def cancel(request: CancelRequest) -> None:
        (cancelled if cancelled is not None else []).append(request.task_id)

    return ScheduleKeeper(
        **{
            "schedules": stores.schedules,
            "policies": lambda: stores.policies,
            "deliberations": lambda: stores.deliberations,
            "workflows": lambda: stores.workflows,
            "region": stores.region,
            "cancel": cancel,
            "doorbell": SilentBell(),
            "clock": clock,
            **parts,
        }
    )
