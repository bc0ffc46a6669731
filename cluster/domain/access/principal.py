"""Who calls: an identity, the workspace that it acts in, and the permissions that it has there."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.domain.access.permissions import Permission
from cluster.domain.base.log import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """``id`` is what log rows name, such as ``user:local-admin``."""

    id: str
    workspace: str
    permissions: frozenset[Permission]

    #: What goes with a mutation down to its log row. Permissions stay behind: they are checked once, at the door. Made here
    #: because a resolver may keep a principal for many requests.
    origin: Origin = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", Origin(workspace=self.workspace, principal=self.id))


def allows(principal: Principal, permission: Permission) -> bool:
    return permission is Permission.PUBLIC or permission in principal.permissions
