"""Nothing new starts in a suspended workspace, whoever asks for it."""

from __future__ import annotations

from typing import Final

from cluster.domain.access.identity import AccessTables
from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import Forbidden

CODE: Final = "workspace_suspended"


def check_starts(tables: AccessTables, workspace: str) -> None:
    """Returns if work may start in a workspace. Raises: `Forbidden` (``workspace_suspended``) while it is suspended."""
    known = tables.workspace(workspace)
    if known is not None and known.state is WorkspaceState.SUSPENDED:
        raise Forbidden(
            f"The workspace {workspace} is suspended: nothing is claimed until an administrator resumes it.",
            CODE,
        )


def refusal(principal: Principal, permission: Permission) -> Forbidden:
    """Why a call that needs the permission is refused to a caller without it."""
    if permission in principal.suspended:
        return Forbidden(
            f"The workspace {principal.workspace} is suspended: nothing changes in it until an administrator resumes it "
            f"(aragora-cp workspaces resume {principal.workspace}).",
            CODE,
        )
    return Forbidden(f"This call needs the permission {permission}; ask an administrator for it.")
