"""Roles: named sets of permissions. The built-in ones are the same everywhere; a workspace can add roles of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM, Permission, granted
from cluster.domain.base.errors import InvalidRequest

#: The names that a role can have.
ROLE_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,63}")

_P = Permission
_VIEWER = frozenset(permission for permission in ALL if permission.endswith(".read")) - {
    _P.PAYLOADS_READ,
    _P.ACCESS_READ,
    _P.AUDIT_READ,
    _P.CREDENTIALS_READ,
}
_SUBMITTER = _VIEWER | {_P.TASKS_WRITE, _P.DELIBERATIONS_WRITE, _P.PAYLOADS_READ}

#: What the worker kit calls, and nothing else. An agent sees the payloads that it is leased through its leases, and no others. It
#: reads agents to learn whether another process has its id.
_AGENT = frozenset({_P.AGENTS_READ, _P.AGENTS_CONNECT, _P.TASKS_CLAIM})

#: Role → permissions. Whatever is not listed is denied.
ROLES: Mapping[str, frozenset[Permission]] = {
    "viewer": _VIEWER,
    "submitter": _SUBMITTER,
    "operator": _SUBMITTER
    | {_P.AGENTS_WRITE, _P.AGENTS_CONNECT, _P.TASKS_CLAIM, _P.QUEUE_WRITE, _P.CREDENTIALS_READ, _P.CREDENTIALS_USE}
    | {_P.VIOLATIONS_UPDATE, _P.POLICIES_OVERRIDE, _P.NOTIFICATIONS_WRITE, _P.HOOKS_WRITE},
    "agent": _AGENT,
    "auditor": _VIEWER | {_P.ACCESS_READ, _P.AUDIT_READ, _P.AUDIT_VERIFY},
    "admin": ALL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomRole:
    """A role that a workspace has defined. ``permissions`` are names as they were given, so that an alias stays readable."""

    workspace: str
    name: str
    permissions: tuple[str, ...]


def names_permission(grant: str) -> bool:
    """Whether a grant is the name of a permission: all of those have a colon or a dot, and no role has."""
    return ":" in grant or "." in grant


def permissions_of(grants: Iterable[str], custom: Mapping[str, CustomRole]) -> frozenset[Permission]:
    """What a list of grants allows. A grant is the name of a built-in role, of one of ``custom`` (the workspace's own, by
    name), or of a permission. A workspace's own role never allows what concerns all of them: its administrator says what it
    is.

    Raises: `InvalidRequest` if a grant is none of them."""
    allowed: frozenset[Permission] = frozenset()
    for grant in grants:
        if grant in ROLES:
            allowed |= ROLES[grant]
        elif grant in custom:
            allowed |= frozenset().union(*map(granted, custom[grant].permissions)) - OF_THE_SYSTEM
        elif names_permission(grant):
            allowed |= granted(grant)
        else:
            raise InvalidRequest(
                f"{grant} is no role of this workspace; choose from {', '.join(ROLES)}.", "unknown_role"
            )
    return allowed
