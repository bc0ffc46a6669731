"""From a proven identity to a principal: which workspace a call acts in, and what it may do there.

Pure: the tables that decide are handed in (``AccessTables``), so that every way to authenticate decides alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM, WHILE_SUSPENDED, Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.roles import ROLES, CustomRole, names_permission, permissions_of
from cluster.domain.access.workspaces import ALL_WORKSPACES, RoleBinding, Workspace, WorkspaceState
from cluster.domain.base.errors import Forbidden, InvalidRequest


class Method(StrEnum):
    """How an identity was proven."""

    NONE = "none"
    API_KEY = "api_key"
    JWT = "jwt"
    SESSION = "session"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who proved to be who. ``subjects`` are the names that role bindings may use for it: its own first, then its groups.

    ``workspaces`` and ``grants`` are what the credential itself carries (an API key); empty if bindings alone decide.
    ``agents`` are those that it is bound to; None: it acts for every agent of its workspace.
    """

    id: str
    method: Method
    subjects: tuple[str, ...]
    workspaces: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    agents: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """The settings that decide. ``admins`` are subjects that are administrators everywhere (``ARAGORA_ADMIN_USERS``);
    ``default_role`` is what a proven identity without a binding has in ``home``, the default workspace; empty: nothing."""

    home: str
    admins: frozenset[str] = frozenset()
    default_role: str = ""
    #: (group's subject, role): what whoever logged in with the OIDC provider has in ``home`` by its groups.
    group_roles: frozenset[tuple[str, str]] = frozenset()
    #: Anybody can have an account at the OIDC provider, so ``default_role`` is not for those who logged in with it.
    open_provider: bool = False
    #: False (``ARAGORA_RBAC_ENABLED``): whoever is authenticated may do everything in its workspaces.
    enforced: bool = True


class AccessTables(Protocol):
    """What is stored about access, as a process knows it."""

    def bindings(self, subject: str) -> Sequence[RoleBinding]:
        """The bindings of one subject, in all workspaces."""
        ...

    def custom_roles(self, workspace: str) -> Mapping[str, CustomRole]:
        """The roles that a workspace has defined, by name."""
        ...

    def workspace(self, workspace: str) -> Workspace | None:
        """A workspace; None if there is none of that id."""
        ...


def principal_for(identity: Identity, asked: str | None, tables: AccessTables, policy: AccessPolicy) -> Principal:
    """The principal of a call that names the workspace ``asked``; None: the first of the credential, else the only one of
    its bindings that was not deleted, else the default workspace. Whoever had bindings in deleted ones only has nothing: that
    a workspace is deleted gives nobody the rights of those who were never bound.

    Raises: `InvalidRequest` (``workspace_required``) if it has several and names none; `Forbidden` if it has nothing in that
    workspace, or the workspace does not exist or was deleted: the two read alike, so that nobody learns which exist."""
    bound = _bindings(identity, tables, policy)
    workspace = asked or _own_workspace(identity, _not_deleted(bound, tables) or bound, policy)
    known = tables.workspace(workspace)
    custom = tables.custom_roles(workspace)
    grants = _grants(identity, workspace, bound, custom, policy)
    permissions = _permissions(identity, grants, custom, policy)
    if known is None or known.state is WorkspaceState.DELETED or not permissions:
        raise Forbidden(f"You have no role in the workspace {workspace}; ask an administrator for one.")
    suspended = permissions - WHILE_SUSPENDED if known.state is WorkspaceState.SUSPENDED else frozenset()
    everywhere = ALL if _is_admin(identity, policy) else _allowed(_unbounded(identity, bound, custom={}), {}, policy)
    return Principal(
        id=identity.id,
        workspace=workspace,
        permissions=permissions - suspended,
        everywhere=everywhere,
        suspended=suspended,
        agents=identity.agents,
        subjects=frozenset(identity.subjects),
        roles=_roles(identity, grants, policy),
    )


def _not_deleted(bindings: Sequence[tuple[str, str]], tables: AccessTables) -> Sequence[tuple[str, str]]:
    """The bindings that can still give something. A deleted workspace keeps its own, which nobody can remove any more."""
    return [
        (role, workspace)
        for role, workspace in bindings
        if (known := tables.workspace(workspace)) is None or known.state is not WorkspaceState.DELETED
    ]


