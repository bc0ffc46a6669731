"""Workspaces, keys and bindings that tests build on."""

from __future__ import annotations

import itertools
from typing import Any

from cluster.domain.access.api_key import ApiKey, digest_of
from cluster.domain.access.workspaces import RoleBinding, Workspace, WorkspaceState
from tests.support.samples import NOW

_numbers = itertools.count(1)
#: Long after any test.
NEVER = 4_000_000_000.0


def a_workspace(workspace_id: str = "w", **changes: Any) -> Workspace:
    values: dict[str, Any] = {
        "id": workspace_id,
        "name": workspace_id,
        "state": WorkspaceState.ACTIVE,
        "created_at": NOW,
        "changed_at": NOW,
    }
    return Workspace(**values | changes)


def a_key(**changes: Any) -> ApiKey:
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"key{number:010d}",
        "name": f"Key {number} of somebody",
        "workspaces": ("w",),
        "grants": ("viewer",),
        "digests": (digest_of(f"secret {number}"),),
        "created_at": NOW,
        "created_by": "user:tester",
    }
    return ApiKey(**values | changes)


def a_binding(subject: str = "user:ann@example.org", role: str = "viewer", workspace: str = "w") -> RoleBinding:
    return RoleBinding(workspace=workspace, subject=subject, role=role, created_at=NOW, created_by="user:tester")
