"""Carries out what the machine of a run says: reads values, makes tasks and deliberations, and adds them to a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from actors.under_policies import judged_items
from actors.workflows.commits import Commit, run_record
from actors.workflows.values import Values
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.expressions import ConditionFailed, Expression
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.tasks.template import templated_task
from cluster.domain.workflows.deliberations import run_deliberation, why_refused
from cluster.domain.workflows.document import INDEX, FailureCode, Step, Workflow, workflow_of
from cluster.domain.workflows.inputs import Input, InputMaker
from cluster.domain.workflows.machine import (
    ALONE,
    Await,
    Count,
    Counted,
    Effect,
    Event,
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
)
from cluster.domain.workflows.stored import StoredRun, StoredWorkflow, task_id
from cluster.domain.workflows.values import ITEM, Unresolved, references, resolved
from cluster.domain.workflows.waits import NoTime
from cluster.ports.clock import Clock
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.tasks import SubmitItem
from cluster.ports.workflows import Workflows
from cluster.process.large import in_thread_if_large, rough_size

#: Items of a list before it is filtered.
MOST_FILTERED: Final = 100_000
KEPT_WORKFLOWS: Final = 100
ROUTE: Final = "workflows"


class Documents:
    """The documents of runs, read once and kept for a while."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows
        #: (workspace, name, version) → the document as it is stored and as it is read, the oldest first.
        self._kept: dict[tuple[str, str, int], tuple[StoredWorkflow, Workflow]] = {}

    def clear(self) -> None:
        """Forgets all: a workflow was deleted, and one of its name begins with version 1 again."""
        self._kept.clear()

    async def of(self, run: StoredRun) -> tuple[StoredWorkflow, Workflow]:
        key = (run.workspace, run.name, run.version)
        if key not in self._kept:
            stored = await self._workflows.get(*key)
            assert stored is not None, "a workflow with an open run is not deleted"
            while len(self._kept) >= KEPT_WORKFLOWS:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = stored, workflow_of(stored.document)
        return self._kept[key]


class StepEffects:
    """It adds to commits and stores nothing itself."""

    def __init__(
        self, *, policies: Callable[[], WorkspacePolicies], documents: Documents, values: Values, clock: Clock
    ) -> None:
        self._policies = policies
        self._documents = documents
        self._values = values
        self._clock = clock

    async def carry_out(self, commit: Commit, stored: StoredRun, run: Run, effect: Effect) -> Sequence[Event]:
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
                commit.records.append(
                    run_record(stored, self._clock.now(), "workflow.run_step_ended", {**data, **code})
                )
            case RunEnded():
                data = {"run_id": stored.id, "workflow": stored.name, "status": effect.status.value}
                commit.records.append(run_record(stored, self._clock.now(), "workflow.run_ended", data))
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

    async def _start(self, commit: Commit, stored: StoredRun, run: Run, effect: Start) -> list[Event]:
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

    def _admit(self, commit: Commit, stored: StoredRun, of: Step, asked: dict[int, Input]) -> list[Event]:
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

    async def _submit(self, commit: Commit, stored: StoredRun, of: Step, inputs: dict[int, Input]) -> list[Event]:
        """Adds tasks by their index to the commit; returns the ends of those that policies refuse."""
        document, _ = await self._documents.of(stored)
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
