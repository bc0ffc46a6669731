"""Who may give access to whom: nobody grants more than they have themselves, where they grant it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.permissions import OF_THE_SYSTEM, Permission
from cluster.domain.access.principal import Principal, permissions_in, user_name
from cluster.domain.access.roles import ROLE_PATTERN, ROLES, CustomRole, permissions_of
from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.errors import Forbidden, InvalidRequest
from cluster.domain.base.ids import check_id

#: Rows of the log that belong to no workspace name this one.
_RESERVED = "system"
_SUBJECT = re.compile(r"(user|group|key|agent):(\S{1,250})")


def checked_workspace(workspace: str, *, or_all: bool = False) -> str:
    """The id of a workspace, or with ``or_all`` also ``*``. Raises: `InvalidRequest` if it is none."""
    if or_all and workspace == ALL_WORKSPACES:
        return workspace
    if check_id(workspace, "workspace") == _RESERVED:
        raise InvalidRequest(f"{_RESERVED} is not free for a workspace; choose another id.", "invalid_id")
    return workspace


def checked_subject(subject: str) -> str:
    """A subject of role bindings as it is stored: as its principal is named. Raises: `InvalidRequest` if it is none."""
    match = _SUBJECT.fullmatch(subject)
    if match is None or not subject.isprintable():
        raise InvalidRequest(
            "subject must be user:EMAIL, group:NAME, key:ID or agent:ID, without spaces.", "invalid_subject"
        )
    kind, name = match.groups()
    return f"{kind}:{user_name(name)}" if kind == "user" else subject


def checked_role(name: str) -> str:
    """The name of a custom role. Raises: `InvalidRequest` if it is none, or is a built-in role's."""
    if ROLE_PATTERN.fullmatch(name) is None:
        raise InvalidRequest(
            "The name of a role must be 1 to 64 characters from a-z 0-9 _ - and start with a letter.", "invalid_role"
        )
    if name in ROLES:
        raise InvalidRequest(
            f"{name} is a built-in role, which cannot be changed; choose another name.", "built_in_role"
        )
    return name


def check_manages(principal: Principal, workspace: str, permission: Permission) -> None:
    """Returns if a principal may read (``ACCESS_READ``) or change (``ACCESS_WRITE``) who has access to a workspace.

    Raises: `Forbidden` if it may not, also if there is no such workspace: the two read alike."""
    if permission not in permissions_in(principal, workspace):
        where = "all workspaces" if workspace == ALL_WORKSPACES else f"the workspace {workspace}"
        raise Forbidden(f"This call needs the permission {permission} in {where}; ask an administrator for it.")


def check_within(
    principal: Principal, workspace: str, allowed: Iterable[Permission], agents: Iterable[str] | None = None
) -> None:
    """Returns if a principal may grant these permissions in a workspace, to a key that is bound to ``agents``. None: what is
    granted is bound to none, as members and roles are, so whoever is bound itself cannot grant it.

    What counts in all workspaces alone (``OF_THE_SYSTEM``) gives nothing in one, though its roles name it, so nobody has to
    have it there.

    Raises: `Forbidden` if it may not change access there, or lacks one of the permissions there, or acts for fewer agents
    itself (``exceeds_own``)."""
    check_manages(principal, workspace, Permission.ACCESS_WRITE)
    if principal.agents is not None and (agents is None or not principal.agents.issuperset(agents)):
        raise Forbidden(
            "Your key is bound to agents, so you can grant nothing but keys that are bound to those (agents); ask an "
            "administrator whose key is not.",
            "exceeds_own",
        )
    counting = set(allowed) if workspace == ALL_WORKSPACES else set(allowed) - OF_THE_SYSTEM
    missing = sorted(counting - permissions_in(principal, workspace))
    if missing:
        raise Forbidden(
            f"You cannot grant {', '.join(missing)}, which you do not have yourself; ask an administrator.",
            "exceeds_own",
        )


def check_may_grant(
    principal: Principal,
    workspaces: Iterable[str],
    grants: Sequence[str],
    custom: Mapping[str, Mapping[str, CustomRole]],
    agents: Sequence[str] | None = None,
) -> None:
    """Returns if a principal may grant these roles and permissions in each of the workspaces. ``custom``: their custom roles;
    ``agents``: as for `check_within`.

    Raises: `InvalidRequest` if a grant is neither a role there nor a permission, `Forbidden` if it is more than the principal
    has."""
    for workspace in workspaces:
        check_manages(principal, workspace, Permission.ACCESS_WRITE)  # before it could learn which roles are there
        check_within(principal, workspace, permissions_of(grants, custom.get(workspace, {})), agents)


def is_visible(principal: Principal, key: ApiKey) -> bool:
    """Whether a principal may see that a key exists: it acts where the principal may read who has access."""
    return any(Permission.ACCESS_READ in permissions_in(principal, workspace) for workspace in key.workspaces)
