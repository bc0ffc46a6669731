"""Starts the runs of schedules when they are due.

It keeps nothing: what is due is read from the database, and a run is submitted by the commit that advances its schedule, which
states the revision that was read. So one that is killed anywhere loses no run, and of two each run starts by one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from actors.messages import CancelRequest
from actors.under_policies import judged_items
from actors.while_primary import WhilePrimary
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import Conflict, ControlPlaneError, Fenced, NotFound, TryLater
from cluster.domain.base.log import LogRecord, Origin, caused_by_row, record_for
from cluster.domain.schedules.machine import Cancel, Due, Effect, Fire, Skip, step
from cluster.domain.schedules.schedule import PRINCIPAL, Schedule, SkipReason
from cluster.domain.schedules.template import run_deliberation, run_task
from cluster.ports.clock import Clock
from cluster.ports.deliberations import WorkspaceDeliberations
from cluster.ports.log import Region
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.schedules import ScheduleChange, Schedules
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import Doorbell, WakeTopic, topics_for
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Between two looks at what is due, and schedules of one look.
LOOK_S: Final = 1.0
BATCH: Final = 200


def change_of(
    schedule: Schedule, effects: Sequence[Effect], of_run: Origin, of_row: Origin, now: float
) -> ScheduleChange:
    """What is to be committed of a step's effects. ``of_run``: in whose name runs start, ``of_row``: who let them."""
    fires = [effect for effect in effects if isinstance(effect, Fire)]
    tasks: list[SubmitItem] = []
    deliberations = []
    for fire in fires:
        if schedule.is_deliberation:
            deliberations.append(run_deliberation(schedule, fire, of_run, now))
        else:
            task, key = run_task(schedule, fire, of_run, now)
            tasks.append(SubmitItem(task=task, idempotency=key))
    records = [record for effect in effects for record in _records(schedule, effect, of_row, now)]
    return ScheduleChange(schedule=schedule, records=records, tasks=tasks, deliberations=deliberations)


def _records(schedule: Schedule, effect: Effect, origin: Origin, now: float) -> list[LogRecord]:
    match effect:
        case Fire():
            data = {"schedule_id": schedule.id, "run": effect.run, "due": effect.due, "late": effect.late}
            return [record_for(origin, now, "schedule.fired", schedule.id, data)]
        case Skip():
            skipped = {"first": effect.first, "last": effect.last, "reason": effect.reason.value}
            return [record_for(origin, now, "schedule.skipped", schedule.id, {"schedule_id": schedule.id, **skipped})]
        case Cancel():
            return []  # the task's own row says so


def _refused(fired: LogRecord) -> LogRecord:
    """The row of a run that did not start, in place of that it did."""
    due = fired.data["due"]
    data = {"schedule_id": fired.entity, "first": due, "last": due, "reason": SkipReason.POLICY.value}
    return evolve(fired, kind="schedule.skipped", data=data)


