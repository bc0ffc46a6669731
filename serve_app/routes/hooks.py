"""Routes of hooks: what webhooks of others start. Where they arrive is `serve_app.routes.hook_calls`.

A secret that was made here is in one answer only, the first one to the call that made it: repeats are answered without it, since
answers are remembered in the database.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.hooks.hook import SECRET_BYTES, Hook, Secret, check_input, new_key, rotated
from cluster.domain.tasks.template import task_template
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.routes.submits import new_task
from serve_app.routes.workflows import check_run_metadata, known_workflow
from serve_app.schemas.hooks import CreateHook, HookFields, RotateHook, hook_wire

router = GuardedRouter(tags=["hooks"])

#: How often a change is made anew because another one came before it.
TRIES: Final = 5
#: Characters of what a hook starts, with its input.
MOST_CHARS: Final = 262_144
_SHOWN_ONCE: Final = "Give the secret to the sender: it is shown in this answer only."
_NOT_AGAIN: Final = "The secret was in the first answer to this call and is shown once; rotate the hook to get another."
_GIVEN: Final = "The sender signs with the secret that you gave."


@router.get("/hooks")
@requires(Permission.HOOKS_READ)
async def list_hooks(request: Request, asker: Asker) -> dict[str, Any]:
    """The workspace's hooks, by name, without their secrets."""
    gate = gateway(request)
    found, now = await gate.hooks.list(asker.workspace), gate.clock.now()
    return {"hooks": [hook_wire(hook, now) for hook in found], "total": len(found)}


