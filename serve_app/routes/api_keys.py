"""Routes of API keys. A key's token is in one answer only: the first one to the call that made it.

Under an ``Idempotency-Key`` a repeat is answered without the token, since answers are remembered in the database and secrets are
stored nowhere. A new key's id is made of the idempotency key, so that two calls at once make one key.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

from fastapi import Request

from cluster.domain.access.api_key import (
    SECRET_BYTES,
    ApiKey,
    digest_of,
    has_expired,
    rotated,
    secret_of,
    token_of,
)
from cluster.domain.access.granting import check_manages, check_may_grant, checked_workspace, is_visible
from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal, permissions_in
from cluster.domain.access.workspaces import ALL_WORKSPACES, Workspace, all_deleted
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.ports.access import AccessNames
from serve_app.auth.admission import Asker, principal_of, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import KEY_CONFLICT, Idempotency, answered_once
from serve_app.http.paging import Cursor, Limit, decode_cursor, next_cursor, total_wire
from serve_app.routes.access import changed, current_roles, origin_in
from serve_app.schemas.access import NewKey, Rotation, key_wire

router = GuardedRouter(tags=["access"])

_SHOWN_ONCE = "Keep the token: it is shown in this answer only."
_NOT_AGAIN = "The token was in the first answer to this call and is shown once; rotate the key to get another."


@router.post("/keys", status_code=201)
@requires(Permission.ACCESS_WRITE)
async def create_key(request: Request, body: NewKey, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Creates an API key. ``token`` is what its holder sends as a bearer token; it is shown in this answer only. A repeat under
    the same ``Idempotency-Key`` is answered with ``token`` null. 403 (`Forbidden`, ``exceeds_own``) if the key could do more than
    the caller."""
    gate = gateway(request)
    principal = await principal_of(request)
    new, secret = _new_key(gate, principal, body, key)
    custom = await current_roles(gate, new.workspaces, new.grants)
    check_may_grant(principal, new.workspaces, new.grants, custom, new.agents)
    token = None
    notice = _NOT_AGAIN
    if await gate.access_store.create_key(origin_in(asker, new.workspaces[0]), new):
        await changed(gate, AccessNames(keys=frozenset({new.id})))
        token, notice = token_of(new.id, secret), _SHOWN_ONCE
    answer = await _created(gate, asker, key, body, principal, new)
    return {**answer, "token": token, "notice": notice}


async def _created(
    gate: Gateway, asker: Origin, key: str | None, body: NewKey, principal: Principal, new: ApiKey
) -> dict[str, Any]:
    """The answer but for its token, which is not remembered.

    Raises: `Conflict` if the idempotency key was used with another body."""

    async def read() -> dict[str, Any]:
        """Raises: `Conflict` as above."""
        stored = await _known(gate, principal, new.id)
        # A key that outlived what was remembered of the call that made it.
        if body_digest(_told(stored)) != body_digest(_told(replace(new, id=stored.id))):
            raise Conflict(KEY_CONFLICT, "idempotency_conflict")
        return _wire(gate, principal, stored)

    # Callers of one workspace may use the same idempotency key; each has keys of its own.
    return await answered_once(gate, asker, f"keys/of/{principal.id}", key, body.for_digest(), read)


def _told(key: ApiKey) -> dict[str, Any]:
    agents = None if key.agents is None else list(key.agents)
    return {"name": key.name, "workspaces": list(key.workspaces), "grants": list(key.grants), "agents": agents}


def _new_key(gate: Gateway, principal: Principal, body: NewKey, key: str | None) -> tuple[ApiKey, str]:
    """A new key and its secret. Raises: `InvalidRequest` if its workspaces are none, or all and some."""
    given = dict.fromkeys([principal.workspace] if body.workspaces is None else body.workspaces)
    workspaces = tuple(checked_workspace(workspace, or_all=True) for workspace in given)
    if ALL_WORKSPACES in workspaces and len(workspaces) > 1:
        raise InvalidRequest('workspaces must be ["*"] for all of them, or a list of some.', "invalid_workspaces")
    now, secret = gate.clock.now(), secret_of(os.urandom(SECRET_BYTES))
    new = ApiKey(
        id=gate.new_id("key").removeprefix("key_") if key is None else _id_for(principal, key),
        name=body.name,
        workspaces=workspaces,
        grants=tuple(dict.fromkeys(body.grants)),
        digests=(digest_of(secret),),
        created_at=now,
        created_by=principal.id,
        expires_at=None if body.expires_in_seconds is None else now + body.expires_in_seconds,
        agents=None if body.agents is None else tuple(sorted(set(body.agents))),
    )
    return new, secret


def _id_for(principal: Principal, key: str) -> str:
    return hashlib.sha256("\0".join((principal.workspace, principal.id, key)).encode()).hexdigest()[:26]


