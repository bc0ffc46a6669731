"""Advances the runs of workflows: follows the log, and starts what may start.

It keeps nothing that the database has not: the cursor moves in the commit that stores the runs and submits their tasks, whose ids
are made of run, step and index. So one that is killed anywhere starts no task twice and loses none, and of two one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from actors.workflows.commits import Commit, Stop, run_record
from actors.workflows.effects import Documents, StepEffects
from actors.workflows.values import Values
from cluster.domain.base.errors import (
    Conflict,
    ControlPlaneError,
    Fenced,
    InternalError,
    NotFound,
    TryLater,
)
from cluster.domain.base.log import Origin, record_for
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.events import CancelRequested
from cluster.domain.workflows.document import PRINCIPAL, FailureCode
from cluster.domain.workflows.machine import (
    ALONE,
    CancelAsked,
    Due,
    Event,
    ItemEnded,
    Run,
    Signalled,
    step,
)
from cluster.domain.workflows.rows import event_of, run_of
from cluster.domain.workflows.stored import StoredRun, task_id
from cluster.ports.clock import Clock
from cluster.ports.deliberations import WorkspaceDeliberations
from cluster.ports.log import Region
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.wake_ups import Doorbell, WakeTopic, topics_for
from cluster.ports.workflows import RunRow, Workflows
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Rows of one look at the log, and seconds between two looks if no doorbell rings.
BATCH: Final = 500
LOOK_S: Final = 1.0
#: Between two looks, however often it rings: what comes meanwhile is advanced together.
APART_S: Final = 0.02
#: After so many rows that are about no run the cursor is stored alone.
FAR: Final = 10_000
#: Cancellations that are asked for at once.
CANCELLING: Final = 50
#: Runs that are told at once that a time has come.
DUE: Final = 100


class WorkflowKeeper:
    """``cancel``: asks the scheduler to cancel a task."""

    def __init__(
        self,
        *,
        workflows: Workflows,
        policies: Callable[[], WorkspacePolicies],
        deliberations: Callable[[], WorkspaceDeliberations],
        region: Region,
        cancel: Callable[[CancelRequest], Awaitable[Any]],
        doorbell: Doorbell,
        clock: Clock,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._workflows = workflows
        self._deliberations = deliberations
        self._region = region
        self._cancel = cancel
        self._doorbell = doorbell
        self._clock = clock
        #: The stored cursor, and up to where the log was searched; None until the first look, and after every failure.
        self._stored: int | None = None
        self._searched = 0
        #: When the log was last taken in to its end.
        self._whole_at = clock.now()
        #: Runs that cannot be advanced, and how many rows are taken in at once: one, after a commit that was refused.
        self._broken: set[str] = set()
        self._batch = BATCH
        self._documents = Documents(workflows)
        self._values = Values(workflows)
        self._effects = StepEffects(policies=policies, documents=self._documents, values=self._values, clock=clock)
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(self._run())

    async def stop(self) -> None:
        await self._loops.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory."""
        broken = [f"Run {run_id} cannot go on; see the log of this process." for run_id in sorted(self._broken)]
        lag_s = max(0.0, self._clock.now() - self._whole_at)
        return {"serving": self._loops.running, "warnings": broken[:10], "log_lag_s": {"workflows": lag_s}}

    async def advance(self) -> bool:
        """Takes in the next rows of the log; returns whether there may be more at once. Waits for the primary if this region is
        not.

        Raises: `TryLater` if a store or the scheduler does not answer."""
        try:
            return await self._advance()
        except Fenced:
            self._stored = None
            return False
        except Conflict as error:
            _logger.warning("runs are read anew: %s", error)
            self._stored = None
            return True
        except TryLater:
            self._stored = None
            raise
        except ControlPlaneError:
            if self._batch == 1:
                raise
            _logger.exception("runs cannot be advanced together, so one row at a time is taken in")
            self._stored, self._batch = None, 1
            return True

    async def _advance(self) -> bool:
        if self._stored is None:
            await self._region.epoch()
            self._stored = self._searched = await self._workflows.begin()
        rows, searched = await self._workflows.rows(self._searched, self._batch)
        commit = Commit(seq=searched)
        found = await self._found(rows)
        for row in rows:
            run_id = run_of(row.entity)
            if run_id in found and run_id not in self._broken:
                commit.runs.setdefault(run_id, found[run_id])
                await self._take_in(commit, run_id, row)
            if commit.room < ALONE and row is not rows[-1]:
                commit.seq = row.seq
                break
        await self._stop_tasks(commit.stops)
        if commit.changed or commit.stops or commit.seq - self._stored > FAR:
            try:
                await self._put(commit)
            except InternalError as error:
                if self._batch > 1:
                    raise
                _logger.error("runs %s cannot go on: %s", sorted(commit.changed), error)
                self._broken |= commit.changed
                return True
        self._searched = commit.seq
        full, self._batch = len(rows) == self._batch, BATCH
        more = full or commit.seq < searched
        if not more:
            self._whole_at = self._clock.now()
        return more or bool(commit.changed or commit.stops) or await self._tell_due()

    async def _tell_due(self) -> bool:
        """Tells runs by a row that a time of theirs has come, so that it is taken in as anything else is; twice does no harm.
        Returns whether there were any."""
        now = self._clock.now()
        due = await self._workflows.due(now, DUE, sorted(self._broken))
        if due:
            await self._workflows.ask(*(run_record(run, now, "workflow.run_due", {"run_id": run.id}) for run in due))
        return bool(due)

    async def _found(self, rows: Sequence[RunRow]) -> dict[str, tuple[StoredRun, Run]]:
        """The runs that have not ended, with their state."""
        if any(row.kind == "workflow.deleted" for row in rows):
            self._documents.clear()  # one that is applied under its name later begins with version 1 again
        ids: dict[str, set[str]] = {}
        for row in rows:
            ids.setdefault(row.workspace, set()).add(run_of(row.entity))
        found: dict[str, tuple[StoredRun, Run]] = {}
        for workspace, of_workspace in ids.items():
            for stored in (await self._workflows.runs(workspace, sorted(of_workspace))).values():
                if stored.ended_at is None:
                    document = await self._documents.of(stored)
                    found[stored.id] = stored, Run.from_json(document[1], stored.status, stored.state, None)
        return found

    async def _take_in(self, commit: Commit, run_id: str, row: RunRow) -> None:
        stored, run = commit.runs[run_id]
        if row.data.get("stopping"):
            commit.stops += [
                Stop(run=stored, id=task_id(run_id, *task), deliberates=run.workflow.steps[task[0]].deliberates)
                for task in sorted(run.stopping)
            ]
        event = event_of(row.kind, row.entity, row.data)
        if event is None:
            return
        before, seen = run, len(commit.records)
        events: deque[Event] = deque([event])
        if isinstance(event, Due):
            # A signal that was taken is met, however late its row is read.
            events.extendleft(Signalled(name=name) for name in await self._values.signals(stored))
        while events:
            event = events.popleft()
            if not isinstance(event, CancelAsked):
                event = replace(event, room=max(0, commit.room))
            run, effects = step(run, event, self._clock.now())
            commit.runs[run_id] = stored, run
            for effect in effects:
                events += await self._effects.carry_out(commit, stored, run, effect)
            # What was to start with this commit and is to be stopped already is not submitted.
            for step_id, index in sorted(run.stopping - before.stopping):
                id_ = task_id(run_id, step_id, index)
                if commit.tasks.pop(id_, None) is not None or commit.deliberations.pop(id_, None) is not None:
                    events.append(ItemEnded(step=step_id, index=index, code=FailureCode.CANCELLED))
        if run != before or len(commit.records) > seen:
            commit.changed.add(run_id)

    async def _put(self, commit: Commit) -> None:
        assert self._stored is not None
        runs = commit.stored_runs(self._clock.now())
        tasks, deliberations = list(commit.tasks.values()), list(commit.deliberations.values())
        await self._workflows.advance((self._stored, commit.seq), runs, commit.records, tasks, deliberations)
        self._stored = commit.seq
        topics = [WakeTopic.WORKFLOWS, *(topics_for(tasks) if tasks else ())]
        if deliberations:
            topics.append(WakeTopic.DELIBERATIONS)
        await self._doorbell.notify(*topics)

    async def _stop_tasks(self, stops: Sequence[Stop]) -> None:
        """Asks for the end of tasks and deliberations; those that have ended meanwhile are left."""
        for n in range(0, len(stops), CANCELLING):
            await asyncio.gather(*(self._stop_task(stop) for stop in stops[n : n + CANCELLING]))
        if any(stop.deliberates for stop in stops):
            await self._doorbell.notify(WakeTopic.DELIBERATIONS)

    async def _stop_task(self, stop: Stop) -> None:
        origin = Origin(workspace=stop.run.workspace, principal=PRINCIPAL, cause=stop.run.owner().cause)
        if stop.deliberates:
            record = record_for(origin, self._clock.now(), "deliberation.cancel_requested", stop.id)
            await self._deliberations().cancel(origin.workspace, stop.id, record)
            return
        event = CancelRequested(principal=PRINCIPAL, cause=origin.cause)
        request = CancelRequest(workspace=origin.workspace, task_id=stop.id, event=event)
        with contextlib.suppress(Conflict, NotFound):
            await self._cancel(request)

    async def _run(self) -> None:
        while True:
            began = self._clock.now()
            try:
                more = await self.advance()
            except TryLater as error:
                _logger.warning("runs of workflows cannot be advanced, will try again: %s", error)
                await self._clock.sleep(LOOK_S)
                continue
            took = self._clock.now() - began
            if not more:
                await self._doorbell.wait(LOOK_S, (WakeTopic.WORKFLOWS,))
            # Pages of a fan-out leave half of the time to the commits of others.
            await self._clock.sleep(max(APART_S, min(took, LOOK_S)))
