"""Routes of deliberations: put a question to several agents, read the result, cancel."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import Header, Query, Request
from starlette.responses import JSONResponse, Response

from cluster.domain.access.permissions import Permission
from cluster.domain.base.conditions import Search
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin, record_for
from cluster.domain.deliberation.config import MATERIAL, make_contract
from cluster.domain.deliberation.request_ids import request_id_in
from cluster.domain.deliberation.stored import Deliberation, NewDeliberation
from cluster.domain.deliberation.wire import STATES_OF, record_wire, result_wire, status_wire, transcript_wire
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.workflows.stored import is_of_run
from cluster.ports.deliberations import DeliberationQuery
from cluster.ports.totals import Total
from cluster.ports.wake_ups import WakeTopic
from cluster.process import spans
from cluster.process.waits import LONGEST_WAIT_S
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.http.paging import Cursor, Sort, check_sort, decode_cursor, encode_cursor, total_wire
from serve_app.http.searching import Searching
from serve_app.routes.known import known_deliberation
from serve_app.routes.task_reads import Wait, at_its_end
from serve_app.schemas.deliberations import Deliberate
from serve_app.schemas.fields import Offset

router = GuardedRouter(tags=["deliberations"])

#: A synchronous call is answered 202 before the released client gives up waiting (30 s) and sends it again.
SYNC_WAIT_S = LONGEST_WAIT_S - 1.0


def admission(gate: Gateway, body: Deliberate, asker: Origin, key: str | None, is_async: bool) -> NewDeliberation:
    check_json(body.config, "config")
    check_json(body.context, "context")
    check_json(body.content, "content")
    material = {name: getattr(body, name) for name in MATERIAL}
    check_json(material, "documents, attachments and evidence")
    home = gate.settings.workspace
    if body.request_id is not None and is_of_run(body.request_id):
        raise InvalidRequest("request_id is that of a workflow's step; choose another one.", "invalid_id")
    chosen = body.request_id and request_id_in(asker.workspace, home, body.request_id)
    request_id = chosen or gate.new_id("delib")
    digest = body_digest(body.model_dump(mode="json"))
    seed = body.config.get("seed")
    if not isinstance(seed, str | None):
        raise InvalidRequest("config.seed must be a text.", "invalid_config")
    contract = make_contract(
        question=body.content,
        decision_type=body.decision_type,
        config=body.config,
        required_capabilities=body.required_capabilities,
        timeout_s=body.timeout_seconds,
        seed=digest.hex()[:16] if seed is None else seed,
        context=body.context,
        material=material,
    )
    idem = None
    if key is not None:
        idem = IdempotencyKey(route="deliberations", key=key, body_digest=digest)
    elif body.request_id is None:  # the released client sends no key: its repeats are recognised by their body
        soft = f"{asker.principal}:{digest.hex()}"
        idem = IdempotencyKey(route="deliberations:body", key=soft, body_digest=digest)
    now = gate.clock.now()
    return NewDeliberation(
        request_id=request_id,
        task_id=request_id,
        origin=asker,
        admitted_at=now,
        deadline_at=now + contract.timeout_s,
        contract=contract.to_json(),
        contract_digest=contract.digest(),
        mode="async" if is_async else "sync",
        idempotency=idem,
    )


@router.post("/deliberations", response_model=None)
@requires(Permission.DELIBERATIONS_WRITE)
async def create_deliberation(
    request: Request,
    body: Deliberate,
    asker: Asker,
    key: Idempotency,
    x_request_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Puts a question to several agents. Answers 200 with the result, or 202 with a ``Location`` if the call is asynchronous
    or takes longer than 24 s. 409 (`Conflict`) if the request id or the key was used with another body, 410 (`Removed`,
    ``deliberation_removed``) if the request id is that of a deliberation that retention has removed."""
    gate = gateway(request)
    is_async = body.is_async or body.mode == "async"
    new = admission(gate, body, asker, key, is_async)
    if body.request_id is not None:
        stub = await gate.deliberations.stub(asker.workspace, new.request_id)
        if stub is not None:
            raise stub.error("deliberation")
    admitted = await gate.admissions.put(new)
    if admitted.conflict:
        raise Conflict(
            "This request_id or idempotency key was used with another body; use a new one.", "idempotency_conflict"
        )
    request_id = admitted.request_id
    if spans.tracer is not None and request_id == new.request_id:
        spans.submitted("deliberation.submit", asker.cause, request_id, {"aragora.deliberation.id": request_id})
    deliberation = None
    if not is_async:
        deliberation = await _at_its_end(request, asker, request_id, SYNC_WAIT_S, Permission.DELIBERATIONS_WRITE)
    if deliberation is not None and deliberation.terminal is not None:
        return JSONResponse(result_wire(deliberation))
    location = f"{request.url.path.rstrip('/')}/{request_id}"
    status = "queued" if deliberation is None else status_wire(deliberation)["status"]
    body_out = {"task_id": request_id, "request_id": request_id, "status": status}
    return JSONResponse(body_out, status_code=202, headers={"Location": location})


async def _at_its_end(
    request: Request, asker: Origin, request_id: str, wait_s: float, permission: Permission
) -> Deliberation:
    """The deliberation when it has ended, ``wait_s`` have passed, or the client has hung up. It goes on without the call.

    Raises: what `known_deliberation` raises; `Unauthenticated`, `Forbidden` if the caller loses its access meanwhile."""
    gate = gateway(request)
    found = await known_deliberation(gate, asker, request_id)
    if wait_s == 0 or found.terminal is not None:
        return found
    return await at_its_end(
        request,
        asker,
        found.request_id,
        wait_s,
        read=lambda: known_deliberation(gate, asker, found.request_id),
        ended=lambda deliberation: deliberation.terminal is not None,
        permission=permission,
    )


