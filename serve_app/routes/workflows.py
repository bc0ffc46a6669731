"""Routes of workflows: their documents, and their runs.

A replica stores documents and new runs. Runs are advanced where the zone's primary is (``actors.workflows``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Conflict, ControlPlaneError, InvalidRequest, NotFound, Removed
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import Origin, record_for
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.tasks.template import task_template
from cluster.domain.workflows.deliberations import check_deliberation
from cluster.domain.workflows.document import (
    MOST_VERSIONS,
    RunStatus,
    StepStatus,
    deliberates,
    workflow_of,
)
from cluster.domain.workflows.machine import Run
from cluster.domain.workflows.replay import replay_of
from cluster.domain.workflows.stored import (
    RUN_PREFIX,
    SignalAnswer,
    StoredRun,
    StoredWorkflow,
    result_ids,
    started_data,
)
from cluster.domain.workflows.waits import MOST_SIGNAL_CHARS, MOST_SIGNALS_CHARS
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Filter, total_wire
from serve_app.routes.submits import new_task
from serve_app.routes.task_reads import Wait, at_its_end
from serve_app.schemas.fields import Offset
from serve_app.schemas.workflows import (
    MOST_METADATA,
    ReplayRun,
    SendSignal,
    StartRun,
    WorkflowDocument,
    run_wire,
    schema,
    workflow_wire,
)

router = GuardedRouter(tags=["workflows"])

#: Characters of a document, and of all results in one answer.
MOST_DOCUMENT = 262_144
MOST_RESULTS = 4_000_000
#: How often a document is stored anew because another version was stored meanwhile.
TRIES = 5

Limit = Annotated[int, Query(ge=1, le=1000)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


async def known_workflow(gate: Gateway, asker: Origin, name: str, version: int | None = None) -> StoredWorkflow:
    """One version of a workflow, the newest if none is given. Raises: `NotFound` if there is none."""
    found = await gate.workflows.get(asker.workspace, check_id(name, "name"), version)
    if found is None:
        which = name if version is None else f"{name} of version {version}"
        raise NotFound(f"There is no workflow {which}; apply its document first.", "workflow_not_found")
    return found


async def _known_run(gate: Gateway, asker: Origin, run_id: str) -> StoredRun:
    found = (await gate.workflows.runs(asker.workspace, [check_id(run_id, "run_id")])).get(run_id)
    if found is None:
        raise await _absent(gate, asker, run_id)
    return found


async def _absent(gate: Gateway, asker: Origin, run_id: str) -> ControlPlaneError:
    """What says that there is no such run any more, or never was."""
    stub = await gate.workflows.stub(asker.workspace, run_id)
    return NotFound(f"There is no run {run_id}.", "run_not_found") if stub is None else stub.error("run")


@router.get("/workflow-schema")
@requires(Permission.TASKS_READ)
async def get_workflow_schema(request: Request) -> dict[str, Any]:
    """The JSON Schema of the documents that workflows are."""
    return {"schema": schema()}


@router.get("/workflows")
@requires(Permission.TASKS_READ)
async def list_workflows(request: Request, asker: Asker, limit: Limit = 100, offset: Offset = 0) -> dict[str, Any]:
    """Workflows of the workspace by name, each in its newest version."""
    found, total = await gateway(request).workflows.list(asker.workspace, limit, offset)
    workflows = [workflow_wire(workflow) for workflow in found]
    return {"workflows": workflows, **total_wire(total), "limit": limit, "offset": offset}


@router.post("/workflows", status_code=201)
@requires(Permission.TASKS_WRITE)
async def apply_workflow(request: Request, body: WorkflowDocument, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Stores a document as the next version of the workflow of its name; the same document again is no new version. Runs that
    were started keep theirs. One that deliberates also takes the permission to start a deliberation. 400 (`InvalidRequest`,
    ``invalid_workflow`` or ``limit_exceeded``) if its steps cannot be, 409 (`Conflict`) if the workspace has 1,000
    workflows."""
    gate = gateway(request)
    check_json(body.model_dump(exclude_unset=True), "the document")  # before NaN becomes null, as JSON has none
    document = body.model_dump(mode="json", exclude_unset=True)
    if len(canonical_json(document)) > MOST_DOCUMENT:
        raise InvalidRequest(
            f"A document must not exceed {MOST_DOCUMENT:,} characters of JSON; give large values as input of the run.",
            "limit_exceeded",
        )
    workflow_of(document)
    now = gate.clock.now()
    await _may_start(request, document)
    for step in body.steps:
        if (asked := step.question()) is not None:
            _check_asked(step.id, asked)
    templates = {
        step.id: task_template(new_task(gate, "task", task.submit(), asker, now))
        for step in body.steps
        if (task := step.work()) is not None
    }

    async def apply() -> dict[str, Any]:
        return workflow_wire(await _applied(gate, asker, document, templates, now))

    return await answered_once(gate, asker, "workflows", key, document, apply)


