"""Routes of schedules: tasks, deliberations and runs of workflows that start by the clock.

A replica writes definitions itself. Runs that are due are started where the zone's primary is (``actors.schedules``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request

from actors.schedules import change_of, topics_of
from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import Origin, record_for
from cluster.domain.schedules.machine import Change, Event, Pause, Resume, RunNow, step
from cluster.domain.schedules.schedule import RunKind, Schedule, checked, kind_of
from cluster.domain.schedules.template import deliberation_template, workflow_template
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.tasks.template import task_template
from cluster.domain.workflows.document import deliberates
from cluster.domain.workflows.stored import StoredWorkflow
from cluster.ports.schedules import ScheduleChange
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import total_wire
from serve_app.http.spans import note_submits
from serve_app.routes.deliberations import admission
from serve_app.routes.made_before import still_there
from serve_app.routes.submits import new_task
from serve_app.routes.workflows import check_run_metadata, known_workflow
from serve_app.schemas.fields import Offset
from serve_app.schemas.schedules import ScheduleFields, preview_wire, schedule_wire
from serve_app.under_policies import under_policies

router = GuardedRouter(tags=["schedules"])

R = TypeVar("R")
#: Characters of a template, which each run copies.
MOST_TEMPLATE = 262_144
#: How often a change is made anew because the schedule ran or was changed meanwhile.
TRIES = 5


def _template(gate: Gateway, asker: Origin, body: ScheduleFields) -> dict[str, Any] | None:
    """What runs are made from; None if the body does not say.

    Raises: `InvalidRequest` if it says more than one, or what it says is none.
    """
    if [body.task, body.deliberation, body.workflow].count(None) < 2:
        raise InvalidRequest("Give one of task, deliberation and workflow, not both.", "invalid_template")
    now = gate.clock.now()
    if body.task is not None:
        template = task_template(new_task(gate, "task", body.task, asker, now))
    elif body.deliberation is not None:
        given = body.deliberation.model_dump(mode="json", exclude_unset=True, by_alias=True)
        template = deliberation_template(admission(gate, body.deliberation, asker, None, True), given)
    elif body.workflow is not None:
        given_run = body.workflow
        check_json(given_run.input, "input")
        check_run_metadata(given_run.metadata)
        template = workflow_template(given_run.name, given_run.version, given_run.input, given_run.metadata)
    else:
        return None
    if len(canonical_json(template)) > MOST_TEMPLATE:
        raise InvalidRequest(
            f"The template of a run must not exceed {MOST_TEMPLATE:,} characters of JSON; refer to what is larger.",
            "template_too_large",
        )
    return template


async def _may_start(request: Request, asker: Origin, body: ScheduleFields | None, schedule: Schedule | None) -> None:
    """Whoever lets deliberations start, also by a workflow, needs the permission to start one.

    Raises: `Forbidden`, `Unauthenticated`; `NotFound` if there is no such workflow."""
    started = schedule is not None and schedule.kind is RunKind.DELIBERATION
    if body is not None:
        started = started or body.deliberation is not None
        if body.workflow is not None:
            named = await known_workflow(gateway(request), asker, body.workflow.name, body.workflow.version)
            started = started or deliberates(named.document)
    if started:
        await admit(request, Permission.DELIBERATIONS_WRITE)


async def _workflow(request: Request, asker: Origin, schedule: Schedule) -> StoredWorkflow | None:
    """The version that a run of the schedule is of now; None if its runs are of no workflow.

    Raises: `NotFound` if it was deleted; `Forbidden` if it deliberates and the caller may not."""
    if schedule.kind is not RunKind.WORKFLOW:
        return None
    template = schedule.template["workflow"]
    found = await known_workflow(gateway(request), asker, template["name"], template["version"])
    if deliberates(found.document):
        await admit(request, Permission.DELIBERATIONS_WRITE)
    return found


async def _known(gate: Gateway, asker: Origin, schedule_id: str) -> Schedule:
    found = await gate.schedules.get(asker.workspace, check_id(schedule_id, "schedule_id"))
    if found is None:
        raise NotFound(f"There is no schedule {schedule_id}.", "schedule_not_found")
    return found


@router.get("/schedules")
@requires(Permission.TASKS_READ)
async def list_schedules(
    request: Request, asker: Asker, limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Offset = 0
) -> dict[str, Any]:
    """Schedules of the workspace, newest first."""
    found, total = await gateway(request).schedules.list(asker.workspace, limit, offset)
    return {
        "schedules": [schedule_wire(schedule) for schedule in found],
        **total_wire(total),
        "limit": limit,
        "offset": offset,
    }


@router.post("/schedules", status_code=201)
@requires(Permission.TASKS_WRITE)
async def create_schedule(request: Request, body: ScheduleFields, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a schedule; each run is a task, a deliberation or a run of a workflow, in the caller's name. What deliberates also
    takes the permission to start a deliberation. 400 (`InvalidRequest`) if the timing cannot be or no run would ever be due,
    404 (`NotFound`) if there is no such workflow, 409 (`Conflict`) if the key was used with another body or for a schedule
    that has been deleted since, or the workspace has 1,000 schedules."""
    gate = gateway(request)
    await _may_start(request, asker, body, None)
    template = _template(gate, asker, body)
    if template is None:
        raise InvalidRequest("Give a task, a deliberation or a workflow: what each run is.", "invalid_template")
    now = gate.clock.now()
    plan = checked(body.plan(None, now), now, kind_of(template))
    schedule = Schedule(
        id=gate.new_id("sched"),
        workspace=asker.workspace,
        principal=asker.principal,
        name=body.name or "",
        plan=plan,
        template=template,
        created_at=now,
        changed_at=now,
        next_due=plan.next_after(now),
        paused=bool(body.paused),
    )
    idem = None
    if key is not None:
        digest = body_digest(body.model_dump(mode="json", exclude_unset=True))
        idem = IdempotencyKey(route="schedules/create", key=key, body_digest=digest)
    schedule_id = await gate.schedules.create(schedule, _record(asker, now, "schedule.created", schedule), idem)
    return schedule_wire(await still_there(_known(gate, asker, schedule_id), "schedule"))