async def _known(request: Request, asker: Origin, request_id: str) -> Deliberation:
    return await known_deliberation(gateway(request), asker, request_id)


class DeliberationStatus(StrEnum):
    """What a deliberation's `deliberation_status` may be."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    CONSENSUS_REACHED = "consensus_reached"
    NO_CONSENSUS = "no_consensus"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    FAILED = "failed"


@router.get("/deliberations")
@requires(Permission.DELIBERATIONS_READ)
async def list_deliberations(
    request: Request,
    asker: Asker,
    search: Searching,
    status: DeliberationStatus | None = None,
    sort: Sort = Sort.CREATED,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Deliberations of the workspace, newest first; with ``sort=changed`` those that ended, else were admitted last.
    ``where`` as in the list of tasks: metadata, tags and tenant are those of the context, the type is debate or quick, the
    agent is one of the panel of a deliberation that has ended. With ``where``, ``status`` or ``cursor``, a page may be short
    or empty while ``next_cursor`` says that there may be more, and ``total`` counts the page. 400 (`InvalidRequest`) if a
    condition cannot be meant, or an ``offset`` comes with one of these, or a ``status`` or
    an ``offset`` with ``sort=changed``; 403 (`Forbidden`) if it asks for metadata, tags or the tenant without
    ``controlplane:payloads.read``."""
    gate = gateway(request)
    if search is not None and search.terms:  # the tenant of a deliberation is what somebody wrote, as its context is
        await admit(request, Permission.PAYLOADS_READ)
    before = decode_cursor(cursor)
    check_sort(sort, searched=search is not None)
    if sort is Sort.CHANGED:
        if status is not None or offset:
            raise InvalidRequest(
                "sort=changed goes without status and offset; send the next_cursor of the page before."
            )
        found, total = await gate.deliberations.last_changed(asker.workspace, limit, before)
        following = (found[-1].changed_at, found[-1].request_id) if len(found) == limit else None
    elif search is None and status is None and before is None:
        found, total = await gate.deliberations.list(asker.workspace, limit, offset)
        full = offset + len(found) < total.entries or not total.exact
        following = (found[-1].admitted_at, found[-1].request_id) if found and full else None
    else:
        if offset:
            raise InvalidRequest("status and cursor go without an offset; send the next_cursor of the page before.")
        states = None if status is None else STATES_OF[status]
        query = DeliberationQuery(
            workspace=asker.workspace, search=search or Search(), states=states, limit=limit, before=before
        )
        page = await gate.deliberations.search(query)
        found, following = list(page.deliberations), page.following
        total = Total(len(found), exact=before is None and following is None)
    return {
        "deliberations": [record_wire(deliberation) for deliberation in found],
        **total_wire(total),
        "limit": limit,
        "offset": offset,
        "has_more": following is not None,
        "next_cursor": None if following is None else encode_cursor(*following),
    }


@router.get("/deliberations/{request_id}")
@requires(Permission.DELIBERATIONS_READ)
async def get_deliberation(request: Request, request_id: str, asker: Asker, wait: Wait = 0.0) -> dict[str, Any]:
    """One deliberation with its question, its status and, once it has ended, its result. With ``wait``, when it has ended or so
    many seconds have passed (at most 25), as it is then. 404 (`NotFound`) if there is no such deliberation."""
    return record_wire(await _at_its_end(request, asker, request_id, wait, Permission.DELIBERATIONS_READ))


@router.get("/deliberations/{request_id}/status")
@requires(Permission.DELIBERATIONS_READ)
async def get_status(request: Request, request_id: str, asker: Asker) -> dict[str, Any]:
    """The status of a deliberation. 404 (`NotFound`) if there is no such deliberation."""
    return status_wire(await _known(request, asker, request_id))


@router.get("/deliberations/{request_id}/transcript")
@requires(Permission.DELIBERATIONS_READ)
async def get_transcript(request: Request, request_id: str, asker: Asker) -> dict[str, Any]:
    """Every step of the journal, in order, with the agents' answers. 404 (`NotFound`) if there is no such deliberation."""
    deliberation = await _known(request, asker, request_id)
    journal = await gateway(request).deliberations.journal(asker.workspace, deliberation.request_id)
    return transcript_wire(deliberation, journal)


@router.post("/deliberations/{request_id}/cancel")
@requires(Permission.DELIBERATIONS_WRITE)
async def cancel_deliberation(request: Request, request_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Cancels a deliberation and keeps its best answer so far. A repeat gets the same answer. 404 (`NotFound`) if there is no
    such deliberation, 409 (`Conflict`) if it has ended otherwise."""
    gate = gateway(request)
    deliberation = await _known(request, asker, request_id)
    if deliberation.terminal == "CANCELLED":
        return {"cancelled": True}
    record = record_for(asker, gate.clock.now(), "deliberation.cancel_requested", deliberation.request_id)
    if not await gate.deliberations.cancel(asker.workspace, deliberation.request_id, record):
        # It has ended since it was read, perhaps by an earlier call of this kind.
        if (await _known(request, asker, request_id)).terminal == "CANCELLED":
            return {"cancelled": True}
        raise Conflict(f"Deliberation {request_id} has already ended.", "already_terminal")
    gate.notify(WakeTopic.DELIBERATIONS)
    return {"cancelled": True}
