"""Who calls: an identity, the workspace that it acts in, and the permissions that it has there."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.access.permissions import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """``id`` is what log rows name, such as ``user:local-admin``."""

    id: str
    workspace: str
    permissions: frozenset[Permission]


def allows(principal: Principal, permission: Permission) -> bool:
    return permission is Permission.PUBLIC or permission in principal.permissions
