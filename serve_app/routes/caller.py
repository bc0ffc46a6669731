"""The route that tells a caller who it is here: the web page offers by it what its user may do."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import InvalidRequest
from serve_app.auth.admission import let_in, requires
from serve_app.auth.bearer import Proof
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import gateway

router = GuardedRouter(tags=["login"])

#: Workspaces of an answer. Whoever has more names the one it means.
MAX_WORKSPACES = 1_000


@router.get("/auth/caller")
@requires(Permission.PUBLIC)
async def show_caller(request: Request) -> dict[str, Any]:
    """Who calls, the workspace that the call acts in, the caller's roles and permissions there, and the workspaces that it can
    name in `X-Aragora-Workspace` (at most 1,000). ``workspace`` is null for a caller that has several and names none. 401
    (`Unauthenticated`) if the caller proves no identity, 403 (`Forbidden`) if it has nothing in the workspace that it names."""
    try:
        principal: Principal | None = await let_in(request)
    except InvalidRequest as error:
        if error.code != "workspace_required":
            raise
        principal = None
    # None while authentication is off: then there is one workspace.
    proof: Proof | None = request.scope["state"].get("proof")
    workspaces = set() if proof is None else _workspaces(request, proof)
    if principal is None:
        assert proof is not None, "who has several workspaces has proven an identity"
        return {
            "principal": proof.identity.id,
            "workspace": None,
            "roles": [],
            "permissions": [],
            "suspended": False,
            "workspaces": sorted(workspaces)[:MAX_WORKSPACES],
        }
    return {
        "principal": principal.id,
        "workspace": principal.workspace,
        "roles": sorted(principal.roles),
        "permissions": sorted(principal.permissions),
        "suspended": bool(principal.suspended),
        "workspaces": sorted(workspaces | {principal.workspace})[:MAX_WORKSPACES],
    }


def _workspaces(request: Request, proof: Proof) -> set[str]:
    return {
        workspace.id
        for workspace in gateway(request).access.workspaces()
        if workspace.state is not WorkspaceState.DELETED and proof.may_act_in(workspace.id)
    }
