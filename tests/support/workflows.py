"""What tests of workflows share: documents and runs on real stores, what advances them, and agents that do their tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.workflows.keeper import WorkflowKeeper
from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import Origin, record_for
from cluster.domain.deliberation.log_entries import ended_row
from cluster.domain.deliberation.stored import JournalAppend, JournalEvent
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.events import Claim, Complete, Fail, Reporter
from cluster.domain.tasks.events import Event as TaskEvent
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import ErrorClass, RetryPolicy
from cluster.domain.tasks.task import NewTask, TaskStatus
from cluster.domain.tasks.template import task_template
from cluster.domain.workflows.document import RunStatus
from cluster.domain.workflows.stored import SignalAnswer, StoredRun, StoredWorkflow
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.samples import NOW
from tests.support.schedules import SilentBell

ORIGIN = Origin(workspace="w", principal="user:tester", cause="trace-1")
#: What an agent makes of a payload; an exception is a failure.
Work = Callable[[Any], Any]


def task(payload: Any = None, **fields: Any) -> dict[str, Any]:
    return {"task_type": "work", **({} if payload is None else {"input": payload}), **fields}


def fan_out(over: Any, payload: Any, **fields: Any) -> dict[str, Any]:
    return {"over": over, "task": task(payload), **fields}


async def apply(stores: Stores, *steps: dict[str, Any], name: str = "flow", origin: Origin = ORIGIN) -> StoredWorkflow:
    template = task_template(NewTask(id="", origin=origin, task_type="work", created_at=0.0, max_retries=0))
    newest = await stores.workflows.get(origin.workspace, name)
    workflow = StoredWorkflow(
        workspace=origin.workspace,
        name=name,
        version=1 if newest is None else newest.version + 1,
        principal=origin.principal,
        document={"name": name, "steps": list(steps)},
        templates={given["id"]: template for given in steps if "task" in given or "task" in given.get("map", {})},
        digest=b"digest",
        created_at=NOW,
    )
    record = record_for(origin, NOW, "workflow.applied", name, {"workflow": name, "version": workflow.version})
    assert await stores.workflows.apply(workflow, record)
    return workflow


async def start(
    stores: Stores,
    workflow: StoredWorkflow,
    input: Any = None,
    run_id: str = "wfrun_1",
    key: Any = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    run = StoredRun(
        id=run_id,
        workspace=workflow.workspace,
        name=workflow.name,
        version=workflow.version,
        principal=workflow.principal,
        metadata=metadata or {},
        status=RunStatus.RUNNING,
        state={},
        created_at=NOW,
        changed_at=NOW,
    )
    data = {"run_id": run.id, "workflow": run.name, "version": run.version}
    origin = Origin(workspace=workflow.workspace, principal=workflow.principal, cause="trace-2")
    return await stores.workflows.start(run, input, record_for(origin, NOW, "workflow.run_started", run.id, data), key)


async def send_signal(
    stores: Stores, name: str, value: Any, run_id: str = "wfrun_1", steps: Sequence[str] | None = None
) -> SignalAnswer:
    """``steps``: those that wait for it, by default the run's document says which."""
    if steps is None:
        _, waiting = await stores.workflows.waiting(ORIGIN.workspace, run_id, name)
        steps = waiting or []
    record = record_for(ORIGIN, NOW, "workflow.run_signalled", run_id, {"run_id": run_id, "signal": name})
    return await stores.workflows.signal(record, name, value, steps)


async def run_of(stores: Stores, run_id: str = "wfrun_1", workspace: str = "w") -> StoredRun:
    return (await stores.workflows.runs(workspace, [run_id]))[run_id]


async def submitted(stores: Stores) -> list[str]:
    return [row.entity for row in await stores.log.read(0, 100_000) if row.kind == "task.submitted"]


class Agents:
    """Do open tasks, in the place of a scheduler."""

    def __init__(self, stores: Stores, workspace: str = "w") -> None:
        self._stores = stores
        self._workspace = workspace
        #: One decides at a time: each takes a generation, which would fence another one's decision.
        self._turn = asyncio.Lock()

    async def decide(self, task_id: str, *events: TaskEvent) -> None:
        """Raises: `Conflict` if the task does not wait."""
        async with self._turn:
            await self._decide(task_id, events)

    async def _decide(self, task_id: str, events: Sequence[TaskEvent]) -> None:
        found = await self._stores.tasks.get(self._workspace, task_id)
        assert found is not None
        if found.status is not TaskStatus.PENDING:
            raise Conflict("It has ended.")
        fence = await self._stores.tasks.take_generation("shard", "agents")
        origin = replace(ORIGIN, workspace=self._workspace)
        new = NewTask(id=task_id, origin=origin, task_type="work", created_at=found.created_at, max_retries=0)
        head = new.head()
        for event in events:
            transition = step(head, event, NOW + 1, RetryPolicy())
            assert transition.decision is not None
            await self._stores.tasks.decide(fence, [transition.decision])
            head = transition.head

    async def open(self) -> list[str]:
        return [task.id for task in await self._stores.tasks.oldest(self._workspace, TaskStatus.PENDING, 1000)]

    async def do(self, task_id: str, work: Work) -> None:
        """Claims a task, and completes it with what the work makes of its payload."""
        ((payload, _),) = (await self._stores.tasks.bodies(self._workspace, [task_id])).values()
        by = Reporter(principal="p1", agent_id="a1", attempt=1)
        try:
            end: TaskEvent = Complete(by=by, result_json=json.dumps(work(payload)))
        except ValueError as error:
            end = Fail(by=by, error=str(error), error_class=ErrorClass.NOT_RETRYABLE)
        await self.decide(task_id, Claim(agent_id="a1", claim_id="c1", principal="p1"), end)

    async def cancel(self, request: CancelRequest) -> None:
        await self.decide(request.task_id, request.event)


async def decide(stores: Stores, request_id: str, answer: str | None, terminal: str = "DECIDED") -> None:
    """Ends a deliberation, in the place of its worker and panel."""
    (taken,) = await stores.deliberations.take([request_id], "worker")
    assert taken is not None, f"{request_id} is open"
    outcome = {"answer": answer, "confidence": 0.9, "rounds": 0, "panel": ["a1", "a2"], "mode": "agree_k"}
    ended = {"terminal": terminal, "reason": "", "outcome": outcome}
    item = JournalAppend(
        request_id=request_id,
        workspace=taken.deliberation.workspace,
        fence=taken.deliberation.fence,
        events=(JournalEvent(n=taken.deliberation.events + 1, at=NOW, kind="ended", data=ended),),
        log=((0, *ended_row(ended, 1.0, 60.0)),),
        state="ENDED",
        terminal=terminal,
        result=outcome,
        completed_at=NOW,
    )
    assert await stores.deliberations.append([item]) == [True]


async def open_deliberations(stores: Stores) -> list[str]:
    return sorted(request_id for request_id, _ in await stores.deliberations.open())


def workflow_keeper(stores: Stores, agents: Agents | None = None, **parts: Any) -> WorkflowKeeper:
    return WorkflowKeeper(
        **{
            "workflows": stores.workflows,
            "policies": lambda: stores.policies,
            "deliberations": lambda: stores.deliberations,
            "region": stores.region,
            "cancel": (agents or Agents(stores)).cancel,
            "doorbell": SilentBell(),
            "clock": ManualClock(NOW),
            **parts,
        }
    )


async def settle(keeper: WorkflowKeeper) -> None:
    """Advances runs until nothing is left to do before a task ends."""
    for _ in range(100):
        if not await keeper.advance():
            return
    raise AssertionError("it goes on for ever")
