"""Routes of workspaces, of who has which role in them, and of roles.

A caller manages the workspace that it acts in, and others only by what it may do everywhere. Rows of the log about a workspace
are written in that workspace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request

from cluster.domain.access.granting import (
    check_manages,
    check_may_grant,
    check_within,
    checked_role,
    checked_subject,
    checked_workspace,
)
from cluster.domain.access.permissions import Permission, granted
from cluster.domain.access.principal import permissions_in
from cluster.domain.access.roles import ROLES, CustomRole
from cluster.domain.access.workspaces import ALL_WORKSPACES, RoleBinding, Workspace, WorkspaceState
from cluster.domain.base.errors import Conflict, NotFound, TryLater
from cluster.domain.base.log import Origin
from cluster.domain.residency import nobody_writes
from cluster.ports.access import AccessNames
from cluster.ports.totals import Total
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, principal_of, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Cursor, Limit, decode_names, encode_names, total_wire
from serve_app.schemas.access import (
    NewMember,
    NewWorkspace,
    RolePermissions,
    WorkspaceChange,
    built_in_roles,
    member_wire,
    role_wire,
    workspace_wire,
)

router = GuardedRouter(tags=["access"])


def origin_in(asker: Origin, workspace: str) -> Origin:
    """The origin of a change of access to a workspace: its row is that workspace's own, and the caller's if it is about all."""
    return asker if workspace == ALL_WORKSPACES else replace(asker, workspace=workspace)


async def changed(gate: Gateway, names: AccessNames) -> None:
    """Brings a committed change into this replica's copy at once, and wakes the others."""
    gate.notify(WakeTopic.ACCESS)
    with contextlib.suppress(TryLater):  # the change is durable; the follower will read it
        await gate.access.refresh(names)


async def current_roles(gate: Gateway, workspaces: Iterable[str], names: Iterable[str]) -> dict[str, Any]:
    """The custom roles of each workspace; those of these names as they are stored now.

    Raises: `StoreUnavailable`."""
    workspaces, names = list(workspaces), list(names)
    await gate.access.refresh(AccessNames(roles=frozenset((each, name) for each in workspaces for name in names)))
    return {each: gate.access.custom_roles(each) for each in workspaces}


# --- workspaces -------------------------------------------------------------------------------------------------------


