"""The principal of a call: its identity, the workspace that it acts in, and its permissions there."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.domain.access.permissions import Permission

#: Stands before another issuer's subject where it has not verified an e-mail address, so that no subject passes for an address
#: or for a user of ours. The ``/`` is in neither.
ISSUERS_SUBJECT = "subject/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """``id`` is the name in log rows, such as ``user:local-admin``. ``everywhere`` are its permissions in every workspace; by
    them it may manage the access to others than its own. ``suspended`` are those that it lacks only because its workspace is
    suspended. ``agents`` are those that it acts for (`cluster.domain.access.acting`); None: all of its workspace. ``subjects``
    are its names in role bindings, its groups among them, and ``roles`` those of the roles that it has in its workspace: by
    them a question to people says who may answer. What a call shows does not depend on those two, so that principals that differ
    in nothing else are equal."""

    id: str
    workspace: str
    permissions: frozenset[Permission]
    everywhere: frozenset[Permission] = frozenset()
    suspended: frozenset[Permission] = frozenset()
    agents: frozenset[str] | None = None
    subjects: frozenset[str] = field(default=frozenset(), compare=False)
    roles: frozenset[str] = field(default=frozenset(), compare=False)


def user_name(name: str) -> str:
    """What follows ``user:`` in the name of a principal: an address in lower case, or another issuer's subject as it is, since
    subjects that differ by case are different people (OpenID Connect Core 1.0, section 2, ``sub``)."""
    return name if name.startswith(ISSUERS_SUBJECT) else name.lower()


def permissions_in(principal: Principal, workspace: str) -> frozenset[Permission]:
    """What a principal may do in a workspace, or (``*``) in all of them. In its own it may do what it may do everywhere, also
    while that one is suspended."""
    return principal.everywhere | (principal.permissions if workspace == principal.workspace else frozenset())


def allows(principal: Principal, permission: Permission) -> bool:
    """Whether a principal may call a route that requires ``permission``."""
    return permission is Permission.PUBLIC or permission in principal.permissions