@router.get("/keys")
@requires(Permission.ACCESS_READ)
async def list_keys(request: Request, asker: Asker, limit: Limit = 1000, cursor: Cursor = None) -> dict[str, Any]:
    """The API keys that act in workspaces that the caller may manage, oldest first, with those that were revoked or have
    expired. No answer holds a secret."""
    gate = gateway(request)
    principal = await principal_of(request)
    everywhere = Permission.ACCESS_READ in permissions_in(principal, ALL_WORKSPACES)
    keys, total = await gate.access_store.list_keys(
        None if everywhere else principal.workspace, decode_cursor(cursor), limit
    )
    return {
        "keys": [_wire(gate, principal, key) for key in keys],
        **total_wire(total),
        "limit": limit,
        "next_cursor": next_cursor(keys, limit, lambda key: (key.created_at, key.id)),
    }


@router.post("/keys/{key_id}/rotate")
@requires(Permission.ACCESS_WRITE)
async def rotate_key(
    request: Request, key_id: str, asker: Asker, key: Idempotency, body: Rotation | None = None
) -> dict[str, Any]:
    """Gives a key a new secret; the one of before counts for ``overlap_seconds`` more, an hour if they are left out. ``token`` is
    shown in this answer only; a repeat under the same ``Idempotency-Key`` is answered with ``token`` null. 404 (`NotFound`) if
    there is no such key, 409 (`Conflict`) if it was revoked, has expired, or its workspaces were deleted, 403 (`Forbidden`,
    ``exceeds_own``) if it could do more than the caller."""
    gate = gateway(request)
    principal = await principal_of(request)
    wish = body or Rotation.model_validate({})
    await _changeable(gate, principal, check_id(key_id, "key_id"))
    secret = secret_of(os.urandom(SECRET_BYTES))
    tokens: list[str] = []

    async def rotate() -> dict[str, Any]:
        """Raises: `Conflict` if the key was revoked, has expired, or its workspaces were deleted."""
        stored = await _changeable(gate, principal, key_id)
        # Whoever rotates a key gets its secret, and so what it may do.
        custom = await current_roles(gate, stored.workspaces, stored.grants)
        check_may_grant(principal, stored.workspaces, stored.grants, custom, stored.agents)
        if stored.revoked_at is not None:
            raise Conflict(f"The key {key_id} was revoked; create another one.", "key_revoked")
        now = gate.clock.now()
        if has_expired(stored, now):
            raise Conflict(f"The key {key_id} has expired; create another one.", "key_expired")
        await gate.access.refresh(AccessNames(workspaces=frozenset(stored.workspaces) - {ALL_WORKSPACES}))
        if all_deleted(_workspaces(gate, stored).values()):
            raise Conflict(f"The workspace of the key {key_id} was deleted; create another one.", "workspace_deleted")
        renewed = rotated(stored, secret, now + wish.overlap_seconds)
        await gate.access_store.put_key(origin_in(asker, stored.workspaces[0]), renewed)
        await changed(gate, AccessNames(keys=frozenset({key_id})))
        tokens.append(token_of(key_id, secret))
        return _wire(gate, principal, renewed)

    route = f"keys/{key_id}/rotate/of/{principal.id}"
    answer = await answered_once(gate, asker, route, key, wish.model_dump(mode="json"), rotate)
    return {**answer, "token": tokens[0] if tokens else None, "notice": _SHOWN_ONCE if tokens else _NOT_AGAIN}


@router.delete("/keys/{key_id}")
@requires(Permission.ACCESS_WRITE)
async def revoke_key(request: Request, key_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Revokes a key for good, on all replicas within a second. A repeat changes nothing. 404 (`NotFound`) if there is no such
    key, 409 (`Conflict`, ``last_admin``) if nobody could administer access afterwards."""
    gate = gateway(request)
    principal = await principal_of(request)
    stored = await _changeable(gate, principal, check_id(key_id, "key_id"))
    if stored.revoked_at is None:
        revoked = replace(stored, revoked_at=gate.clock.now())
        await gate.access_store.put_key(origin_in(asker, stored.workspaces[0]), revoked)
        await changed(gate, AccessNames(keys=frozenset({key_id})))
        stored = await _known(gate, principal, key_id)
    return _wire(gate, principal, stored)


async def _known(gate: Gateway, principal: Principal, key_id: str) -> ApiKey:
    """A key as it is stored now. Raises: `NotFound` if there is none that the caller may see."""
    found = (await gate.access_store.read(AccessNames(keys=frozenset({key_id})))).keys
    if not found or not is_visible(principal, found[0]):
        raise NotFound(f"There is no key {key_id}.", "key_not_found")
    return found[0]


async def _changeable(gate: Gateway, principal: Principal, key_id: str) -> ApiKey:
    """A key that the caller may change: it manages every workspace that the key acts in.

    Raises: `NotFound`, `Forbidden`."""
    stored = await _known(gate, principal, key_id)
    for workspace in stored.workspaces:
        check_manages(principal, workspace, Permission.ACCESS_WRITE)
    return stored


def _wire(gate: Gateway, principal: Principal, key: ApiKey) -> dict[str, Any]:
    visible = [each for each in key.workspaces if Permission.ACCESS_READ in permissions_in(principal, each)]
    return key_wire(key, gate.clock.now(), visible, _workspaces(gate, key))


def _workspaces(gate: Gateway, key: ApiKey) -> dict[str, Workspace | None]:
    """The workspaces that a key acts in, by id, as this replica knows them."""
    return {workspace: gate.access.workspace(workspace) for workspace in key.workspaces}