@router.post("/workspaces", status_code=201)
@requires(Permission.ACCESS_WRITE)
async def create_workspace(request: Request, body: NewWorkspace, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Creates a workspace. Needs the permission in all workspaces. With ``zone`` it is resident there for good: make it at a
    region of the zone. 400 (`InvalidRequest`, ``unknown_zone``) if no region is in that zone; 409 (`Conflict`) if there is or was
    a workspace of that id (``workspace_exists``), or no second region of the zone could hold what it has (``zone_too_small``);
    503 (`TryLater`, ``zone_without_primary``) while only a region outside of the zone writes."""
    gate = gateway(request)
    check_manages(await principal_of(request), ALL_WORKSPACES, Permission.ACCESS_WRITE)
    if body.zone is not None:
        gate.zones.check_new(body.zone)
        if body.zone != gate.zones.own:  # and this region writes for all
            raise nobody_writes(body.zone)
    workspace_id, now = checked_workspace(body.id), gate.clock.now()

    async def create() -> dict[str, Any]:
        workspace = Workspace(
            id=workspace_id,
            name=body.name or workspace_id,
            state=WorkspaceState.ACTIVE,
            created_at=now,
            changed_at=now,
            zone=body.zone,
        )
        await gate.access_store.create_workspace(origin_in(asker, workspace_id), workspace)
        await changed(gate, AccessNames(workspaces=frozenset({workspace_id})))
        return workspace_wire(workspace)

    return await answered_once(gate, asker, "workspaces", key, body.for_digest(), create)


@router.get("/workspaces")
@requires(Permission.ACCESS_READ)
async def list_workspaces(request: Request, asker: Asker, limit: Limit = 1000, cursor: Cursor = None) -> dict[str, Any]:
    """The workspaces that the caller may manage, by id, without those that were deleted."""
    store, principal = gateway(request).access_store, await principal_of(request)
    (after,) = decode_names(cursor, 1) or ("",)
    if Permission.ACCESS_READ in permissions_in(principal, ALL_WORKSPACES):
        found, total = await store.list_workspaces(after, limit)
    else:  # it manages the one that it acts in
        named = AccessNames(workspaces=frozenset({principal.workspace}))
        found = [each for each in (await store.read(named)).workspaces if each.id > after]
        total = Total(1)
    following = encode_names(found[-1].id) if len(found) == limit else None
    return {
        "workspaces": [workspace_wire(workspace) for workspace in found],
        **total_wire(total),
        "limit": limit,
        "next_cursor": following,
    }


@router.patch("/workspaces/{workspace_id}")
@requires(Permission.ACCESS_WRITE)
async def change_workspace(
    request: Request, workspace_id: str, body: WorkspaceChange, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Renames, suspends or resumes a workspace. While it is suspended, reads are answered and what runs may end; nothing else is
    submitted, claimed or changed but access, and open work waits. A repeat changes nothing. 404 (`NotFound`) if there is no such
    workspace."""
    gate = gateway(request)
    check_manages(await principal_of(request), checked_workspace(workspace_id), Permission.ACCESS_WRITE)

    async def change() -> dict[str, Any]:
        state = None if body.state is None else WorkspaceState(body.state.value)
        return workspace_wire(await _put(gate, asker, workspace_id, body.name, state))

    route = f"workspaces/{workspace_id}"
    return await answered_once(gate, asker, route, key, body.model_dump(mode="json"), change)


@router.delete("/workspaces/{workspace_id}")
@requires(Permission.ACCESS_WRITE)
async def delete_workspace(request: Request, workspace_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a workspace for good: nobody has access to it any more, its open tasks and deliberations are cancelled, and its id
    is not free again. 409 (`Conflict`, ``home_workspace``) if it is the one of this system's settings. 404 (`NotFound`) if there
    is no such workspace."""
    gate = gateway(request)
    check_manages(await principal_of(request), checked_workspace(workspace_id), Permission.ACCESS_WRITE)
    if workspace_id == gate.settings.workspace:
        raise Conflict(
            f"{workspace_id} is the workspace of ARAGORA_WORKSPACE, which is always there; suspend it instead.",
            "home_workspace",
        )

    async def delete() -> dict[str, Any]:
        return workspace_wire(await _put(gate, asker, workspace_id, None, WorkspaceState.DELETED))

    return await answered_once(gate, asker, f"workspaces/{workspace_id}/delete", key, None, delete)


async def _put(
    gate: Gateway, asker: Origin, workspace_id: str, name: str | None, state: WorkspaceState | None
) -> Workspace:
    names = AccessNames(workspaces=frozenset({workspace_id}))
    found = (await gate.access_store.read(names)).workspaces
    if not found:
        raise NotFound(f"There is no workspace {workspace_id}.", "workspace_not_found")
    workspace = replace(found[0], name=name or found[0].name, state=state or found[0].state)
    if workspace == found[0] and workspace.state is not WorkspaceState.DELETED:
        return workspace
    workspace = replace(workspace, changed_at=gate.clock.now())
    await gate.access_store.put_workspace(origin_in(asker, workspace_id), workspace)
    await changed(gate, names)
    return workspace


# --- members ----------------------------------------------------------------------------------------------------------


@router.get("/workspaces/{workspace_id}/members")
@requires(Permission.ACCESS_READ)
async def list_members(
    request: Request, workspace_id: str, asker: Asker, limit: Limit = 1000, cursor: Cursor = None
) -> dict[str, Any]:
    """Who has which role in a workspace. Those who have one in all workspaces are listed under ``*``, and only there."""
    check_manages(await principal_of(request), checked_workspace(workspace_id, or_all=True), Permission.ACCESS_READ)
    names = decode_names(cursor, 2)
    after = None if names is None else (names[0], names[1])
    found, total = await gateway(request).access_store.list_members(workspace_id, after, limit)
    return {
        "members": [member_wire(binding) for binding in found],
        **total_wire(total),
        "limit": limit,
        "next_cursor": encode_names(found[-1].subject, found[-1].role) if len(found) == limit else None,
    }


@router.put("/workspaces/{workspace_id}/members")
@requires(Permission.ACCESS_WRITE)
async def add_member(
    request: Request, workspace_id: str, body: NewMember, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Gives a subject a role in a workspace, or (``*``) in all of them. A repeat changes nothing. 403 (`Forbidden`,
    ``exceeds_own``) if the role allows more than the caller may do there. 404 (`NotFound`) if there is no such workspace."""
    gate = gateway(request)
    principal = await principal_of(request)
    check_manages(principal, checked_workspace(workspace_id, or_all=True), Permission.ACCESS_WRITE)
    subject = checked_subject(body.subject)
    custom = await current_roles(gate, [workspace_id], [body.role])
    check_may_grant(principal, [workspace_id], [_role_named(body.role)], custom)
    binding = RoleBinding(
        workspace=workspace_id,
        subject=subject,
        role=body.role,
        created_at=gate.clock.now(),
        created_by=principal.id,
    )
    await gate.access_store.put_binding(origin_in(asker, workspace_id), binding)
    await changed(gate, AccessNames(subjects=frozenset({subject})))
    return {"workspace": workspace_id, "subject": subject, "role": body.role}


def _role_named(role: str) -> str:
    """Members have roles; only keys have single permissions. Raises: `InvalidRequest` for a permission's name."""
    return role if role in ROLES else checked_role(role)


@router.delete("/workspaces/{workspace_id}/members")
@requires(Permission.ACCESS_WRITE)
async def remove_member(
    request: Request,
    workspace_id: str,
    asker: Asker,
    key: Idempotency,
    subject: Annotated[str, Query(min_length=1, max_length=256)],
    role: Annotated[str, Query(min_length=1, max_length=128)],
) -> dict[str, Any]:
    """Takes a role in a workspace from a subject. ``removed`` is false if it did not have it. 409 (`Conflict`, ``last_admin``)
    if nobody could administer access afterwards."""
    gate = gateway(request)
    check_manages(await principal_of(request), checked_workspace(workspace_id, or_all=True), Permission.ACCESS_WRITE)
    named = checked_subject(subject)

    async def remove() -> dict[str, Any]:
        origin = origin_in(asker, workspace_id)
        removed = await gate.access_store.remove_binding(origin, workspace_id, named, role)
        await changed(gate, AccessNames(subjects=frozenset({named})))
        return {"removed": removed}

    body = {"subject": named, "role": role}
    return await answered_once(gate, asker, f"workspaces/{workspace_id}/members/remove", key, body, remove)


# --- roles ------------------------------------------------------------------------------------------------------------


@router.get("/roles")
@requires(Permission.ACCESS_READ)
async def list_roles(request: Request, asker: Asker) -> dict[str, Any]:
    """The built-in roles, and those that the caller's workspace has defined."""
    gate = gateway(request)
    await gate.catch_up()
    custom = gate.access.custom_roles(asker.workspace)
    roles = [*built_in_roles(), *(role_wire(custom[name]) for name in sorted(custom))]
    return {"roles": roles, "total": len(roles)}


@router.put("/roles/{role_name}")
@requires(Permission.ACCESS_WRITE)
async def define_role(
    request: Request, role_name: str, body: RolePermissions, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Defines a role of the caller's workspace, or defines it anew: whoever has it may do from then on what it says. A repeat
    changes nothing. 403 (`Forbidden`, ``exceeds_own``) if it allows more than the caller may do."""
    gate = gateway(request)
    role = CustomRole(
        workspace=asker.workspace, name=checked_role(role_name), permissions=tuple(dict.fromkeys(body.permissions))
    )
    allowed = frozenset[Permission]().union(*map(granted, role.permissions))
    check_within(await principal_of(request), asker.workspace, allowed)
    await gate.access_store.put_role(asker, role)
    await changed(gate, AccessNames(roles=frozenset({(role.workspace, role.name)})))
    return role_wire(role)


@router.delete("/roles/{role_name}")
@requires(Permission.ACCESS_WRITE)
async def remove_role(request: Request, role_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Removes a role of the caller's workspace. ``removed`` is false if there was none. 409 (`Conflict`, ``role_in_use``) while
    a member or a valid key has it."""
    gate = gateway(request)
    name = checked_role(role_name)
    check_manages(await principal_of(request), asker.workspace, Permission.ACCESS_WRITE)

    async def remove() -> dict[str, Any]:
        removed = await gate.access_store.remove_role(asker, asker.workspace, name)
        await changed(gate, AccessNames(roles=frozenset({(asker.workspace, name)})))
        return {"removed": removed}

    return await answered_once(gate, asker, f"roles/{name}/remove", key, None, remove)
