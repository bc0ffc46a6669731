"""What is stored about access: one statement for each change, and one that reads all of it or what is named."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.roles import ROLES, CustomRole, names_permission
from cluster.domain.access.rows import (
    binding_record,
    key_record,
    logout_record,
    new_key_record,
    revocation_record,
    role_record,
    workspace_record,
)
from cluster.domain.access.sessions import Session, SessionKind
from cluster.domain.access.workspaces import RoleBinding, StateChange, Workspace, WorkspaceState
from cluster.domain.base.errors import Conflict, ControlPlaneError, NotFound
from cluster.domain.base.log import LogRecord, Origin, caused_by_row
from cluster.ports.access import AccessNames, AccessSnapshot, Revocation
from cluster.ports.totals import Total
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries
from cluster.postgres.totals import total_of

_SQL = queries("access")
#: What a function of the database refuses → the error. What it does is "done".
_REFUSALS: dict[str, tuple[type[ControlPlaneError], str, str]] = {
    "exists": (Conflict, "There is or was a workspace of that id; choose another id.", "workspace_exists"),
    "absent": (NotFound, "There is no workspace of that id.", "workspace_not_found"),
    "unknown_workspace": (NotFound, "There is no workspace of that id; create it first.", "workspace_not_found"),
    "unknown_role": (NotFound, "The workspace has no role of that name; define it first.", "role_not_found"),
    "in_use": (
        Conflict,
        "A member or a valid key has this role; remove the member's role or revoke the key first.",
        "role_in_use",
    ),
    "not_first": (
        Conflict,
        "There is an administrator already; ask one for a key, or use an administrator's key yourself.",
        "not_first",
    ),
    "no_key": (NotFound, "There is no key of that id.", "key_not_found"),
    "revoked": (Conflict, "This key was revoked; create another one.", "key_revoked"),
    "rotated_meanwhile": (Conflict, "Another rotation of this key came in between; rotate it again.", "key_rotated"),
}


class PostgresAccessStore:
    """``now`` times removals, which say no time of their own, and says which keys are valid."""

    def __init__(self, pool: Pool, epoch: Epoch, now: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._epoch = epoch
        self._now = now

    # --- reads -----------------------------------------------------------------------------------------------------

    async def load(self) -> AccessSnapshot:
        return await self._read(*[None] * 7)

    async def read(self, names: AccessNames) -> AccessSnapshot:
        roles = sorted(names.roles)
        return await self._read(
            sorted(names.workspaces),
            sorted(names.subjects),
            [workspace for workspace, _ in roles],
            [name for _, name in roles],
            sorted(names.keys),
            sorted(names.revocations),
            sorted(names.sessions),
        )

    async def _read(self, *names: Sequence[str] | None) -> AccessSnapshot:
        (row,) = await self._pool.rows(_SQL["read_access"], *names)
        names_of = ("workspaces", "bindings", "roles", "keys", "revocations", "sessions")
        tables = {name: json.loads(row[name] or "[]") for name in names_of}
        return AccessSnapshot(
            cursor=row["cursor"],
            workspaces=[_workspace(found) for found in tables["workspaces"]],
            bindings=[RoleBinding(**found) for found in tables["bindings"]],
            roles=[CustomRole(**found | {"permissions": tuple(found["permissions"])}) for found in tables["roles"]],
            keys=[_key(found) for found in tables["keys"]],
            revocations=[Revocation(**found) for found in tables["revocations"]],
            sessions=[_session(found) for found in tables["sessions"]],
        )

    async def list_workspaces(self, after: str, limit: int) -> tuple[list[Workspace], Total]:
        rows = await self._pool.rows(_SQL["list_workspaces"], after, limit)
        return [_workspace(dict(row)) for row in rows], await total_of(self._pool, _SQL["all_workspaces"])

    async def list_members(
        self, workspace: str, after: tuple[str, str] | None, limit: int
    ) -> tuple[list[RoleBinding], Total]:
        rows = await self._pool.rows(_SQL["list_members"], workspace, *(after or ("", "")), limit)
        total = await total_of(self._pool, _SQL["all_members"], workspace)
        return [RoleBinding(**dict(row)) for row in rows], total

    async def list_keys(
        self, workspace: str | None, after: tuple[float, str] | None, limit: int
    ) -> tuple[list[ApiKey], Total]:
        # Two statements, since one for both would have one plan.
        which, of = ("keys", ()) if workspace is None else ("keys_of", (workspace,))
        rows = await self._pool.rows(_SQL[f"list_{which}"], *of, *(after or (-math.inf, "")), limit)
        return [_key(json.loads(row["found"])) for row in rows], await total_of(self._pool, _SQL[f"all_{which}"], *of)

    async def closed(self) -> Mapping[str, StateChange]:
        return {row["id"]: _closed(row) for row in await self._pool.rows(_SQL["closed_workspaces"])}

    # --- changes ---------------------------------------------------------------------------------------------------

    async def create_workspace(self, origin: Origin, workspace: Workspace) -> None:
        if workspace.zone is None:
            await self._put_workspace(origin, workspace, is_new=True)
            return
        values = (workspace.id, workspace.name, workspace.zone, workspace.changed_at)
        await self._done("create_resident_workspace", workspace_record(origin, workspace, is_new=True), *values)

    async def put_workspace(self, origin: Origin, workspace: Workspace) -> None:
        await self._put_workspace(origin, workspace, is_new=False)

    async def _put_workspace(self, origin: Origin, workspace: Workspace, *, is_new: bool) -> None:
        values = (is_new, workspace.id, workspace.name, workspace.state.value, workspace.changed_at)
        await self._done("put_workspace", workspace_record(origin, workspace, is_new=is_new), *values)

    async def put_binding(self, origin: Origin, binding: RoleBinding) -> None:
        names = (binding.workspace, binding.subject, binding.role)
        record = binding_record(origin, binding.created_at, names, is_bound=True)
        values = (*names, _custom([binding.role]), binding.created_at, binding.created_by)
        await self._done("put_binding", record, *values)

    async def remove_binding(self, origin: Origin, workspace: str, subject: str, role: str) -> bool:
        now = self._now()
        record = binding_record(origin, now, (workspace, subject, role), is_bound=False)
        return bool(await self._commit("remove_binding", record, now, workspace, subject, role))

    async def put_role(self, origin: Origin, role: CustomRole) -> None:
        record = role_record(origin, self._now(), role, is_defined=True)
        await self._done("put_role", record, role.workspace, role.name, list(role.permissions))

    async def remove_role(self, origin: Origin, workspace: str, name: str) -> bool:
        now = self._now()
        record = role_record(origin, now, CustomRole(workspace=workspace, name=name, permissions=()), is_defined=False)
        outcome: str = await self._commit("remove_role", record, now, workspace, name)
        if outcome != "absent":
            _check(outcome)
        return outcome != "absent"

    async def create_key(self, origin: Origin, key: ApiKey, *, first: bool = False) -> bool:
        values = (
            *(self._now(), first, key.id, key.name, list(key.workspaces), list(key.grants), _custom(key.grants)),
            *(list(key.digests), key.created_at, key.created_by, key.expires_at),
            None if key.agents is None else list(key.agents),
        )
        outcome: str = await self._commit("create_key", new_key_record(origin, key), *values)
        if outcome != "exists":
            _check(outcome)
        return outcome != "exists"

    async def put_key(self, origin: Origin, key: ApiKey) -> None:
        now = self._now()
        values = (now, key.id, list(key.digests), key.overlap_until, key.revoked_at)
        outcome = await self._commit("change_key", key_record(origin, now, key), *values)
        _check("no_key" if outcome == "absent" else outcome)

    async def used(self, uses: Sequence[tuple[str, float]]) -> None:
        if uses:
            await self._pool.execute(_SQL["keys_used"], [key_id for key_id, _ in uses], [at for _, at in uses])

    async def revoke(self, origin: Origin, revocation: Revocation) -> None:
        now = self._now()
        values = (revocation.subject, revocation.not_before, revocation.until)
        await self._commit("revoke_access", revocation_record(origin, now, *values), now, *values)
        # By the clock of the replica that began it, a session may be younger than its revocation.
        for row in await self._pool.rows(_SQL["sessions_since"], revocation.subject, revocation.not_before):
            await self.end_session(row["id"], logout_record(origin, now, row["id"]))

    async def begin_session(self, session: Session, record: LogRecord) -> None:
        values = (session.id, session.digest, session.kind.value, session.issuer, session.principal)
        times = (session.began_at, session.expires_at)
        await self._commit("begin_session", record, *values, list(session.groups), *times)

    async def end_session(self, session_id: str, record: LogRecord) -> bool:
        return bool(await self._commit("end_session", record, session_id))

    async def begin_login(self, digest: bytes, target: str, now: float, expires_at: float) -> None:
        await self._pool.execute(_SQL["begin_login"], digest, target, now, expires_at)

    async def take_login(self, digest: bytes, now: float) -> str | None:
        target: str | None = await self._pool.value(_SQL["take_login"], digest, now)
        return target

    async def _done(self, statement: str, record: LogRecord, *values: Any) -> None:
        _check(await self._commit(statement, record, *values))

    async def _commit(self, statement: str, record: LogRecord, *values: Any) -> Any:
        rows = log_rows([record], self._epoch)
        return await self._pool.value(_SQL[statement], self._epoch.region, self._epoch.value, *values, rows)


def _check(outcome: str) -> None:
    if outcome != "done":
        kind, message, code = _REFUSALS[outcome]
        raise kind(message, code)


def _custom(grants: Iterable[str]) -> list[str]:
    """The grants that are names of custom roles."""
    return [grant for grant in grants if grant not in ROLES and not names_permission(grant)]


def _workspace(found: dict[str, Any]) -> Workspace:
    return Workspace(**found | {"state": WorkspaceState(found["state"])})


def _closed(row: Any) -> StateChange:
    state = WorkspaceState(row["state"])
    if state is not WorkspaceState.DELETED or row["seq"] is None:
        return StateChange(state=state)
    return StateChange(state=state, principal=row["principal"], cause=caused_by_row(row["seq"]))


def _key(found: dict[str, Any]) -> ApiKey:
    texts = {name: tuple(found[name]) for name in ("workspaces", "grants")}
    if found["agents"] is not None:
        texts["agents"] = tuple(found["agents"])
    return ApiKey(**found | texts | {"digests": tuple(_bytes(text) for text in found["digests"])})


def _session(found: dict[str, Any]) -> Session:
    read = {"digest": _bytes(found["digest"]), "kind": SessionKind(found["kind"]), "groups": tuple(found["groups"])}
    return Session(**found | read)


def _bytes(text: str) -> bytes:
    """A bytea as JSON has it: ``\\x`` and hexadecimal digits."""
    return bytes.fromhex(text[2:])