async def _applied(
    gate: Gateway, asker: Origin, document: dict[str, Any], templates: dict[str, Any], now: float
) -> StoredWorkflow:
    """Raises: `Conflict` if others store versions all the time, or there are too many."""
    name, digest = document["name"], body_digest(document)
    for _ in range(TRIES):
        newest = await gate.workflows.get(asker.workspace, name)
        if newest is not None and newest.digest == digest:
            return newest
        version = 1 if newest is None else newest.version + 1
        if version > MOST_VERSIONS:
            raise Conflict(f"{name} has {MOST_VERSIONS:,} versions; give the workflow another name.", "limit_exceeded")
        workflow = StoredWorkflow(
            workspace=asker.workspace,
            name=name,
            version=version,
            principal=asker.principal,
            document=document,
            templates=templates,
            digest=digest,
            created_at=now,
        )
        data = {"workflow": name, "version": version}
        if await gate.workflows.apply(workflow, record_for(asker, now, "workflow.applied", name, data)):
            return workflow
    raise Conflict(f"Others store versions of {name} now; try again.", "workflow_changed")


def _check_asked(step_id: str, asked: dict[str, Any]) -> None:
    """Raises: `InvalidRequest` if the step can never ask this."""
    try:
        check_deliberation(asked)
    except InvalidRequest as error:
        raise InvalidRequest(f"Step {step_id}: {error.message}", error.code) from None


async def _may_start(request: Request, document: Mapping[str, Any]) -> None:
    """Whoever starts deliberations by a run needs the permission to start one.

    Raises: `Forbidden`, `Unauthenticated`."""
    if deliberates(document):
        await admit(request, Permission.DELIBERATIONS_WRITE)


@router.get("/workflows/{name}")
@requires(Permission.TASKS_READ)
async def get_workflow(request: Request, name: str, asker: Asker, version: Version = None) -> dict[str, Any]:
    """One version of a workflow, the newest if none is given. 404 (`NotFound`) if there is no such workflow or version."""
    return workflow_wire(await known_workflow(gateway(request), asker, name, version))


