"""Advances the runs of workflows: follows the log, and starts what may start.

It keeps nothing that the database has not: the cursor moves in the commit that stores the runs and submits their tasks, whose ids
are made of run, step and index. So one that is killed anywhere starts no task twice and loses none, and of two one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from actors.messages import CancelRequest
from actors.under_policies import judged_items
from actors.workflow_values import Values
from cluster.domain.base.errors import (
    Conflict,
    ControlPlaneError,
    Fenced,
    InternalError,
    InvalidRequest,
    NotFound,
    TryLater,
)
from cluster.domain.base.expressions import ConditionFailed, Expression
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.tasks.template import templated_task
from cluster.domain.workflows.deliberations import DELIBERATION_ENDS, run_deliberation, why_refused, why_undecided
from cluster.domain.workflows.document import INDEX, PRINCIPAL, FailureCode, Step, Workflow, workflow_of
from cluster.domain.workflows.inputs import Input, InputMaker
from cluster.domain.workflows.machine import (
    ALONE,
    PAGE,
    Await,
    CancelAsked,
    Count,
    Counted,
    Due,
    Effect,
    Event,
    Go,
    ItemEnded,
    Judge,
    Judged,
    Missed,
    Run,
    RunEnded,
    Signalled,
    Sleeps,
    Start,
    StepEnded,
    Unavailable,
    step,
)
from cluster.domain.workflows.stored import TASK_ENDS, StoredRun, StoredWorkflow, task_id, task_of
from cluster.domain.workflows.values import ITEM, Unresolved, references, resolved
from cluster.domain.workflows.waits import NoTime
from cluster.ports.clock import Clock
from cluster.ports.deliberations import WorkspaceDeliberations
from cluster.ports.log import Region
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import Doorbell, WakeTopic, topics_for
from cluster.ports.workflows import RunRow, Workflows
from cluster.process.large import in_thread_if_large, rough_size
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Rows of one look at the log, and seconds between two looks if no doorbell rings.
BATCH: Final = 500
LOOK_S: Final = 1.0
#: Between two looks, however often it rings: what comes meanwhile is advanced together.
APART_S: Final = 0.02
#: After so many rows that are about no run the cursor is stored alone.
FAR: Final = 10_000
#: Items of a list before it is filtered.
MOST_FILTERED: Final = 100_000
#: Cancellations that are asked for at once.
CANCELLING: Final = 50
KEPT_WORKFLOWS: Final = 100
#: Runs that are told at once that a time has come.
DUE: Final = 100
ROUTE: Final = "workflows"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """A task or a deliberation of a run that is to end."""

    run: StoredRun
    id: str
    deliberates: bool


@dataclass(slots=True)
class _Commit:
    """What one commit is made of. ``seq``: the last row that it takes in."""

    runs: dict[str, tuple[StoredRun, Run]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    records: list[LogRecord] = field(default_factory=list)
    tasks: dict[str, SubmitItem] = field(default_factory=dict)
    deliberations: dict[str, NewDeliberation] = field(default_factory=dict)
    stops: list[_Stop] = field(default_factory=list)
    missed: dict[str, set[str]] = field(default_factory=dict)
    room: int = PAGE
    seq: int = 0


def _run_of(row: RunRow) -> str:
    task = task_of(row.entity)
    return row.entity if task is None else task[0]


def _event_of(row: RunRow) -> Event | None:
    """What a row is to the run that it is about; None if it says only what the run has done itself."""
    task = task_of(row.entity)
    if task is not None:
        _, step_id, index = task
        code = why_undecided(row.data["terminal"]) if row.kind in DELIBERATION_ENDS else TASK_ENDS[row.kind]
        return ItemEnded(step=step_id, index=index, code=code)
    if row.kind == "workflow.run_cancel_requested":
        return CancelAsked()
    if row.kind == "workflow.run_signalled":
        return Signalled(name=row.data["signal"])
    if row.kind == "workflow.run_due":
        return Due()
    if row.kind == "workflow.run_started" or row.data.get("more"):
        return Go()
    return None


def _unavailable(step_id: str, error: Unresolved) -> Unavailable:
    return Unavailable(step=step_id, code=FailureCode(error.code), reason=error.message)


async def _filtered(keeps: Expression, items: list[Any], named: dict[str, Any]) -> tuple[list[Any], int]:
    """The items that a filter keeps, and their characters. Raises: `Unresolved` if it cannot be evaluated."""
    try:
        # In a thread, since other actors live in this process.
        found = await asyncio.to_thread(keeps.kept, items, named)
    except ConditionFailed as error:
        raise Unresolved(f"The filter of the list fails: {error}", FailureCode.CONDITION_FAILED) from None
    return found, len(canonical_json(found))


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
        self._policies = policies
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
        self._documents: dict[tuple[str, str, int], tuple[StoredWorkflow, Workflow]] = {}
        self._values = Values(workflows)
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
        commit = _Commit(seq=searched)
        found = await self._found(rows)
        for row in rows:
            run_id = _run_of(row)
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
        due = await self._workflows.due(self._clock.now(), DUE, sorted(self._broken))
        if due:
            await self._workflows.ask(*(self._record(run, "workflow.run_due", {"run_id": run.id}) for run in due))
        return bool(due)

    async def _found(self, rows: Sequence[RunRow]) -> dict[str, tuple[StoredRun, Run]]:
        """The runs that have not ended, with their state."""
        if any(row.kind == "workflow.deleted" for row in rows):
            self._documents.clear()  # one that is applied under its name later begins with version 1 again
        ids: dict[str, set[str]] = {}
        for row in rows:
            ids.setdefault(row.workspace, set()).add(_run_of(row))
        found: dict[str, tuple[StoredRun, Run]] = {}
        for workspace, of_workspace in ids.items():
            for stored in (await self._workflows.runs(workspace, sorted(of_workspace))).values():
                if stored.ended_at is None:
                    document = await self._document(stored)
                    found[stored.id] = stored, Run.from_json(document[1], stored.status, stored.state, None)
        return found

    async def _document(self, run: StoredRun) -> tuple[StoredWorkflow, Workflow]:
        key = (run.workspace, run.name, run.version)
        if key not in self._documents:
            stored = await self._workflows.get(*key)
            assert stored is not None, "a workflow with an open run is not deleted"
            while len(self._documents) >= KEPT_WORKFLOWS:
                del self._documents[next(iter(self._documents))]
            self._documents[key] = stored, workflow_of(stored.document)
        return self._documents[key]

    async def _take_in(self, commit: _Commit, run_id: str, row: RunRow) -> None:
        stored, run = commit.runs[run_id]
        if row.data.get("stopping"):
            commit.stops += [
                _Stop(run=stored, id=task_id(run_id, *task), deliberates=run.workflow.steps[task[0]].deliberates)
                for task in sorted(run.stopping)
            ]
        event = _event_of(row)
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
                events += await self._carry_out(commit, stored, run, effect)
            # What was to start with this commit and is to be stopped already is not submitted.
            for step_id, index in sorted(run.stopping - before.stopping):
                id_ = task_id(run_id, step_id, index)
                if commit.tasks.pop(id_, None) is not None or commit.deliberations.pop(id_, None) is not None:
                    events.append(ItemEnded(step=step_id, index=index, code=FailureCode.CANCELLED))
        if run != before or len(commit.records) > seen:
            commit.changed.add(run_id)

    async def _carry_out(self, commit: _Commit, stored: StoredRun, run: Run, effect: Effect) -> Sequence[Event]:
        """Returns the events that follow at once."""
        match effect:
            case Judge():
                return [await self._judge(stored, run, run.workflow.steps[effect.step])]
            case Count():
                return [await self._count(stored, run, effect.step)]
            case Start():
                return await self._start(commit, stored, run, effect)
            case Await():
                return await self._await(stored, run, run.workflow.steps[effect.step])
            case Missed():
                commit.missed.setdefault(stored.id, set()).add(effect.signal)
            case StepEnded():
                data = {"run_id": stored.id, "step": effect.step, "status": effect.status.value}
                code = {} if effect.code is None else {"code": effect.code.value}
                commit.records.append(self._record(stored, "workflow.run_step_ended", {**data, **code}))
            case RunEnded():
                data = {"run_id": stored.id, "workflow": stored.name, "status": effect.status.value}
                commit.records.append(self._record(stored, "workflow.run_ended", data))
                self._values.forget(stored.id)
        return ()

    async def _judge(self, stored: StoredRun, run: Run, of: Step) -> Event:
        assert of.when is not None
        try:
            named = await self._named(stored, run, of.when.names, handles=of.handles)
            return Judged(step=of.id, holds=await in_thread_if_large(rough_size(named), of.when.holds, named))
        except Unresolved as error:
            return _unavailable(of.id, error)
        except ConditionFailed as error:
            return Unavailable(step=of.id, code=FailureCode.CONDITION_FAILED, reason=f"Its when fails: {error}")

    async def _named(
        self, stored: StoredRun, run: Run, names: Collection[str], *, handles: str | None = None
    ) -> dict[str, Any]:
        """The values that a condition names; null for a step that has none."""
        return {**dict.fromkeys(names), **await self._values.of(stored, run, names, handles=handles)}

    async def _count(self, stored: StoredRun, run: Run, step_id: str) -> Event:
        try:
            return Counted(step=step_id, count=len(await self._items(stored, run, step_id)))
        except Unresolved as error:
            return _unavailable(step_id, error)

    async def _await(self, stored: StoredRun, run: Run, of: Step) -> Sequence[Event]:
        if of.signal is not None:
            signals = await self._values.signals(stored)
            return [Signalled(name=of.signal.name)] if of.signal.name in signals else []
        assert of.sleep is not None
        sources = {found.source for found in references(of.sleep.length)}
        try:
            values = await self._values.of(stored, run, sources, handles=of.handles)
            until = of.sleep.ends_at(resolved(of.sleep.length, values), self._clock.now())
        except Unresolved as error:
            return [_unavailable(of.id, error)]
        except NoTime as error:
            return [Unavailable(step=of.id, code=FailureCode.NOT_A_TIME, reason=error.message)]
        return [Sleeps(step=of.id, until=until)]

    async def _items(self, stored: StoredRun, run: Run, step_id: str) -> list[Any]:
        """The list of a fan-out. Raises: `Unresolved` if there is none."""
        of = run.workflow.steps[step_id]
        items = resolved(of.over, await self._values.of(stored, run, {found.source for found in references(of.over)}))
        if not isinstance(items, list):
            raise Unresolved("over must become a list; what it refers to is none.", FailureCode.NOT_A_LIST)
        if of.filter is None:
            return items
        if len(items) > MOST_FILTERED:
            raise Unresolved(f"A filter takes at most {MOST_FILTERED:,} items.", FailureCode.LIMIT_EXCEEDED)
        named = await self._named(stored, run, of.filter.names - {ITEM, INDEX})
        found: list[Any] = await self._values.once(
            stored.id, f"{step_id}/{of.filter.source}", partial(_filtered, of.filter, items, named)
        )
        return found

    async def _start(self, commit: _Commit, stored: StoredRun, run: Run, effect: Start) -> list[Event]:
        """Adds the tasks or deliberations to the commit; returns the ends of those that cannot start."""
        of = run.workflow.steps[effect.step]
        commit.room -= len(effect.indexes) * (1 if of.is_map else ALONE)
        templates = (of.input, of.over) if of.is_map else (of.input,)
        sources = {found.source for template in templates for found in references(template)} - {ITEM}
        failed: list[Event] = []
        try:
            values = await self._values.of(stored, run, sources, handles=of.handles)
            items = await self._items(stored, run, effect.step) if of.is_map else [None]
        except Unresolved as error:
            code = FailureCode(error.code)
            return [ItemEnded(step=of.id, index=index, code=code, reason=error.message) for index in effect.indexes]
        referring = InputMaker(of, run, stored.id, values)
        inputs: dict[int, Input] = {}
        for index in effect.indexes:
            try:
                inputs[index] = referring.of(index, items[index] if of.is_map else None)
            except Unresolved as error:
                failed.append(ItemEnded(step=of.id, index=index, code=FailureCode(error.code), reason=error.message))
        if of.deliberates:
            return failed + self._admit(commit, stored, of, inputs)
        return failed + await self._submit(commit, stored, of, inputs)

    def _admit(self, commit: _Commit, stored: StoredRun, of: Step, asked: dict[int, Input]) -> list[Event]:
        """Adds deliberations by their index to the commit; returns the ends of those that cannot be asked."""
        failed: list[Event] = []
        for index, fields in asked.items():
            id_ = task_id(stored.id, of.id, index)
            now, owner = self._clock.now(), stored.owner()
            try:
                commit.deliberations[id_] = run_deliberation(
                    fields.whole, id=id_, origin=owner, metadata=stored.metadata, now=now
                )
            except InvalidRequest as error:
                code, reason = FailureCode.INVALID_DELIBERATION, why_refused(error)
                failed.append(ItemEnded(step=of.id, index=index, code=code, reason=reason))
        return failed

    async def _submit(self, commit: _Commit, stored: StoredRun, of: Step, inputs: dict[int, Input]) -> list[Event]:
        """Adds tasks by their index to the commit; returns the ends of those that policies refuse."""
        document, _ = await self._document(stored)
        now, owner = self._clock.now(), stored.owner()
        starting: dict[int, SubmitItem] = {}
        for index, given in inputs.items():
            id_ = task_id(stored.id, of.id, index)
            task = templated_task(document.templates[of.id], id=id_, origin=owner, now=now)
            metadata = {**stored.metadata, **task.metadata, "workflow_run": stored.id, "step": of.id}
            key = IdempotencyKey(route=ROUTE, key=id_, body_digest=b"")
            starting[index] = SubmitItem(task=replace(task, payload=given.whole, metadata=metadata), idempotency=key)
        failed: list[Event] = []
        found = await judged_items(self._policies(), list(starting.values()))
        for (index, item), each in zip(starting.items(), found, strict=True):
            if each.denied is None:
                task = replace(each.task, payload=inputs[index].stored)  # policies have read the whole one
                commit.tasks[item.task.id] = replace(item, task=task, violations=each.violations)
            else:
                reason = each.denied.message
                failed.append(ItemEnded(step=of.id, index=index, code=FailureCode.POLICY_DENIED, reason=reason))
        return failed

    async def _put(self, commit: _Commit) -> None:
        assert self._stored is not None
        now = self._clock.now()
        runs = []
        started = Counter(id_.partition(".")[0] for id_ in (*commit.tasks, *commit.deliberations))
        for run_id in sorted(commit.changed):
            stored, run = commit.runs[run_id]
            before = {(step_id, index) for step_id, index in stored.state.get("stopping", ())}
            runs.append(stored.after(run, now, commit.missed.get(run_id, ())))
            data = {
                "run_id": run_id,
                "started": started[run_id],
                "more": run.has_more,
                "stopping": len(run.stopping - before),
            }
            if not run.status.ended:
                commit.records.append(self._record(stored, "workflow.run_advanced", data))
        tasks = list(commit.tasks.values())
        deliberations = list(commit.deliberations.values())
        await self._workflows.advance((self._stored, commit.seq), runs, commit.records, tasks, deliberations)
        self._stored = commit.seq
        topics = [WakeTopic.WORKFLOWS, *(topics_for(tasks) if tasks else ())]
        if deliberations:
            topics.append(WakeTopic.DELIBERATIONS)
        await self._doorbell.notify(*topics)

    async def _stop_tasks(self, stops: Sequence[_Stop]) -> None:
        """Asks for the end of tasks and deliberations; those that have ended meanwhile are left."""
        for n in range(0, len(stops), CANCELLING):
            await asyncio.gather(*(self._stop_task(stop) for stop in stops[n : n + CANCELLING]))
        if any(stop.deliberates for stop in stops):
            await self._doorbell.notify(WakeTopic.DELIBERATIONS)

    async def _stop_task(self, stop: _Stop) -> None:
        origin = Origin(workspace=stop.run.workspace, principal=PRINCIPAL, cause=stop.run.owner().cause)
        if stop.deliberates:
            record = record_for(origin, self._clock.now(), "deliberation.cancel_requested", stop.id)
            await self._deliberations().cancel(origin.workspace, stop.id, record)
            return
        request = CancelRequest(workspace=origin.workspace, principal=PRINCIPAL, task_id=stop.id, cause=origin.cause)
        with contextlib.suppress(Conflict, NotFound):
            await self._cancel(request)

    def _record(self, run: StoredRun, kind: str, data: dict[str, Any]) -> LogRecord:
        origin = Origin(workspace=run.workspace, principal=PRINCIPAL, cause=run.owner().cause)
        return record_for(origin, self._clock.now(), kind, run.id, data)

    async def _run(self) -> None:
        while True:
            try:
                more = await self.advance()
            except TryLater as error:
                _logger.warning("runs of workflows cannot be advanced, will try again: %s", error)
                await self._clock.sleep(LOOK_S)
                continue
            if not more:
                await self._doorbell.wait(LOOK_S, (WakeTopic.WORKFLOWS,))
            await self._clock.sleep(APART_S)
