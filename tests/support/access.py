"""What is stored about access, as tests state it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.domain.access.roles import CustomRole
from cluster.domain.access.workspaces import RoleBinding, Workspace, WorkspaceState


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
