"""What a run is made from: a submit or a question that was checked when the schedule was made, as stored JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cluster.domain.base.log import Origin
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.schedules.machine import Fire
from cluster.domain.schedules.schedule import Schedule
from cluster.domain.tasks.rules import Edge, TaskRules, WhenFailed
from cluster.domain.tasks.task import IdempotencyKey, NewTask
from cluster.domain.tasks.template import templated_task
from cluster.domain.workflows.document import RunStatus
from cluster.domain.workflows.stored import StoredRun

ROUTE: Final = "schedules"


def deliberation_template(new: NewDeliberation, given: Mapping[str, Any]) -> dict[str, Any]:
    """A checked question. ``given``: its body, which readers are shown."""
    return {
        "deliberation": {
            "contract": new.contract,
            "digest": new.contract_digest.hex(),
            "timeout_s": new.deadline_at - new.admitted_at,
            "given": given,
        }
    }


def run_task(schedule: Schedule, fire: Fire, origin: Origin, now: float) -> tuple[NewTask, IdempotencyKey]:
    """The task that a run is. It starts when those before it have ended, however they did."""
    task = templated_task(schedule.template, id=fire.run, origin=origin, now=now)
    if fire.after:
        edges = tuple(Edge(after=run, when_failed=WhenFailed.RUN_ANYWAY) for run in fire.after)
        task = replace(task, rules=replace(task.rules or TaskRules(), after=edges))
    return task, run_key(fire)


def run_deliberation(schedule: Schedule, fire: Fire, origin: Origin, now: float) -> NewDeliberation:
    """The deliberation that a run is."""
    template = schedule.template["deliberation"]
    return NewDeliberation(
        request_id=fire.run,
        task_id=fire.run,
        origin=origin,
        admitted_at=now,
        deadline_at=now + template["timeout_s"],
        contract=template["contract"],
        contract_digest=bytes.fromhex(template["digest"]),
        mode="async",
        idempotency=run_key(fire),
    )


def workflow_template(name: str, version: int | None, given: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a workflow; without a version each run is of the newest one."""
    return {"workflow": {"name": name, "version": version, "input": given, "metadata": metadata}}


def run_workflow(schedule: Schedule, fire: Fire, origin: Origin, version: int, now: float) -> StoredRun:
    """The run of a workflow that a run is. Its metadata, which each of its tasks gets, say which schedule started it, and when
    it was due (epoch seconds)."""
    template = schedule.template["workflow"]
    return StoredRun(
        id=fire.run,
        workspace=origin.workspace,
        name=template["name"],
        version=version,
        principal=origin.principal,
        metadata={
            "schedule": schedule.id,
            **({} if fire.due is None else {"due_at": fire.due}),
            **template["metadata"],
        },
        status=RunStatus.RUNNING,
        state={},
        created_at=now,
        changed_at=now,
    )


def run_key(fire: Fire) -> IdempotencyKey:
    """The id stands for schedule and due time, so it is the key too, and there is no body that could differ."""
    return IdempotencyKey(route=ROUTE, key=fire.run, body_digest=b"")
