"""Nothing new starts in a suspended workspace, whoever asks for it."""

from __future__ import annotations

from cluster.domain.access.identity import AccessTables
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import Forbidden


def check_starts(tables: AccessTables, workspace: str) -> None:
    """Returns if work may start in a workspace. Raises: `Forbidden` (``workspace_suspended``) while it is suspended."""
    known = tables.workspace(workspace)
    if known is not None and known.state is WorkspaceState.SUSPENDED:
        raise Forbidden(
            f"The workspace {workspace} is suspended: nothing is claimed until an administrator resumes it.",
            "workspace_suspended",
        )