@router.post("/hooks", status_code=201)
@requires(Permission.HOOKS_WRITE)
async def create_hook(request: Request, body: CreateHook, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a hook: whoever sends a webhook with a signature of its ``secret`` to its ``path`` starts what it says, in the hook's
    own name. ``secret`` is shown in this answer only, unless the caller gave it. The same hook again changes nothing. 400
    (`InvalidRequest`) if it does not say exactly one thing to start, 404 (`NotFound`) if there is no such workflow, 409
    (`Conflict`) if there is another hook of this name or the workspace has 1,000, the key was used with another body, or
    ARAGORA_SECRETS_KEY is not set (``no_secrets_key``)."""
    gate = gateway(request)
    name = check_id(body.name, "name")
    starts = await _starts(gate, asker, body)
    given = _given(gate, asker, body)
    secret = new_key(os.urandom(SECRET_BYTES)) if body.secret is None else body.secret.get_secret_value()
    shown_once: list[str] = []

    async def create() -> dict[str, Any]:
        """Raises: `Conflict` if there is a hook of this name."""
        now = gate.clock.now()
        hook = Hook(
            id=gate.new_id("hook"),
            workspace=asker.workspace,
            name=name,
            starts=starts,
            input=body.input,
            rate_per_minute=body.rate_per_minute,
            created_at=now,
            created_by=asker.principal,
            changed_at=now,
            changed_by=asker.principal,
            secrets_id=gate.new_id("hooksecret"),
            secrets_until=(None,),
        )
        if await gate.hooks.put(hook, _record(asker, now, "hook.created", name), [Secret(key=secret)]):
            shown_once.append(secret)
            return hook_wire(hook, now)
        return hook_wire(await _same(gate, hook, None if body.secret is None else secret), now)

    answer = await answered_once(gate, asker, "hooks", key, given, create)
    return {**answer, **_shown(shown_once, body.secret is not None)}


@router.get("/hooks/{hook_name}")
@requires(Permission.HOOKS_READ)
async def get_hook(request: Request, hook_name: str, asker: Asker) -> dict[str, Any]:
    """One hook, without its secrets. 404 (`NotFound`) if there is no such hook."""
    gate = gateway(request)
    return hook_wire(await _known(gate, asker, hook_name), gate.clock.now())


@router.put("/hooks/{hook_name}")
@requires(Permission.HOOKS_WRITE)
async def update_hook(
    request: Request, hook_name: str, body: HookFields, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Replaces what a hook starts, its input and its rate; its secrets stay. 400 (`InvalidRequest`) as when it is made, 404
    (`NotFound`) if there is no such hook or workflow."""
    gate = gateway(request)
    starts = await _starts(gate, asker, body)

    def change(hook: Hook, now: float) -> Hook:
        parts = {"starts": starts, "input": body.input, "rate_per_minute": body.rate_per_minute}
        return hook.changed(asker.principal, now, **parts)

    async def update() -> dict[str, Any]:
        return await _changed(gate, asker, hook_name, change, "hook.updated")

    return await answered_once(gate, asker, f"hooks/update/{hook_name}", key, body.for_digest(), update)


@router.post("/hooks/{hook_name}/rotate")
@requires(Permission.HOOKS_WRITE)
async def rotate_hook(
    request: Request, hook_name: str, asker: Asker, key: Idempotency, body: RotateHook | None = None
) -> dict[str, Any]:
    """Gives a hook a new ``secret``, which is shown in this answer only, unless the caller gave it. The ones of before count for
    ``overlap_seconds`` more, a day if they are left out; with 0 they end now. 404 (`NotFound`) if there is no such hook, 409
    (`Conflict`) if it has this secret already, eight of them count, or ARAGORA_SECRETS_KEY is not set (``no_secrets_key``)."""
    gate = gateway(request)
    wish = body or RotateHook.model_validate({})
    check_id(hook_name, "hook_name")
    secret = new_key(os.urandom(SECRET_BYTES)) if wish.secret is None else wish.secret.get_secret_value()
    shown_once: list[str] = []

    async def rotate() -> dict[str, Any]:
        """Raises: `NotFound` if there is no such hook, `Conflict` if others change it all the time."""
        for _ in range(TRIES):
            found = await gate.hooks.secrets(asker.workspace, hook_name)
            if found is None:
                raise _unknown(hook_name)
            hook, now = found[0], gate.clock.now()
            secrets = rotated(found[1], secret, now, wish.overlap_seconds)
            until = tuple(each.until for each in secrets)
            secrets_id = gate.new_id("hooksecret")
            after = hook.changed(asker.principal, now, secrets_id=secrets_id, secrets_until=until, has_secrets=True)
            if await gate.hooks.put(after, _record(asker, now, "hook.rotated", hook_name), secrets):
                shown_once.append(secret)
                return hook_wire(after, now)
        raise _contended()

    answer = await answered_once(gate, asker, f"hooks/rotate/{hook_name}", key, _given(gate, asker, wish), rotate)
    return {**answer, **_shown(shown_once, wish.secret is not None)}


@router.post("/hooks/{hook_name}/pause")
@requires(Permission.HOOKS_WRITE)
async def pause_hook(request: Request, hook_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Pauses a hook: its webhooks are refused (409 ``hook_paused``) until it is resumed. A repeat changes nothing. 404
    (`NotFound`) if there is no such hook."""
    return await _set_paused(gateway(request), asker, hook_name, key, True)


@router.post("/hooks/{hook_name}/resume")
@requires(Permission.HOOKS_WRITE)
async def resume_hook(request: Request, hook_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Resumes a hook. A repeat changes nothing. 404 (`NotFound`) if there is no such hook."""
    return await _set_paused(gateway(request), asker, hook_name, key, False)


@router.delete("/hooks/{hook_name}")
@requires(Permission.HOOKS_WRITE)
async def delete_hook(request: Request, hook_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a hook with its secrets for good; what it has started goes on. 404 (`NotFound`) if there is no such hook."""
    gate = gateway(request)

    async def delete() -> dict[str, Any]:
        await _known(gate, asker, hook_name)
        record = _record(asker, gate.clock.now(), "hook.deleted", hook_name)
        await gate.hooks.remove(asker.workspace, [record])
        return {"deleted": True}

    return await answered_once(gate, asker, f"hooks/delete/{hook_name}", key, None, delete)


async def _starts(gate: Gateway, asker: Origin, body: HookFields) -> dict[str, Any]:
    """What the hook starts, as it is stored.

    Raises: `InvalidRequest` if that is not exactly one thing, or too large; `NotFound` if there is no such workflow."""
    check_input(body.input)
    if [body.task, body.workflow, body.signal].count(None) != 2:
        raise InvalidRequest("Give either task, workflow or signal: what a webhook starts.", "invalid_hook")
    if body.workflow is None:
        for name in ("version", "metadata"):
            if getattr(body, name) is not None:
                raise InvalidRequest(
                    f"{name} is of a workflow; leave it out, or give task.metadata for metadata of the task.",
                    "invalid_hook",
                )
    starts: dict[str, Any]
    if body.signal is not None:
        starts = {"signal": body.signal.model_dump(mode="json")}
        for name, template in starts["signal"].items():
            check_input(template, f"signal.{name}")
    elif body.task is not None:
        starts = task_template(new_task(gate, "task", body.task.submit(), asker, gate.clock.now()))
    else:
        assert body.workflow is not None
        await known_workflow(gate, asker, body.workflow, body.version)
        starts = {"workflow": body.workflow, "version": body.version, "metadata": body.metadata or {}}
        check_run_metadata(starts["metadata"])
    if len(canonical_json(starts)) + len(canonical_json(body.input)) > MOST_CHARS:
        raise InvalidRequest(
            f"What a hook starts must not exceed {MOST_CHARS:,} characters of JSON; refer to what is larger.",
            "limit_exceeded",
        )
    return starts


def _given(gate: Gateway, asker: Origin, body: CreateHook | RotateHook) -> dict[str, Any]:
    """What a repeat has to have. Raises: `NoSealingKey`."""
    given = body.for_digest("secret")
    if body.secret is not None:
        given["secret"] = gate.credentials.fingerprint(asker.workspace, body.secret.get_secret_value())
    return given


async def _same(gate: Gateway, hook: Hook, secret: str | None) -> Hook:
    """The hook that there is, which was made like this one: its maker may not have got the answer.

    Raises: `Conflict` if it does something else, or has another secret than the one that is given."""
    found = await gate.hooks.secrets(hook.workspace, hook.name)
    if found is None:
        raise _contended()
    stored, secrets = found
    is_same = _definition(stored) == _definition(hook)
    if not is_same or (secret is not None and all(each.key != secret for each in secrets)):
        raise Conflict(f"There is a hook {hook.name}; change it with PUT, or choose another name.", "hook_exists")
    return stored


def _definition(hook: Hook) -> str:
    return canonical_json([hook.starts, hook.input, hook.rate_per_minute])


def _shown(shown_once: list[str], was_given: bool) -> dict[str, Any]:
    if was_given:
        return {"secret": None, "notice": _GIVEN}
    return {"secret": shown_once[0], "notice": _SHOWN_ONCE} if shown_once else {"secret": None, "notice": _NOT_AGAIN}


async def _known(gate: Gateway, asker: Origin, name: str) -> Hook:
    found = await gate.hooks.get(asker.workspace, check_id(name, "hook_name"))
    if found is None:
        raise _unknown(name)
    return found


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no hook {name}; create it first.", "hook_not_found")


def _contended() -> Conflict:
    return Conflict("The hook was changed meanwhile; look at it and try again.", "hook_changed")


def _record(asker: Origin, now: float, kind: str, name: str) -> LogRecord:
    return record_for(asker, now, kind, name, {"hook": name})


async def _set_paused(gate: Gateway, asker: Origin, hook_name: str, key: str | None, paused: bool) -> dict[str, Any]:
    verb, kind = ("pause", "hook.paused") if paused else ("resume", "hook.resumed")

    def change(hook: Hook, now: float) -> Hook:
        return hook if hook.paused is paused else hook.changed(asker.principal, now, paused=paused)

    async def done() -> dict[str, Any]:
        return await _changed(gate, asker, hook_name, change, kind)

    return await answered_once(gate, asker, f"hooks/{verb}/{hook_name}", key, None, done)


async def _changed(
    gate: Gateway, asker: Origin, name: str, change: Callable[[Hook, float], Hook], kind: str
) -> dict[str, Any]:
    """The hook after a change, which is stored if it changes anything.

    Raises: `NotFound` if there is none, `Conflict` if others change it all the time."""
    for _ in range(TRIES):
        stored, now = await _known(gate, asker, name), gate.clock.now()
        after = change(stored, now)
        if after is stored or await gate.hooks.put(after, _record(asker, now, kind, name)):
            return hook_wire(after, now)
    raise _contended()
