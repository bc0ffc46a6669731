"""Starts the runs of schedules when they are due.

It keeps nothing: what is due is read from the database, and a run is submitted by the commit that advances its schedule, which
states the revision that was read. So one that is killed anywhere loses no run, and of two each run starts by one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from actors.under_policies import judged_items
from actors.while_primary import WhilePrimary
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import Conflict, ControlPlaneError, Fenced, NotFound, TryLater
from cluster.domain.base.log import LogRecord, Origin, caused_by_row, record_for
from cluster.domain.schedules.machine import Cancel, Due, Effect, Fire, Skip, step
from cluster.domain.schedules.schedule import PRINCIPAL, RunKind, Schedule, SkipReason
from cluster.domain.schedules.template import run_deliberation, run_key, run_task, run_workflow
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.events import CancelRequested
from cluster.domain.workflows.stored import StoredWorkflow, started_data
from cluster.ports.clock import Clock
from cluster.ports.deliberations import WorkspaceDeliberations
from cluster.ports.log import Region
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.schedules import ScheduleChange, Schedules
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import Doorbell, WakeTopic, topics_for
from cluster.ports.workflows import NewRun, WorkspaceWorkflows
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Between two looks at what is due, and schedules of one look.
LOOK_S: Final = 1.0
BATCH: Final = 200


def change_of(
    schedule: Schedule,
    effects: Sequence[Effect],
    of_run: Origin,
    of_row: Origin,
    now: float,
    workflow: StoredWorkflow | None = None,
) -> ScheduleChange:
    """What is to be committed of a step's effects. ``of_run``: in whose name runs start, ``of_row``: who let them.
    ``workflow``: the version that runs are of, if they are of one."""
    fires = [effect for effect in effects if isinstance(effect, Fire)]
    tasks: list[SubmitItem] = []
    deliberations = []
    runs: list[NewRun] = []
    for fire in fires:
        match schedule.kind:
            case RunKind.DELIBERATION:
                deliberations.append(run_deliberation(schedule, fire, of_run, now))
            case RunKind.WORKFLOW if workflow is not None:
                runs.append(_new_run(schedule, fire, of_run, workflow, now))
            case RunKind.WORKFLOW:
                pass  # it was deleted: the caller says so
            case RunKind.TASK:
                task, key = run_task(schedule, fire, of_run, now)
                tasks.append(SubmitItem(task=task, idempotency=key))
    records = [record for effect in effects for record in _records(schedule, effect, of_row, now)]
    return ScheduleChange(
        schedule=schedule, records=records, tasks=tasks, deliberations=deliberations, workflow_runs=runs
    )


def _new_run(schedule: Schedule, fire: Fire, origin: Origin, workflow: StoredWorkflow, now: float) -> NewRun:
    run = run_workflow(schedule, fire, origin, workflow.version, now)
    return NewRun(
        run=run,
        input=schedule.template["workflow"]["input"],
        record=record_for(origin, now, "workflow.run_started", run.id, started_data(run)),
        key=run_key(fire),
    )


def topics_of(changes: Sequence[ScheduleChange]) -> list[WakeTopic]:
    """Who is to hear of the runs that start with changes."""
    tasks = [item for change in changes for item in change.tasks]
    topics = [*(topics_for(tasks) if tasks else ())]
    if any(change.deliberations for change in changes):
        topics.append(WakeTopic.DELIBERATIONS)
    if any(change.workflow_runs for change in changes):
        topics.append(WakeTopic.WORKFLOWS)
    return topics


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


def _refused(fired: LogRecord, reason: SkipReason) -> LogRecord:
    """The row of a run that did not start, in place of that it did."""
    due = fired.data["due"]
    data = {"schedule_id": fired.entity, "first": due, "last": due, "reason": reason.value}
    return evolve(fired, kind="schedule.skipped", data=data)


def _without(before: Schedule, change: ScheduleChange, refused: Collection[str], reason: SkipReason) -> ScheduleChange:
    """The change without the runs that may not start: they are skipped, and the schedule goes on."""
    after = change.schedule
    schedule = replace(
        after,
        runs=tuple(run for run in after.runs if run not in refused),
        last_run=before.last_run if after.last_run in refused else after.last_run,
        fired=after.fired - len(refused),
    )
    records = [_refused(record, reason) if record.data.get("run") in refused else record for record in change.records]
    return replace(change, schedule=schedule, records=records)


class ScheduleKeeper:
    """``cancel``: asks the scheduler to cancel a task."""

    def __init__(
        self,
        *,
        schedules: Schedules,
        policies: Callable[[], WorkspacePolicies],
        deliberations: Callable[[], WorkspaceDeliberations],
        workflows: Callable[[], WorkspaceWorkflows],
        region: Region,
        cancel: Callable[[CancelRequest], Awaitable[Any]],
        doorbell: Doorbell,
        clock: Clock,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._schedules = schedules
        self._policies = policies
        self._deliberations = deliberations
        self._workflows = workflows
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
        for kind in RunKind:
            await self._commit([schedule for schedule in due if schedule.kind is kind], now)
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
        fired = [effect.run for effect in effects if isinstance(effect, Fire)]
        workflow = await self._workflow(changed) if fired and changed.kind is RunKind.WORKFLOW else None
        change = change_of(changed, effects, changed.owner(cause), system, now, workflow)
        if fired and changed.kind is RunKind.WORKFLOW and workflow is None:
            return _without(schedule, change, fired, SkipReason.NO_WORKFLOW)
        return await self._under_policies(schedule, change) if change.tasks else change

    async def _workflow(self, schedule: Schedule) -> StoredWorkflow | None:
        """The version that a run is of; None if it was deleted."""
        template = schedule.template["workflow"]
        return await self._workflows().get(schedule.workspace, template["name"], template["version"])

    async def _under_policies(self, before: Schedule, change: ScheduleChange) -> ScheduleChange:
        """The change without the runs that policies refuse."""
        found = await judged_items(self._policies(), change.tasks)
        refused = {each.task.id for each in found if each.denied is not None}
        tasks = [
            replace(item, task=each.task, violations=each.violations)
            for item, each in zip(change.tasks, found, strict=True)
            if each.task.id not in refused
        ]
        return replace(_without(before, change, refused, SkipReason.POLICY), tasks=tasks)

    async def _cancel_run(self, schedule: Schedule, run: str, origin: Origin, now: float) -> None:
        """Before the commit of the run that replaces it: if that fails, it is decided again, and this one has been cancelled."""
        if schedule.kind is RunKind.DELIBERATION:
            record = record_for(origin, now, "deliberation.cancel_requested", run)
            await self._deliberations().cancel(schedule.workspace, run, record)
            return
        if schedule.kind is RunKind.WORKFLOW:
            await self._workflows().ask(record_for(origin, now, "workflow.run_cancel_requested", run, {"run_id": run}))
            await self._doorbell.notify(WakeTopic.WORKFLOWS)
            return
        event = CancelRequested(principal=origin.principal, cause=origin.cause)
        request = CancelRequest(workspace=schedule.workspace, task_id=run, event=event)
        with contextlib.suppress(Conflict, NotFound):  # it has ended meanwhile
            await self._cancel(request)

    async def _put(self, changes: Sequence[ScheduleChange]) -> None:
        await self._schedules.change(changes)
        if topics := topics_of(changes):
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
