"""Where webhooks of others arrive: each that is signed with a secret of its hook starts a task or a run, or is a signal, once.

The route needs no principal of ours: the signature proves who sent the webhook, and what it may start is what the hook says. One
that counts for no hook is answered alike whether there is a hook of this name or not, counts as a failed login of its address,
and is a row of the log like other denied calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fastapi import Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.rate_limits import Rate, whole_seconds
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound, RateLimited, Removed, Unauthenticated
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin
from cluster.domain.hooks.hook import Hook
from cluster.domain.hooks.signature import CODE, ID_HEADER, SIGNATURE_HEADER, TIME_HEADER, Signed, check_time, signed
from cluster.domain.tasks.chats import check_asked_schema
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.tasks.template import templated_task
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import topics_for
from serve_app.auth.admission import requires
from serve_app.auth.login_throttle import LoginThrottle
from serve_app.auth.named_workspace import FIELD
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.shared_limits import SharedLimits
from serve_app.auth.suspension import check_starts
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import answered_once
from serve_app.routes.workflows import check_signal_value, known_workflow, sent_signal, started_run
from serve_app.under_policies import under_policies

router = GuardedRouter(tags=["hooks"])

_NO_HOOK: Final = "The signature counts for no hook of this name; sign with a secret of the hook, and send to its path."


@router.post("/hooks/{hook_name}", status_code=201)
@requires(Permission.PUBLIC)
async def call_hook(
    request: Request, hook_name: str, workspace_id: str | None = Query(None, description="As in the hook's path.")
) -> dict[str, Any]:
    """Takes a webhook (Standard Webhooks: the headers webhook-id, webhook-timestamp, webhook-signature over id, time and body)
    and starts or signals what the hook says; the same webhook-id gives the same task or run again. The body is JSON. 400
    (`InvalidRequest`) if the body is none, or lacks what the hook refers to (``input_unresolved``); 401
    (`Unauthenticated`) if the signature counts for no hook or its time is more than five minutes from ours; 403
    (`Forbidden`, `PolicyDenied`) if the workspace is suspended or a policy refuses the task; 404 (`NotFound`) if its
    workflow was deleted, or no run waits for the signal (``signal_not_found``); 409 (`Conflict`) if the hook is paused
    (``hook_paused``) or the run takes the signal no more; 429 (`RateLimited`) if the hook is called more often than its rate
    allows."""
    gate = gateway(request)
    webhook = signed({name: request.headers.getlist(name) for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER)})
    hook = await _sender(request, gate, webhook, hook_name, workspace_id)
    asker = Origin(workspace=hook.workspace, principal=hook.principal, cause=request.scope["state"]["trace_id"])
    check_time(webhook, gate.clock.now())
    check_starts(gate.access, hook.workspace)
    if hook.paused:
        raise Conflict(f"The hook {hook.name} is paused; send the webhook again when it is resumed.", "hook_paused")
    await _count(request, hook)
    body = _json(await request.body())
    if "signal" in hook.starts:
        return await _signal(gate, asker, hook, webhook.id, body)
    given = hook.given(webhook.id, body)
    if "task" in hook.starts:
        return {"task_id": await _start_task(gate, asker, hook, webhook.id, given), "run_id": None}
    return {"task_id": None, "run_id": await _start_run(gate, asker, hook, webhook.id, given)}


async def _signal(gate: Gateway, asker: Origin, hook: Hook, webhook_id: str, body: Any) -> dict[str, Any]:
    """Signals the run that the webhook names, and answers a repeat as the first one. Whether there is no such run or none of its
    steps waits for the signal is not told apart: whoever may send webhooks may not look at runs.

    Raises: `InvalidRequest`, `NotFound` or `Conflict` if there is no signal."""

    async def send() -> dict[str, Any]:
        run_id, name = hook.signalled(webhook_id, body)
        value = hook.given(webhook_id, body)
        check_signal_value(value)
        try:
            await sent_signal(gate, asker, run_id, name, value)
        except (NotFound, Removed, InvalidRequest):
            raise NotFound(
                f"No run that waits for a signal fits this webhook; see signal of the hook {hook.name}.",
                "signal_not_found",
            ) from None
        return {"task_id": None, "run_id": run_id}

    # The id alone says what is a repeat, as with tasks and runs: some senders write the attempt into the body.
    return await answered_once(gate, asker, "hooks", hook.start_id(webhook_id), None, send)


async def _sender(request: Request, gate: Gateway, webhook: Signed, name: str, workspace: str | None) -> Hook:
    """The hook for which the signature counts.

    Raises: `Unauthenticated` if there is none, `RateLimited` if too many have failed from this address."""
    check_id(name, "hook_name")
    workspace = gate.settings.workspace if workspace is None else check_id(workspace, FIELD)

    async def prove() -> Hook:
        """Raises: `Unauthenticated` as above."""
        known = gate.access.workspace(workspace)
        is_open = known is None or known.state is not WorkspaceState.DELETED
        found = await gate.hooks.secrets(workspace, name) if is_open else None
        body = await request.body()
        now = gate.clock.now()
        if found is None or not webhook.counts_for([each.key for each in found[1] if each.counts(now)], body):
            raise Unauthenticated(_NO_HOOK, CODE)
        return found[0]

    throttle: LoginThrottle | None = request.app.state.throttle
    # The text stands for the sender, whose address may be one of many.
    hook = await (prove() if throttle is None else throttle.guarded(request, f"hook {workspace}/{name}", prove))
    # So that what is refused from here on is told of the hook.
    request.scope["state"]["principal"] = Principal(
        id=hook.principal, workspace=hook.workspace, permissions=frozenset()
    )
    return hook


async def _count(request: Request, hook: Hook) -> None:
    """Counts a webhook that was signed: whoever has no secret cannot use up the rate.

    Raises: `RateLimited` if there is no room for it."""
    limits: SharedLimits = request.app.state.shared_limits
    grant = await limits.take(f"hook {hook.id}", Rate.per_minute(hook.rate_per_minute), 1)
    if not grant.granted:
        raise RateLimited(
            f"The hook {hook.name} takes {hook.rate_per_minute:g} webhooks a minute; send it again after the time in "
            "Retry-After.",
            "rate_limited",
            whole_seconds(grant.retry_after_s),
        )


def _json(text: bytes) -> Any:
    """Raises: `InvalidRequest` if the body is no JSON that can be stored."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body of a webhook must be JSON.", "invalid_request") from None
    check_json(body, "the body")
    return body