def _own_workspace(identity: Identity, bindings: Sequence[tuple[str, str]], policy: AccessPolicy) -> str:
    if identity.workspaces:
        first = identity.workspaces[0]
        return policy.home if first == ALL_WORKSPACES else first
    bound = {workspace for _, workspace in bindings}
    if _is_admin(identity, policy) or ALL_WORKSPACES in bound or not bound:
        return policy.home
    if len(bound) > 1:
        raise InvalidRequest(
            f"Name a workspace in the header X-Aragora-Workspace: you have a role in {', '.join(sorted(bound))}. Commands and "
            "workers take it from ARAGORA_CLIENT_WORKSPACE.",
            "workspace_required",
        )
    return bound.pop()


_Grants = tuple[Sequence[str], Sequence[str]]
"""What an identity has in all workspaces, and what it has in one alone."""


def _grants(
    identity: Identity,
    workspace: str,
    bindings: Sequence[tuple[str, str]],
    custom: Mapping[str, CustomRole],
    policy: AccessPolicy,
) -> _Grants | None:
    """The grants that count in a workspace; None if the identity may not act there."""
    if identity.workspaces and not {workspace, ALL_WORKSPACES} & set(identity.workspaces):
        return None
    everywhere = _unbounded(identity, bindings, custom)
    here = [role for role, bound in bindings if bound == workspace]
    if ALL_WORKSPACES not in identity.workspaces:
        here += identity.grants
    if not everywhere and not here and not identity.workspaces and workspace == policy.home:
        here = _default(identity, policy)
    return everywhere, here


def _permissions(
    identity: Identity, grants: _Grants | None, custom: Mapping[str, CustomRole], policy: AccessPolicy
) -> frozenset[Permission]:
    if grants is None:
        return frozenset()
    if _is_admin(identity, policy):
        return ALL
    everywhere, here = grants
    return _allowed(everywhere, custom, policy) | (_allowed(here, custom, policy) - OF_THE_SYSTEM)


def _roles(identity: Identity, grants: _Grants | None, policy: AccessPolicy) -> frozenset[str]:
    """The names of its roles in a workspace."""
    if grants is None:
        return frozenset()
    admin = ("admin",) if _is_admin(identity, policy) else ()
    return frozenset(grant for grant in (*admin, *grants[0], *grants[1]) if not names_permission(grant))


def _default(identity: Identity, policy: AccessPolicy) -> list[str]:
    """What an identity without any role has in the default workspace."""
    is_anybody = policy.open_provider and identity.method is Method.SESSION
    return [policy.default_role] if policy.default_role and not is_anybody else []


def _bindings(identity: Identity, tables: AccessTables, policy: AccessPolicy) -> list[tuple[str, str]]:
    """(role, workspace) of each binding, those of the settings included."""
    stored = [(each.role, each.workspace) for subject in identity.subjects for each in tables.bindings(subject)]
    if identity.method is not Method.SESSION:
        return stored
    return stored + [(role, policy.home) for subject, role in policy.group_roles if subject in identity.subjects]


def _unbounded(identity: Identity, bindings: Sequence[tuple[str, str]], custom: Mapping[str, CustomRole]) -> list[str]:
    """The grants that count in all workspaces. A role that only some workspaces define counts where it is one of ``custom``."""
    grants = [role for role, bound in bindings if bound == ALL_WORKSPACES]
    if ALL_WORKSPACES in identity.workspaces:
        grants += identity.grants
    return [grant for grant in grants if grant in ROLES or grant in custom or names_permission(grant)]


def _allowed(grants: Sequence[str], custom: Mapping[str, CustomRole], policy: AccessPolicy) -> frozenset[Permission]:
    if grants and not policy.enforced:
        return ALL
    return permissions_of(grants, custom)


def _is_admin(identity: Identity, policy: AccessPolicy) -> bool:
    return bool(identity.subjects) and identity.subjects[0] in policy.admins