@router.get("/schedules/{schedule_id}")
@requires(Permission.TASKS_READ)
async def get_schedule(request: Request, schedule_id: str, asker: Asker) -> dict[str, Any]:
    """One schedule, with what its runs are and when the next one starts. 404 (`NotFound`) if there is no such schedule."""
    return schedule_wire(await _known(gateway(request), asker, schedule_id))


@router.put("/schedules/{schedule_id}")
@requires(Permission.TASKS_WRITE)
async def update_schedule(
    request: Request, schedule_id: str, body: ScheduleFields, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Changes a schedule; fields that are left out stay as they are. Runs start in the caller's name from now on. 400
    (`InvalidRequest`) as when it is made, 404 (`NotFound`) if there is no such schedule or workflow."""
    gate = gateway(request)
    await _may_start(request, asker, body, await _known(gate, asker, schedule_id))
    template = _template(gate, asker, body)

    def change(schedule: Schedule, now: float) -> Event:
        chosen = schedule.template if template is None else template
        plan = body.plan(schedule.plan, now)
        if plan != schedule.plan or chosen is template:
            checked(plan, now, kind_of(chosen))
        name = schedule.name if body.name is None else body.name
        return Change(principal=asker.principal, name=name, plan=plan, template=chosen)

    async def changed() -> dict[str, Any]:
        schedule = await _changed(gate, asker, schedule_id, change, "schedule.updated")
        if body.paused is not None:
            schedule = await _set_paused(gate, asker, schedule_id, body.paused)
        return schedule_wire(schedule)

    given = body.model_dump(mode="json", exclude_unset=True)
    return await answered_once(gate, asker, f"schedules/update/{schedule_id}", key, given, changed)


@router.delete("/schedules/{schedule_id}")
@requires(Permission.TASKS_WRITE)
async def delete_schedule(request: Request, schedule_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a schedule; runs that have started go on. 404 (`NotFound`) if there is no such schedule."""
    gate = gateway(request)

    async def delete() -> dict[str, Any]:
        schedule = await _known(gate, asker, schedule_id)
        record = _record(asker, gate.clock.now(), "schedule.deleted", schedule)
        await gate.schedules.remove(asker.workspace, [record])
        return {"deleted": True}

    return await answered_once(gate, asker, f"schedules/delete/{schedule_id}", key, None, delete)


@router.post("/schedules/{schedule_id}/pause")
@requires(Permission.TASKS_WRITE)
async def pause_schedule(request: Request, schedule_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Pauses a schedule: no run starts until it is resumed, and what is due meanwhile is not made up. A repeat changes
    nothing. 404 (`NotFound`) if there is no such schedule."""
    gate = gateway(request)

    async def pause() -> dict[str, Any]:
        return schedule_wire(await _set_paused(gate, asker, schedule_id, True))

    return await answered_once(gate, asker, f"schedules/pause/{schedule_id}", key, None, pause)


@router.post("/schedules/{schedule_id}/resume")
@requires(Permission.TASKS_WRITE)
async def resume_schedule(request: Request, schedule_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Resumes a schedule with the next run that is due. A repeat changes nothing. 404 (`NotFound`) if there is no such
    schedule."""
    gate = gateway(request)

    async def resume() -> dict[str, Any]:
        return schedule_wire(await _set_paused(gate, asker, schedule_id, False))

    return await answered_once(gate, asker, f"schedules/resume/{schedule_id}", key, None, resume)


@router.post("/schedules/{schedule_id}/run")
@requires(Permission.TASKS_WRITE)
async def run_schedule(request: Request, schedule_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Starts a run at once, whatever is due, paused or running; ``run_id`` is its task, deliberation or run of a
    workflow. Send an ``Idempotency-Key`` to make repeats safe. 404 (`NotFound`) if there is no such schedule, or its workflow
    was deleted."""
    gate = gateway(request)
    await _may_start(request, asker, None, await _known(gate, asker, schedule_id))
    asked = gate.new_id("run") if key is None else f"asked:{key}"

    async def attempt() -> str:
        schedule = await _known(gate, asker, schedule_id)
        run = schedule.run_id(asked)
        if key is None or not await gate.schedules.has_run(asker.workspace, run):
            now = gate.clock.now()
            after, effects = step(schedule, RunNow(key=asked), now)
            workflow = await _workflow(request, asker, schedule)
            change = change_of(after, effects, asker, asker, now, workflow)
            change = replace(change, tasks=await under_policies(gate, asker, change.tasks))
            await gate.schedules.change([change])
            gate.notify(*topics_of([change]))
            note_submits(change.tasks)
        return run

    return {"schedule_id": schedule_id, "run_id": await _again(attempt)}


@router.get("/schedules/{schedule_id}/preview")
@requires(Permission.TASKS_READ)
async def preview_schedule(
    request: Request, schedule_id: str, asker: Asker, count: Annotated[int, Query(ge=1, le=100)] = 10
) -> dict[str, Any]:
    """When the next runs are due, and when they start with their jitter, as if nothing were paused. 404 (`NotFound`) if
    there is no such schedule."""
    gate = gateway(request)
    schedule = await _known(gate, asker, schedule_id)
    return preview_wire(schedule, schedule.preview(gate.clock.now(), count))


def _record(asker: Origin, now: float, kind: str, schedule: Schedule) -> Any:
    return record_for(asker, now, kind, schedule.id, {"schedule_id": schedule.id})


async def _set_paused(gate: Gateway, asker: Origin, schedule_id: str, paused: bool) -> Schedule:
    event, kind = (Pause(), "schedule.paused") if paused else (Resume(), "schedule.resumed")
    return await _changed(gate, asker, schedule_id, lambda schedule, now: event, kind)


async def _changed(
    gate: Gateway, asker: Origin, schedule_id: str, event: Callable[[Schedule, float], Event], kind: str
) -> Schedule:
    """The schedule after an event, which is stored if it changes anything."""

    async def attempt() -> Schedule:
        schedule, now = await _known(gate, asker, schedule_id), gate.clock.now()
        after, _ = step(schedule, event(schedule, now), now)
        if after.revision == schedule.revision:
            return schedule
        records = [_record(asker, now, kind, after)]
        await gate.schedules.change([ScheduleChange(schedule=after, records=records, defined=True)])
        return after

    return await _again(attempt)


async def _again(attempt: Callable[[], Awaitable[R]]) -> R:
    """What ``attempt`` returns, which reads the schedule anew each time.

    Raises: `Conflict` if the schedule runs or is changed by others all the time.
    """
    for _ in range(TRIES - 1):
        try:
            return await attempt()
        except Conflict as conflict:
            if conflict.code != "schedule_changed":
                raise
    return await attempt()