class ScheduleKeeper:
    """``cancel``: asks the scheduler to cancel a task."""

    def __init__(
        self,
        *,
        schedules: Schedules,
        policies: Callable[[], WorkspacePolicies],
        deliberations: Callable[[], WorkspaceDeliberations],
        region: Region,
        cancel: Callable[[CancelRequest], Awaitable[Any]],
        doorbell: Doorbell,
        clock: Clock,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._schedules = schedules
        self._policies = policies
        self._deliberations = deliberations
        self._cancel = cancel
        self._doorbell = doorbell
        self._clock = clock
        self._while_primary = WhilePrimary(region)
        #: Schedules that cannot run as they are: id → revision. One that is changed is tried again.
        self._broken: dict[str, int] = {}
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(self._run())

    async def stop(self) -> None:
        await self._loops.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory."""
        broken = [f"Schedule {schedule_id} cannot run; see the log of this process." for schedule_id in self._broken]
        return {"serving": self._loops.running, "warnings": broken[:10]}

    async def fire_due(self) -> bool:
        """Starts what is due; returns whether there may be more at once. Starts nothing if this region is not the primary.

        Raises: `TryLater` if a store or the scheduler does not answer."""
        return bool(await self._while_primary.do(self._fire_some))

    async def _fire_some(self) -> bool:
        now = self._clock.now()
        found = await self._schedules.due(now, BATCH)
        due = [schedule for schedule in found if self._broken.get(schedule.id) != schedule.revision]
        for part in (False, True):
            await self._commit([schedule for schedule in due if schedule.is_deliberation is part], now)
        return len(found) == BATCH and bool(due)

    async def _commit(self, due: Sequence[Schedule], now: float) -> None:
        changes = [change for schedule in due if (change := await self._decided(schedule, now)) is not None]
        if not changes:
            return
        try:
            await self._put(changes)
        except (TryLater, Fenced):
            raise
        except ControlPlaneError as error:
            if len(due) > 1:
                for schedule in due:
                    await self._commit([schedule], now)
            elif not isinstance(error, Conflict):
                _logger.error("schedule %s cannot run: %s", due[0].id, error)
                self._broken[due[0].id] = due[0].revision
            # After a conflict it was changed, or has run: it is read again, if it is due.

    async def _decided(self, schedule: Schedule, now: float) -> ScheduleChange | None:
        """What becomes of a schedule now; earlier runs that are in its way have been cancelled."""
        open_runs = await self._schedules.open_runs(schedule.workspace, schedule.runs)
        changed, effects = step(schedule, Due(open_runs=open_runs), now)
        if changed.revision == schedule.revision:
            return None
        cause = caused_by_row(schedule.changed_row)
        system = Origin(workspace=schedule.workspace, principal=PRINCIPAL, cause=cause)
        for effect in effects:
            if isinstance(effect, Cancel):
                await self._cancel_run(schedule, effect.run, system, now)
        change = change_of(changed, effects, changed.owner(cause), system, now)
        return await self._under_policies(schedule, change) if change.tasks else change

    async def _under_policies(self, before: Schedule, change: ScheduleChange) -> ScheduleChange:
        """The change without the runs that policies refuse: they are skipped, and the schedule goes on."""
        found = await judged_items(self._policies(), change.tasks)
        refused = {each.task.id for each in found if each.denied is not None}
        tasks = [
            replace(item, task=each.task, violations=each.violations)
            for item, each in zip(change.tasks, found, strict=True)
            if each.task.id not in refused
        ]
        after = change.schedule
        schedule = replace(
            after,
            runs=tuple(run for run in after.runs if run not in refused),
            last_run=before.last_run if after.last_run in refused else after.last_run,
            fired=after.fired - len(refused),
        )
        records = [_refused(record) if record.data.get("run") in refused else record for record in change.records]
        return replace(change, schedule=schedule, tasks=tasks, records=records)

    async def _cancel_run(self, schedule: Schedule, run: str, origin: Origin, now: float) -> None:
        """Before the commit of the run that replaces it: if that fails, it is decided again, and this one has been cancelled."""
        if schedule.is_deliberation:
            record = record_for(origin, now, "deliberation.cancel_requested", run)
            await self._deliberations().cancel(schedule.workspace, run, record)
            return
        request = CancelRequest(
            workspace=schedule.workspace, principal=origin.principal, task_id=run, cause=origin.cause
        )
        with contextlib.suppress(Conflict, NotFound):  # it has ended meanwhile
            await self._cancel(request)

    async def _put(self, changes: Sequence[ScheduleChange]) -> None:
        await self._schedules.change(changes)
        tasks = [item for change in changes for item in change.tasks]
        topics = [*(topics_for(tasks) if tasks else ())]
        if any(change.schedule.is_deliberation for change in changes):
            topics.append(WakeTopic.DELIBERATIONS)
        if topics:
            await self._doorbell.notify(*topics)

    async def _run(self) -> None:
        while True:
            try:
                more = await self.fire_due()
            except TryLater as error:
                _logger.warning("schedules cannot be read or started, will try again: %s", error)
                more = False
            if not more:
                await self._clock.sleep(LOOK_S)
