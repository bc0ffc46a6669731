"""What is stored about access: workspaces, role bindings, custom roles, API keys and revocations.

Every change writes a log row ``access.*`` in the same commit, and every process follows those rows (``AccessDirectory`` in
``cluster/log``), so that a revocation counts everywhere within a second, without a read of the database per request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.workspaces import RoleBinding, Workspace
from cluster.domain.base.log import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What no longer counts. ``subject`` is ``jti:ID`` (one token) or a principal, whose tokens issued before ``not_before``
    (epoch seconds) are refused. ``until``: when every token that it can name has expired, so that the row may be removed."""

    subject: str
    not_before: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSnapshot:
    """Everything that decides access, and the cursor of the log from which to follow."""

    cursor: int
    workspaces: Sequence[Workspace]
    bindings: Sequence[RoleBinding]
    roles: Sequence[CustomRole]
    keys: Sequence[ApiKey]
    revocations: Sequence[Revocation]


class AccessStore(Protocol):
    """One transaction per call, with its log row. ``Origin.workspace`` is where the change is logged."""

    async def load(self) -> AccessSnapshot:
        """Everything, from one snapshot of the database."""
        ...

    async def put_workspace(self, origin: Origin, workspace: Workspace) -> Workspace:
        """Creates a workspace or changes its name or state."""
        ...

    async def put_binding(self, origin: Origin, binding: RoleBinding) -> None:
        """Adds a role binding; one that is there already stays."""
        ...

    async def remove_binding(self, origin: Origin, workspace: str, subject: str, role: str) -> bool:
        """Removes a role binding. False if there was none.

        Raises: `Conflict` (``last_admin``) if nobody else could administer access afterwards."""
        ...

    async def put_role(self, origin: Origin, role: CustomRole) -> None:
        """Defines a custom role, or defines it anew."""
        ...

    async def remove_role(self, origin: Origin, workspace: str, name: str) -> bool:
        """Removes a custom role. Raises: `Conflict` (``role_in_use``) while a binding or a valid key names it."""
        ...

    async def put_key(self, origin: Origin, key: ApiKey) -> None:
        """Creates a key, or stores its rotation or revocation."""
        ...

    async def used(self, uses: Sequence[tuple[str, float]]) -> None:
        """Notes when keys were last used, (id, epoch seconds) each. Writes no log row."""
        ...

    async def revoke(self, origin: Origin, revocation: Revocation) -> None:
        """Stores a revocation."""
        ...