async def _start_task(gate: Gateway, asker: Origin, hook: Hook, webhook_id: str, payload: Any) -> str:
    task_id = hook.start_id(webhook_id)
    if await gate.tasks.statuses(asker.workspace, [task_id]):  # before policies are asked, which may be others by now
        return task_id
    check_asked_schema(payload)
    template = templated_task(hook.starts, id=task_id, origin=asker, now=gate.clock.now())
    task = replace(template, payload=payload, metadata=hook.metadata(template.metadata, webhook_id))
    items = await under_policies(gate, asker, [SubmitItem(task=task)])
    try:
        await gate.hooks.submit(items[0])
    except Conflict as conflict:  # another replica has started it meanwhile
        if conflict.code != "already_started":
            raise
    gate.notify(*topics_for(items))
    return task_id


async def _start_run(gate: Gateway, asker: Origin, hook: Hook, webhook_id: str, given: Any) -> str:
    run_id = hook.start_id(webhook_id)
    if await gate.workflows.runs(asker.workspace, [run_id]) or await gate.workflows.stub(asker.workspace, run_id):
        return run_id
    starts: Mapping[str, Any] = hook.starts
    workflow = await known_workflow(gate, asker, starts["workflow"], starts["version"])
    metadata = hook.metadata(starts["metadata"], webhook_id)
    # The id is the key too, which tells calls at once from each other.
    key = IdempotencyKey(route="hooks", key=run_id, body_digest=b"")
    return await started_run(gate, asker, workflow, given, metadata, key, run_id)
