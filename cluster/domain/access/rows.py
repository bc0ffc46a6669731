"""Rows of the log about access: one for each change. Digests of secrets are in none of them, and the names that people chose
for workspaces and keys are in their private part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.sessions import Session, SessionKind
from cluster.domain.access.workspaces import Workspace, WorkspaceState
from cluster.domain.base.log import IDENTITY, LogRecord, LogRow, LogTexts, Origin, record_for

PREFIX = "access."
LOGIN, LOGOUT = "auth.login", "auth.logout"
#: The principal of a denial whose caller has proven no identity.
ANONYMOUS = "anonymous"
LOG_TEXTS: LogTexts = {
    "state": frozenset(WorkspaceState),
    "method": frozenset(SessionKind),
    **dict.fromkeys(("workspace", "workspaces", "zone", "role", "grants", "permissions", "key_id", "agents"), IDENTITY),
    # Of a call that was denied: names of ours, none of which its caller can choose.
    **dict.fromkeys(("code", "call", "route"), IDENTITY),
}


@dataclass(frozen=True, slots=True)
class Denied:
    """What denials have in common that are counted in one row. ``status`` and ``code`` are those of the answers, ``call`` is the
    method (``WS``: a WebSocket), ``route`` the template of the path."""

    workspace: str
    principal: str
    status: int | None
    code: str
    call: str
    route: str


def workspace_record(origin: Origin, workspace: Workspace, *, is_new: bool) -> LogRecord:
    """The row of a workspace that was created or changed."""
    kind = "access.workspace_created" if is_new else "access.workspace_changed"
    data = {"state": workspace.state.value}
    if is_new and workspace.zone is not None:
        data["zone"] = workspace.zone
    return record_for(origin, workspace.changed_at, kind, workspace.id, data, {"name": workspace.name})


def binding_record(origin: Origin, at: float, binding: tuple[str, str, str], *, is_bound: bool) -> LogRecord:
    """The row of a binding (workspace, subject, role) that was added or removed. Its entity is the subject."""
    workspace, subject, role = binding
    kind = "access.role_bound" if is_bound else "access.role_unbound"
    return record_for(origin, at, kind, subject, {"workspace": workspace, "role": role})


def role_record(origin: Origin, at: float, role: CustomRole, *, is_defined: bool) -> LogRecord:
    """The row of a custom role that was defined or removed."""
    data: dict[str, object] = {"workspace": role.workspace}
    if not is_defined:
        return record_for(origin, at, "access.role_removed", role.name, data)
    return record_for(origin, at, "access.role_defined", role.name, data | {"permissions": list(role.permissions)})


def new_key_record(origin: Origin, key: ApiKey) -> LogRecord:
    """The row of a key that was created."""
    data = {"workspaces": list(key.workspaces), "grants": list(key.grants), "expires_at": key.expires_at}
    if key.agents is not None:
        data["agents"] = list(key.agents)
    return record_for(origin, key.created_at, "access.key_created", key.id, data, {"name": key.name})


def key_record(origin: Origin, at: float, key: ApiKey) -> LogRecord:
    """The row of a key that was rotated or revoked."""
    if key.revoked_at is not None:
        return record_for(origin, at, "access.key_revoked", key.id)
    return record_for(origin, at, "access.key_rotated", key.id, {"overlap_until": key.overlap_until})


def revocation_record(origin: Origin, at: float, subject: str, not_before: float, until: float) -> LogRecord:
    """The row of a revocation."""
    return record_for(origin, at, "access.revoked", subject, {"not_before": not_before, "until": until})


def failed_logins_record(
    origin: Origin, at: float, address: str, key_id: str | None, *, failures: int, throttled: int
) -> LogRecord:
    """The row of a client's failed logins: how many there were, and how many were refused unseen. ``key_id``: the key whose
    secret they did not know. An address is of a person, so it can be deleted."""
    data = {"failures": failures, "throttled": throttled, "key_id": key_id}
    return record_for(origin, at, "auth.failed", "login" if key_id is None else key_id, data, {"address": address})


def denied_record(
    at: float, denied: Denied, count: int, *, since: float, cause: str, addresses: Sequence[str]
) -> LogRecord:
    """The row of ``count`` calls that were denied from ``since`` on. ``cause`` is the trace id of the first. Addresses are of
    people, so they can be deleted."""
    data = {
        "status": denied.status,
        "code": denied.code,
        "call": denied.call,
        "route": denied.route,
        "count": count,
        "since": since,
    }
    origin = Origin(workspace=denied.workspace, principal=denied.principal, cause=cause)
    return record_for(origin, at, "auth.denied", denied.route, data, {"addresses": list(addresses)})


def login_record(origin: Origin, session: Session, address: str) -> LogRecord:
    """The row of a session that began. Its entity is the session. An address is of a person, so it can be deleted."""
    data = {"method": session.kind.value, "expires_at": session.expires_at}
    return record_for(origin, session.began_at, LOGIN, session.id, data, {"address": address})


def logout_record(origin: Origin, at: float, session_id: str) -> LogRecord:
    """The row of a session that was ended before its time."""
    return record_for(origin, at, LOGOUT, session_id)


def sessions_named(rows: Iterable[LogRow]) -> frozenset[str]:
    """The sessions that the rows began or ended."""
    return _entities(rows, LOGIN, LOGOUT)


def bindings_named(rows: Iterable[LogRow]) -> frozenset[str]:
    """The subjects whose bindings the rows changed."""
    return _entities(rows, "access.role_bound", "access.role_unbound")


def workspaces_named(rows: Iterable[LogRow]) -> frozenset[str]:
    """The workspaces that the rows changed."""
    return _entities(rows, "access.workspace_created", "access.workspace_changed")


def keys_named(rows: Iterable[LogRow]) -> frozenset[str]:
    """The keys that the rows changed."""
    return _entities(rows, "access.key_created", "access.key_rotated", "access.key_revoked")


def revocations_named(rows: Iterable[LogRow]) -> frozenset[str]:
    """The subjects of the rows' revocations."""
    return _entities(rows, "access.revoked")


def roles_named(rows: Iterable[LogRow]) -> frozenset[tuple[str, str]]:
    """The custom roles (workspace, name) that the rows changed."""
    kinds = ("access.role_defined", "access.role_removed")
    return frozenset((row.data["workspace"], row.entity) for row in rows if row.kind in kinds)


def _entities(rows: Iterable[LogRow], *kinds: str) -> frozenset[str]:
    return frozenset(row.entity for row in rows if row.kind in kinds)
