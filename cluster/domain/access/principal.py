"""The principal of a call: its identity, the workspace that it acts in, and its permissions there."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.access.permissions import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """``id`` is the name in log rows, such as ``user:local-admin``."""

    id: str
    workspace: str
    permissions: frozenset[Permission]


def allows(principal: Principal, permission: Permission) -> bool:
    """Whether a principal may call a route that requires ``permission``."""
    return permission is Permission.PUBLIC or permission in principal.permissions
