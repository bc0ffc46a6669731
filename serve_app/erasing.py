"""Carries out an erasure in short commits, for a bounded time, and says where to go on.

A call begins with what is oldest and passes over what was erased before. So one that broke off, with its replica or its client,
goes on when it is made again, from its cursor or from the beginning.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from cluster.domain.audit.erasure import COMPLETED, OF_ROWS, OF_RULES, OF_VIOLATIONS, Scope
from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_text
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.deliberation.stored import Deliberation
from cluster.domain.hooks.hook import MOST_HOOKS
from cluster.domain.receipts.erasure import erased_contract, erased_events
from cluster.domain.schedules.schedule import MOST_SCHEDULES
from cluster.domain.workflows.document import MOST_WORKFLOWS
from cluster.ports.clock import Clock
from cluster.ports.deliberations import WorkspaceDeliberations
from cluster.ports.erasure import Chosen, Erasures, Position, Window
from cluster.ports.hooks import WorkspaceHooks
from cluster.ports.schedules import WorkspaceSchedules
from cluster.ports.workflows import WorkspaceWorkflows
from serve_app.signing import ReceiptSigner

#: Tasks or outcomes of one commit, and rows of the log.
BATCH: Final = 200
LOG_BATCH: Final = 2_000
#: Runs, policies and the like that a dry run counts.
MOST_COUNTED: Final = 100_000
#: How long a call goes on: well below what proxies and clients wait.
CALL_S: Final = 10.0
#: Open tasks and deliberations that a refusal names.
NAMED: Final = 5
#: Clocks of processes may differ by this much: a pull call is looked for as long before and after its deliberation.
SKEW_S: Final = 300.0
#: Stages of an erasure of a workspace.
STAGES_MAX: Final = 10
#: Times and numbers of a cursor are below it: up to it, floats are exact.
MOST: Final = 2**53
#: Of a stage that is one step.
_DONE: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """How much was erased so far, or in a dry run would be."""

    tasks: int = 0
    deliberations: int = 0
    outcomes: int = 0
    log_rows: int = 0
    schedules: int = 0
    workflows: int = 0
    hooks: int = 0
    policies: int = 0
    violations: int = 0
    notifications: int = 0
    credentials: int = 0
    budgets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where an erasure is. ``until`` (epoch seconds): what was submitted later is none of its. ``at`` and ``key``: the last item
    of the stage that was looked at."""

    erasure: str
    until: float
    stage: int = 0
    at: float = 0.0
    key: str = ""
    erased: Erased = Erased()

    def cursor(self) -> str:
        counts = asdict(self.erased).values()
        text = json.dumps([self.erasure, self.until, self.stage, self.at, self.key, *counts])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def progress_of(cursor: str) -> Progress:
    """Raises: `InvalidRequest` if the cursor is not one that an erasure gave out."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        erasure, until, stage, at, key, *counts = found
        check_text(key, "key")
        if not (0 <= stage <= STAGES_MAX and all(0 <= number < MOST for number in (until, at, *counts))):
            raise ValueError("numbers that no erasure has")
        progress = Progress(
            erasure=check_id(erasure, "erasure"),
            until=float(until),
            stage=int(stage),
            at=float(at),
            key=str(key),
            erased=Erased(**{each.name: int(n) for each, n in zip(fields(Erased), counts, strict=True)}),
        )
        if progress.cursor() != cursor:
            raise ValueError("another text than the one that was given out")
    except (ValueError, TypeError, OverflowError, RecursionError, InvalidRequest):
        raise InvalidRequest(
            "cursor must be the next_cursor of an earlier answer, unchanged.", "invalid_cursor"
        ) from None
    return progress


class Eraser:
    """One erasure. ``target``: the id of the task, or the subject."""

    def __init__(
        self,
        *,
        erasures: Erasures,
        deliberations: WorkspaceDeliberations,
        schedules: WorkspaceSchedules,
        workflows: WorkspaceWorkflows,
        hooks: WorkspaceHooks,
        signing: ReceiptSigner,
        clock: Clock,
        asker: Origin,
        scope: Scope,
        target: str | None,
        dry_run: bool,
    ) -> None:
        self._erasures = erasures
        self._deliberations = deliberations
        self._schedules = schedules
        self._workflows = workflows
        self._hooks = hooks
        self._signing = signing
        self._clock = clock
        self._asker = asker
        self._workspace = asker.workspace
        self._scope = scope
        self._target = target
        self._subject = target if scope is Scope.SUBJECT else None
        self._dry_run = dry_run
        self._progress: Progress

    async def run(self, progress: Progress, *, begins: bool) -> tuple[Progress, bool]:
        """Erases for at most ``CALL_S``. Returns where it is, and whether all is done.

        Raises: `Conflict` (``open_work``) if something of it has not ended, `NotFound` if there is no such task."""
        self._progress = progress
        deadline = self._clock.now() + CALL_S
        if begins:
            if self._scope is Scope.TASK:
                # Before the row: the log of a workspace names no task that it does not have.
                _refuse(await self._open_of_one())
            else:
                _refuse(await self._erasures.open_work(self._workspace, self._subject, NAMED))
            await self._note("erasure.requested")
        stages = self._stages()
        while self._progress.stage < len(stages):
            async with contextlib.aclosing(stages[self._progress.stage]()) as commits:
                async for _ in commits:
                    if self._clock.now() >= deadline:
                        return self._progress, False
            self._progress = replace(self._progress, stage=self._progress.stage + 1, at=0.0, key="")
        await self._note(COMPLETED, **asdict(self._progress.erased))
        return self._progress, True

    def _stages(self) -> Sequence[Callable[[], AsyncGenerator[None]]]:
        """Each yields after a commit, with ``_progress`` at what it has done."""
        if self._scope is Scope.TASK:
            return (self._one,)
        # Schedules, hooks and workflows go first, since they would go on to write what is erased.
        begin = (self._all_schedules, self._all_hooks, self._all_workflows)
        both = (*begin, self._tasks, self._ended_deliberations)
        rules = (self._rules, self._violations, self._told)
        return both if self._scope is Scope.SUBJECT else (*both, self._outcomes, *rules, self._words, self._rest)

    def _count(self, **more: int) -> None:
        erased = self._progress.erased
        counts = {name: getattr(erased, name) + number for name, number in more.items()}
        self._progress = replace(self._progress, erased=replace(erased, **counts))

    def _moved(self, last: Position) -> None:
        self._progress = replace(self._progress, at=last[0], key=last[1])

    def _record(self, kind: str, entity: str, **data: Any) -> LogRecord:
        facts = {"erasure": self._progress.erasure, **data}
        return record_for(self._asker, self._clock.now(), kind, entity, facts)

    async def _note(self, kind: str, **data: Any) -> None:
        """A row of the erasure itself. It does not name a subject, which may be a person's name."""
        if self._dry_run:
            return
        targets = {Scope.TASK: self._target, Scope.WORKSPACE: self._workspace}
        target = {"target": targets[self._scope]} if self._scope in targets else {}
        record = self._record(kind, self._progress.erasure, scope=self._scope.value, **target, **data)
        await self._erasures.note(self._workspace, record)

    # --- one task or deliberation ---------------------------------------------------------------------------------

    async def _open_of_one(self) -> Sequence[str]:
        """What of the task or deliberation has not ended. Raises: `NotFound` if the workspace has neither."""
        assert self._target is not None
        deliberation = await self._deliberations.get(self._workspace, self._target)
        if deliberation is None:
            return (await self._family(self._target)).open
        return [] if deliberation.terminal is not None or deliberation.erased_at is not None else [self._target]

    async def _family(self, task_id: str) -> Chosen:
        family = await self._erasures.task_family(self._workspace, task_id)
        if family is None:
            raise NotFound(f"There is no task or deliberation {task_id}.", "task_not_found")
        return family

    async def _one(self) -> AsyncGenerator[None]:
        """A task with its children and replays, or a deliberation. Its id is that of the task that the API answers for it."""
        assert self._target is not None
        if self._progress.key == _DONE:
            return
        deliberation = await self._deliberations.get(self._workspace, self._target)
        if deliberation is not None:
            await self._erase_deliberation(deliberation)
        else:
            family = await self._family(self._target)
            _refuse(family.open)
            for begin in range(0, len(family.ended), BATCH):
                await self._erase_tasks(family.ended[begin : begin + BATCH])
                if not self._dry_run:  # which counts the whole family at once
                    yield
        self._moved((0.0, _DONE))
        yield

    # --- stages ---------------------------------------------------------------------------------------------------

    async def _windows(
        self, read: Callable[[str, str | None, Position, float, int], Awaitable[Window]]
    ) -> AsyncGenerator[Window]:
        while True:
            position = (self._progress.at, self._progress.key)
            window = await read(self._workspace, self._subject, position, self._progress.until, BATCH)
            if window.last is None:
                return
            self._moved(window.last)
            yield window

    async def _all_schedules(self) -> AsyncGenerator[None]:
        """Deletes schedules whose templates hold the words."""
        if self._dry_run:
            found = await self._schedules.of_subject(self._workspace, self._subject, MOST_SCHEDULES)
            self._count(schedules=len(found) if self._progress.key != _DONE else 0)
            self._moved((0.0, _DONE))
            yield
            return
        while ids := await self._schedules.of_subject(self._workspace, self._subject, BATCH):
            records = [self._record("schedule.deleted", id_, schedule_id=id_) for id_ in ids]
            self._count(schedules=len(await self._schedules.remove(self._workspace, records)))
            yield

    async def _all_hooks(self) -> AsyncGenerator[None]:
        """Deletes hooks that start what holds the words."""
        if self._dry_run:
            found = await self._hooks.of_subject(self._workspace, self._subject, MOST_HOOKS)
            self._count(hooks=len(found) if self._progress.key != _DONE else 0)
            self._moved((0.0, _DONE))
            yield
            return
        while names := await self._hooks.of_subject(self._workspace, self._subject, BATCH):
            records = [self._record("hook.deleted", name, hook=name) for name in names]
            self._count(hooks=len(await self._hooks.remove(self._workspace, records)))
            yield

    async def _all_workflows(self) -> AsyncGenerator[None]:
        """Deletes runs that were given the words, and then workflows whose documents hold them."""
        runs = await self._workflows.runs_of_subject(self._workspace, self._subject, BATCH)
        _refuse([run_id for run_id, is_open in runs if is_open])
        if self._dry_run:
            names = await self._workflows.of_subject(self._workspace, self._subject, MOST_WORKFLOWS)
            every = await self._workflows.runs_of_subject(self._workspace, self._subject, MOST_COUNTED)
            self._count(workflows=len(names) + len(every) if self._progress.key != _DONE else 0)
            self._moved((0.0, _DONE))
            yield
            return
        while runs := await self._workflows.runs_of_subject(self._workspace, self._subject, BATCH):
            records = [self._record("workflow.run_deleted", id_, run_id=id_) for id_, _ in runs]
            self._count(workflows=len(await self._workflows.remove(records)))
            yield
        while names := await self._workflows.of_subject(self._workspace, self._subject, BATCH):
            records = [self._record("workflow.deleted", name, workflow=name) for name in names]
            removed = await self._workflows.remove(records)
            if not removed:
                _refuse([f"a run of {name}" for name in names])
            self._count(workflows=len(removed))
            yield

    async def _tasks(self) -> AsyncGenerator[None]:
        async for window in self._windows(self._erasures.tasks):
            await self._erase_tasks(window.ids)
            yield

    async def _ended_deliberations(self) -> AsyncGenerator[None]:
        async for window in self._windows(self._erasures.deliberations):
            for request_id in window.ids:
                deliberation = await self._deliberations.get(self._workspace, request_id)
                if deliberation is not None:
                    await self._erase_deliberation(deliberation)
            yield

    async def _outcomes(self) -> AsyncGenerator[None]:
        while ids := await self._erasures.outcomes(self._workspace, self._progress.key, BATCH):
            records = [self._record("outcome.erased", id_, outcome_id=id_) for id_ in ids]
            erased = len(ids) if self._dry_run else await self._erasures.erase_outcomes(self._workspace, records)
            self._count(outcomes=erased)
            self._moved((0.0, ids[-1]))
            yield

    async def _rules(self) -> AsyncGenerator[None]:
        """Deletes policies with their versions, rules and channels of notifications, credentials and budgets."""
        if self._dry_run and self._progress.key == _DONE:
            return
        while found := await self._erasures.rules(self._workspace, MOST_COUNTED if self._dry_run else BATCH):
            records = [self._record(kind, entity, **{OF_RULES[kind][0]: entity}) for kind, entity in found]
            done = [True] * len(found) if self._dry_run else await self._erasures.erase_rules(self._workspace, records)
            for kind, there_was in zip((kind for kind, _ in found), done, strict=True):
                self._count(**{OF_RULES[kind][1]: int(there_was)})
            if self._dry_run:
                self._moved((0.0, _DONE))
                yield
                return
            yield

    async def _violations(self) -> AsyncGenerator[None]:
        """Deletes what is written of violations of policies, of which the counts stay."""
        while True:
            position = (self._progress.at, self._progress.key)
            window = await self._erasures.violations(self._workspace, position, BATCH)
            if window.last is None:
                return
            erased = len(window.ids)
            if window.ids and not self._dry_run:
                record = self._record(OF_VIOLATIONS, self._workspace, violation_ids=list(window.ids))
                erased = await self._erasures.erase_violations(self._workspace, record)
            self._count(violations=erased)
            self._moved(window.last)
            yield

    async def _told(self) -> AsyncGenerator[None]:
        """Deletes notifications. Nothing is queued any more, since their rules are gone."""
        if self._dry_run:
            self._count(notifications=await self._erasures.told(self._workspace) if self._progress.key != _DONE else 0)
            self._moved((0.0, _DONE))
            yield
            return
        while told := await self._erasures.erase_told(self._workspace, LOG_BATCH):
            self._count(notifications=told)
            yield

    async def _words(self) -> AsyncGenerator[None]:
        """The words of what else the log says of the workspace, by ranges of numbers."""
        end, _ = await self._erasures.log_end(self._workspace)
        after = int(self._progress.at)
        while after < end:
            through = min(after + LOG_BATCH, end)
            if self._dry_run:
                rows = await self._erasures.log_words(self._workspace, after, through)
            else:
                record = self._record(OF_ROWS, self._workspace, after=after, through=through)
                rows = await self._erasures.erase_log_words(self._workspace, after, through, record)
            self._count(log_rows=rows)
            after = through
            self._moved((float(after), ""))
            yield

    async def _rest(self) -> AsyncGenerator[None]:
        if self._progress.key != _DONE:
            if not self._dry_run:
                await self._erasures.forget_rest(self._workspace)
            self._moved((0.0, _DONE))
            yield

    # --- commits --------------------------------------------------------------------------------------------------

    async def _erase_tasks(self, ids: Sequence[str]) -> None:
        records = [self._record("task.erased", id_, task_id=id_) for id_ in ids]
        if not self._dry_run and records:
            self._count(tasks=await self._erasures.erase_tasks(self._workspace, records))
        else:
            self._count(tasks=len(ids))

    async def _erase_deliberation(self, deliberation: Deliberation) -> None:
        """A deliberation, after the tasks by which it asked agents."""
        request_id, ended_at = deliberation.request_id, deliberation.completed_at
        if deliberation.erased_at is not None:
            return
        if deliberation.terminal is None or ended_at is None:
            _refuse([request_id])
            return
        since, until = deliberation.admitted_at - SKEW_S, ended_at + SKEW_S
        calls = await self._erasures.pull_calls(self._workspace, request_id, since, until)
        _refuse(calls.open)
        await self._erase_tasks(calls.ended)
        if self._dry_run:
            self._count(deliberations=1)
            return
        journal = await self._deliberations.journal(self._workspace, request_id)
        contract, terminal = deliberation.contract, deliberation.terminal
        events = erased_events(await self._signing.signer(), request_id, contract, journal)
        erased = await self._erasures.erase_deliberation(
            self._workspace,
            canonical_json(erased_contract(contract, canonical_sha256(contract), terminal)),
            [(n, canonical_json(left)) for n, left in events],
            [
                self._record("deliberation.erased", request_id, request_id=request_id),
                self._record("outcome.erased", request_id, outcome_id=request_id),
            ],
        )
        self._count(deliberations=int(erased))


def _refuse(unfinished: Sequence[str]) -> None:
    if unfinished:
        named = ", ".join(unfinished[:NAMED])
        raise Conflict(f"Not everything has ended: cancel it or wait for it, then erase again ({named}).", "open_work")