@router.delete("/workflows/{name}")
@requires(Permission.TASKS_WRITE)
async def delete_workflow(request: Request, name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes all versions of a workflow; its runs stay. 404 (`NotFound`) if there is no such workflow, 409 (`Conflict`,
    ``open_work``) while a run of it has not ended."""
    gate = gateway(request)

    async def delete() -> dict[str, Any]:
        await known_workflow(gate, asker, name)
        record = record_for(asker, gate.clock.now(), "workflow.deleted", name, {"workflow": name})
        if not await gate.workflows.remove([record]):
            raise Conflict(f"A run of {name} has not ended; wait for it or cancel it first.", "open_work")
        return {"deleted": True}

    return await answered_once(gate, asker, f"workflows/delete/{name}", key, None, delete)


@router.post("/workflows/{name}/runs", status_code=201)
@requires(Permission.TASKS_WRITE)
async def start_run(request: Request, name: str, body: StartRun, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Starts a run, whose tasks are submitted in the caller's name. One that deliberates also takes the permission to start a
    deliberation. Send an ``Idempotency-Key`` to make repeats safe. 404 (`NotFound`) if there is no such workflow or version,
    409 (`Conflict`) if the key was used with another body."""
    gate = gateway(request)
    check_json(body.input, "input")
    check_run_metadata(body.metadata)
    workflow = await known_workflow(gate, asker, name, body.version)
    await _may_start(request, workflow.document)
    idem = None
    if key is not None:
        digest = body_digest(body.model_dump(mode="json", exclude_unset=True))
        idem = IdempotencyKey(route=f"workflows/runs/{name}", key=key, body_digest=digest)
    run_id = await started_run(gate, asker, workflow, body.input, body.metadata, idem, gate.new_id(RUN_PREFIX))
    return run_wire(await _known_run(gate, asker, run_id))


def check_run_metadata(metadata: dict[str, Any]) -> None:
    """Returns if a run can have these metadata, which each of its tasks gets. Raises: `InvalidRequest` if not."""
    check_json(metadata, "metadata")
    if len(canonical_json(metadata)) > MOST_METADATA:
        raise InvalidRequest(
            f"metadata must not exceed {MOST_METADATA:,} characters of JSON; put more into input.", "limit_exceeded"
        )


async def started_run(
    gate: Gateway,
    asker: Origin,
    workflow: StoredWorkflow,
    given: Any,
    metadata: dict[str, Any],
    key: IdempotencyKey | None,
    run_id: str,
) -> str:
    """Starts a run in the asker's name, and returns its id, which is that of the first call if the key was used before.

    Raises: `Conflict` if the key was used with another body."""
    now = gate.clock.now()
    run = StoredRun(
        id=run_id,
        workspace=asker.workspace,
        name=workflow.name,
        version=workflow.version,
        principal=asker.principal,
        metadata=metadata,
        status=RunStatus.RUNNING,
        state={},
        created_at=now,
        changed_at=now,
    )
    record = record_for(asker, now, "workflow.run_started", run.id, started_data(run))
    started = await gate.workflows.start(run, given, record, key)
    gate.notify(WakeTopic.WORKFLOWS)
    return started


@router.get("/workflow-runs")
@requires(Permission.TASKS_READ)
async def list_runs(
    request: Request,
    asker: Asker,
    workflow: Filter = None,
    status: RunStatus | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Runs of the workspace, newest first."""
    found, total = await gateway(request).workflows.list_runs(asker.workspace, workflow, status, limit, offset)
    return {"runs": [run_wire(run) for run in found], **total_wire(total), "limit": limit, "offset": offset}


@router.get("/workflow-runs/{run_id}")
@requires(Permission.TASKS_READ)
async def get_run(
    request: Request, run_id: str, asker: Asker, wait: Wait = 0.0, results: bool = False
) -> dict[str, Any]:
    """One run with its steps. With ``wait`` it is answered when the run has ended, or so many seconds have passed (at most 25).
    With ``results`` each step that has completed has its ``result``, unless those before it are some megabytes. 404
    (`NotFound`) if there is no such run, 410 (`Removed`) if retention has removed it."""
    gate = gateway(request)
    run = await at_its_end(
        request,
        asker,
        run_id,
        wait,
        read=lambda: _known_run(gate, asker, run_id),
        ended=lambda found: found.ended_at is not None,
    )
    if not results:
        return run_wire(run)
    return run_wire(run, *await _results(gate, run))


async def _results(gate: Gateway, run: StoredRun) -> tuple[dict[str, Any], frozenset[str]]:
    """(results by step, the steps whose results are not shown: there is no room for them, or retention has removed their
    tasks)."""
    found: dict[str, Any] = {}
    left_out: set[str] = set()
    completed = {step_id: state for step_id, state in run.steps.items() if state.status is StepStatus.COMPLETED}
    signalled = any(state.signal is not None for state in completed.values())
    signals = await gate.workflows.signals(run.workspace, run.id) if signalled else {}
    for step_id, state in completed.items():
        if state.total is None:
            found[step_id] = state.result if state.signal is None else signals[state.signal]
    ids = {step: result_ids(run.id, step, state) for step, state in completed.items() if state.total is not None}
    asked = [[id_ for id_ in of_step if id_ is not None] for of_step in ids.values()]
    results, _ = await gate.workflows.results(run.workspace, asked, MOST_RESULTS) if asked else ({}, [])
    for step_id, of_step in ids.items():
        if any(id_ is not None and id_ not in results for id_ in of_step):
            left_out.add(step_id)
            continue
        values = [None if id_ is None else results[id_] for id_ in of_step]
        found[step_id] = values if completed[step_id].fan_out else values[0]
    return found, frozenset(left_out)


@router.post("/workflow-runs/{run_id}/cancel")
@requires(Permission.TASKS_WRITE)
async def cancel_run(request: Request, run_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Cancels a run: no step starts any more, its open tasks are cancelled, and it ends when those have. A repeat changes
    nothing. 404 (`NotFound`) if there is no such run, 409 (`Conflict`, ``already_terminal``) if it has ended."""
    gate = gateway(request)

    async def cancel() -> dict[str, Any]:
        run = await _known_run(gate, asker, run_id)
        if run.ended_at is not None:
            raise Conflict(f"Run {run_id} has ended: {run.status.value}.", "already_terminal")
        if run.status is RunStatus.RUNNING:
            data = {"run_id": run_id}
            await gate.workflows.ask(record_for(asker, gate.clock.now(), "workflow.run_cancel_requested", run_id, data))
            gate.notify(WakeTopic.WORKFLOWS)
        return run_wire(run)

    return await answered_once(gate, asker, f"workflow-runs/cancel/{run_id}", key, None, cancel)


@router.post("/workflow-runs/{run_id}/replay", status_code=201)
@requires(Permission.TASKS_WRITE)
async def replay_run(request: Request, run_id: str, body: ReplayRun, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Starts a run of the same version and input that keeps what an ended run has done, but for ``from_step`` and what comes
    after it, and what did not complete. Signals that kept steps had are kept. 400 (`InvalidRequest`, ``unknown_step``), 404
    (`NotFound`) if there is no such run or its workflow was deleted, 409 (`Conflict`) if it has not ended (``open_work``), or
    nothing would run (``nothing_to_replay``), 410 (`Removed`) if retention has removed what is to be kept."""
    gate = gateway(request)
    old = await _known_run(gate, asker, run_id)
    if old.ended_at is None:
        raise Conflict(f"Run {run_id} has not ended; wait for it or cancel it first.", "open_work")
    document = (await known_workflow(gate, asker, old.name, old.version)).document
    await _may_start(request, document)
    workflow = workflow_of(document)
    if workflow.steps.keys() != old.steps.keys():
        raise Conflict(f"{old.name} was deleted and applied anew, so start a run of it.", "workflow_changed")
    run = replay_of(Run.from_json(workflow, old.status, old.state, old.ended_at), run_id, body.from_step)
    now = gate.clock.now()
    new = replace(
        old,
        id=gate.new_id(RUN_PREFIX),
        principal=asker.principal,
        status=run.status,
        state=run.to_json(),
        created_at=now,
        changed_at=now,
        ended_at=None,
        replays=run_id,
    )
    await _check_kept(gate, new)
    idem = None
    if key is not None:
        digest = body_digest(body.model_dump(mode="json", exclude_unset=True))
        idem = IdempotencyKey(route=f"workflow-runs/replay/{run_id}", key=key, body_digest=digest)
    data = {"run_id": new.id, "workflow": new.name, "version": new.version, "replays": run_id}
    started = await gate.workflows.start(new, None, record_for(asker, now, "workflow.run_started", new.id, data), idem)
    gate.notify(WakeTopic.WORKFLOWS)
    return run_wire(await _known_run(gate, asker, started))


async def _check_kept(gate: Gateway, run: StoredRun) -> None:
    """Raises: `Removed` if a task that the run refers to is no longer there."""
    for step_id, state in run.steps.items():
        ids = [] if state.run is None else [id_ for id_ in result_ids(run.id, step_id, state) if id_ is not None]
        if ids and len(await gate.workflows.kept(run.workspace, ids)) < len(ids):
            raise Removed(f"Retention has removed what step {step_id} did; replay from it.", "result_removed")


@router.post("/workflow-runs/{run_id}/signals/{signal}")
@requires(Permission.TASKS_WRITE)
async def signal_run(
    request: Request, run_id: str, signal: str, body: SendSignal, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Sends a run a signal, whose value is the result of the steps that wait for it, now or later. The same value again
    changes nothing. 400 (`InvalidRequest`, ``limit_exceeded``) if the value is too long, 404 (`NotFound`) if there is no such
    run or none of its steps waits for such a signal, 409 (`Conflict`) if it was sent with another value
    (``already_signalled``), or no step waits for it any more (``already_terminal``)."""
    gate = gateway(request)
    check_signal_value(body.value)

    async def send() -> dict[str, Any]:
        await sent_signal(gate, asker, run_id, signal, body.value)
        return {"run_id": run_id, "signal": signal}

    return await answered_once(
        gate, asker, f"workflow-runs/signals/{run_id}/{signal}", key, {"value": body.value}, send
    )


def check_signal_value(value: Any) -> None:
    """Returns if a signal can have this value. Raises: `InvalidRequest` if not."""
    check_json(value, "value")
    if len(canonical_json(value)) > MOST_SIGNAL_CHARS:
        raise InvalidRequest(
            f"The value of a signal must not exceed {MOST_SIGNAL_CHARS:,} characters of JSON; send a reference to more.",
            "limit_exceeded",
        )


async def sent_signal(gate: Gateway, asker: Origin, run_id: str, signal: str, value: Any) -> None:
    """Sends a run a signal. It reads no state of the run, which grows with the steps.

    Raises: `NotFound` if there is no such run or no step of it waits for such a signal, `Removed` if retention has removed
    the run; `Conflict` if the signal was not taken."""
    known, steps = await gate.workflows.waiting(asker.workspace, check_id(run_id, "run_id"), signal)
    if not known:
        raise await _absent(gate, asker, run_id)
    if steps == []:
        raise NotFound(f"No step of run {run_id} waits for such a signal; see its workflow.", "signal_not_found")
    data = {"run_id": run_id, "signal": signal}
    record = record_for(asker, gate.clock.now(), "workflow.run_signalled", run_id, data)
    _check_sent(await gate.workflows.signal(record, signal, value, steps or []), run_id)
    gate.notify(WakeTopic.WORKFLOWS)


def _check_sent(answer: SignalAnswer, run_id: str) -> None:
    """Raises: `NotFound` or `Conflict` if a signal was not taken."""
    match answer:
        case SignalAnswer.ABSENT:
            raise NotFound(f"There is no run {run_id}.", "run_not_found")
        case SignalAnswer.OTHER:
            raise Conflict(f"Run {run_id} was sent this signal with another value, which stays.", "already_signalled")
        case SignalAnswer.LATE:
            raise Conflict(f"No step of run {run_id} waits for this signal any more.", "already_terminal")
        case SignalAnswer.FULL:
            raise Conflict(
                f"Run {run_id} would have more than {MOST_SIGNALS_CHARS:,} characters of signals; send references.",
                "limit_exceeded",
            )
        case SignalAnswer.TAKEN | SignalAnswer.REPEATED:
            pass
