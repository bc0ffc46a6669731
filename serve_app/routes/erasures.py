"""Erasure: deletes for good what people and agents wrote. Who may is not who may read or write it."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from fastapi import Request

from cluster.domain.access.granting import checked_workspace
from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import permissions_in
from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.audit.erasure import FIRST_FORM, NOT_REACHED, Scope
from cluster.domain.base.errors import Forbidden, InvalidRequest, NotFound, Removed
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from serve_app.auth.admission import Asker, principal_of, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.erasing import Eraser, Progress, progress_of
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.routes.access import origin_in
from serve_app.routes.known import known_deliberation
from serve_app.schemas.erasures import Erase

router = GuardedRouter(tags=["erasure"])


@router.post("/erasures")
@requires(Permission.PAYLOADS_ERASE)
async def erase(request: Request, body: Erase, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Erases payloads, results, errors, metadata, journals, outcomes, schedules, hooks, workflows with their runs, of a
    workspace also its policies, budgets, notifications and credentials, and the words of the log; what the audit's chain
    covers stays. A call takes at most some 10 s; if ``complete`` is false, call again with ``cursor`` set to ``next_cursor``.
    A repeat erases what is left. ``not_reached`` names copies that are yours to delete. Another workspace than the caller's
    takes the permission in all workspaces. 400 (`InvalidRequest`) unless exactly one of workspace, task_id and subject is
    given, 403 (`Forbidden`), 404 (`NotFound`) if there is no such task or workspace, 410 (`Removed`) if retention has removed
    it with its words, 409 (`Conflict`, ``open_work``) while something of it has not ended."""
    gate = gateway(request)
    scope, target = _chosen(body)
    if scope is Scope.WORKSPACE:
        asker = await _in_workspace(request, asker, target)
    begins = body.cursor is None
    progress = (
        Progress(erasure=gate.new_id("erasure"), until=gate.clock.now())
        if body.cursor is None
        else progress_of(body.cursor)
    )
    change = functools.partial(_erase, gate, asker, scope, target, body.dry_run, progress, begins)
    return await answered_once(gate, asker, "erasures", key, body.model_dump(mode="json"), change)


def _chosen(body: Erase) -> tuple[Scope, str]:
    given = {Scope.WORKSPACE: body.workspace, Scope.TASK: body.task_id, Scope.SUBJECT: body.subject}
    named = [(scope, target) for scope, target in given.items() if target is not None]
    if len(named) != 1:
        raise InvalidRequest("Give exactly one of workspace, task_id and subject.", "invalid_scope")
    return named[0]


async def _in_workspace(request: Request, asker: Origin, workspace: str) -> Origin:
    """The origin of an erasure of a workspace, which may have been deleted: then nobody has a role in it, and what counts is
    what the caller may do everywhere."""
    checked_workspace(workspace)
    if workspace == asker.workspace:
        return asker
    principal = await principal_of(request)
    if Permission.PAYLOADS_ERASE not in permissions_in(principal, ALL_WORKSPACES):
        raise Forbidden(f"To erase another workspace takes {Permission.PAYLOADS_ERASE} in all workspaces.")
    if gateway(request).access.workspace(workspace) is None:
        raise NotFound(f"There is no workspace {workspace}.", "workspace_not_found")
    return origin_in(asker, workspace)


async def _erase(
    gate: Gateway, asker: Origin, scope: Scope, target: str, dry_run: bool, progress: Progress, begins: bool
) -> dict[str, Any]:
    if scope is Scope.TASK:
        check_id(target, "task_id")
        stub = await gate.tasks.stub(asker.workspace, target)
        if stub is not None:  # its words went with it
            raise stub.error("task")
        try:
            target = (await known_deliberation(gate, asker, target)).request_id
        except Removed:
            raise
        except NotFound:  # then it is a task
            pass
    eraser = Eraser(
        erasures=gate.erasures,
        deliberations=gate.deliberations,
        schedules=gate.schedules,
        workflows=gate.workflows,
        hooks=gate.hooks,
        signing=gate.signing,
        clock=gate.clock,
        asker=asker,
        scope=scope,
        target=target,
        dry_run=dry_run,
    )
    progress, complete = await eraser.run(progress, begins=begins)
    _, has_first_form = await gate.erasures.log_end(asker.workspace)
    return {
        "erasure_id": progress.erasure,
        "scope": scope.value,
        "dry_run": dry_run,
        "complete": complete,
        "next_cursor": None if complete else progress.cursor(),
        "erased": asdict(progress.erased),
        "not_reached": [*NOT_REACHED, *([FIRST_FORM] if has_first_form else [])],
    }
