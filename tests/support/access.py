"""Workspaces, keys and bindings that tests build on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.access.api_key import ApiKey, digest_of
from cluster.domain.access.roles import CustomRole
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


@dataclass
class StatedTables:
    """``AccessTables`` of workspaces in their states, of (workspace, subject, role), and of custom roles."""

    states: Mapping[str, WorkspaceState] = field(default_factory=dict)
    bound: Sequence[tuple[str, str, str]] = ()
    roles: Sequence[CustomRole] = ()

    def bindings(self, subject: str) -> Sequence[RoleBinding]:
        return [
            RoleBinding(workspace=workspace, subject=bound, role=role, created_at=0.0, created_by="test")
            for workspace, bound, role in self.bound
            if bound == subject
        ]

    def custom_roles(self, workspace: str) -> Mapping[str, CustomRole]:
        return {role.name: role for role in self.roles if role.workspace == workspace}

    def workspace(self, workspace: str) -> Workspace | None:
        state = self.states.get(workspace)
        if state is None:
            return None
        return Workspace(id=workspace, name=workspace, state=state, created_at=0.0, changed_at=0.0)
