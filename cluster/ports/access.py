"""What is stored about access: workspaces, role bindings, custom roles, API keys, revocations and sessions.

Every change writes a log row ``access.*`` (of a session ``auth.login`` or ``auth.logout``) in the same commit, and every
process follows those rows (``AccessDirectory`` in ``cluster/log``), so that a revocation counts everywhere within a second,
without a read of the database per request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.sessions import Session
from cluster.domain.access.workspaces import RoleBinding, StateChange, Workspace
from cluster.domain.base.log import LogRecord, Origin
from cluster.ports.totals import Total


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
    sessions: Sequence[Session] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessNames:
    """Names what is to be read: workspaces, subjects (all their bindings), roles (workspace, name), keys, subjects of
    revocations, and sessions."""

    workspaces: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()
    roles: frozenset[tuple[str, str]] = frozenset()
    keys: frozenset[str] = frozenset()
    revocations: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()


class WorkspaceStates(Protocol):
    """What the parts of the system ask that start work in all workspaces."""

    async def closed(self) -> Mapping[str, StateChange]:
        """The workspaces in which nothing starts, by id: suspended or deleted. Raises: `StoreUnavailable`."""
        ...


class AccessStore(WorkspaceStates, Protocol):
    """One transaction per call, with its log row. ``Origin.workspace`` is where the change is logged. A change that changes
    nothing writes no row."""

    async def load(self) -> AccessSnapshot:
        """Everything, from one snapshot of the database."""
        ...

    async def read(self, names: AccessNames) -> AccessSnapshot:
        """What is named, from one snapshot of the database. What does not exist is left out."""
        ...

    async def list_workspaces(self, after: str, limit: int) -> tuple[Sequence[Workspace], Total]:
        """A page of the workspaces that were not deleted, by id, after one of them; and how many there are in all."""
        ...

    async def list_members(
        self, workspace: str, after: tuple[str, str] | None, limit: int
    ) -> tuple[Sequence[RoleBinding], Total]:
        """A page of the bindings of a workspace (``*``: of those in all), by subject and role, after one of them; and how many
        there are in all."""
        ...

    async def list_keys(
        self, workspace: str | None, after: tuple[float, str] | None, limit: int
    ) -> tuple[Sequence[ApiKey], Total]:
        """A page of the keys that name a workspace, or (None) of all, the oldest first, after the one that was created at a time
        (epoch seconds) and has an id; and how many there are in all."""
        ...

    async def create_workspace(self, origin: Origin, workspace: Workspace) -> None:
        """Creates a workspace, active, which stays in its zone.

        Raises: `Conflict` (``workspace_exists``) if there is or was one of that id."""
        ...

    async def put_workspace(self, origin: Origin, workspace: Workspace) -> None:
        """Changes a workspace's name or state. One that was deleted stays so.

        Raises: `NotFound` if there is none of that id or it was deleted."""
        ...

    async def put_binding(self, origin: Origin, binding: RoleBinding) -> None:
        """Adds a role binding; one that is there already stays.

        Raises: `NotFound` if the workspace or the custom role does not exist."""
        ...

    async def remove_binding(self, origin: Origin, workspace: str, subject: str, role: str) -> bool:
        """Removes a role binding. False if there was none.

        Raises: `Conflict` (``last_admin``) if nobody else could administer access afterwards."""
        ...

    async def put_role(self, origin: Origin, role: CustomRole) -> None:
        """Defines a custom role, or defines it anew. Raises: `NotFound` if the workspace does not exist."""
        ...

    async def remove_role(self, origin: Origin, workspace: str, name: str) -> bool:
        """Removes a custom role. Raises: `Conflict` (``role_in_use``) while a binding or a valid key names it."""
        ...

    async def create_key(self, origin: Origin, key: ApiKey, *, first: bool = False) -> bool:
        """Creates a key. False if there is one of that id, which stays as it is. ``first``: only while nobody can administer
        access.

        Raises: `NotFound` if one of its workspaces or custom roles does not exist, `Conflict` (``not_first``) if it was to be
        the first and is not."""
        ...

    async def put_key(self, origin: Origin, key: ApiKey) -> None:
        """Stores a key's rotation (two digests, the newest first) or its revocation, which nothing takes back.

        Raises: `NotFound` if there is no such key; `Conflict` if it was revoked (``key_revoked``), if another rotation came
        in between (``key_rotated``), or if nobody else could administer access afterwards (``last_admin``)."""
        ...

    async def used(self, uses: Sequence[tuple[str, float]]) -> None:
        """Notes when keys were last used, (id, epoch seconds) each. Writes no log row."""
        ...

    async def revoke(self, origin: Origin, revocation: Revocation) -> None:
        """Stores a revocation, and ends the principal's sessions that began at ``not_before`` or later: they are there already,
        so the clock of who began them is ahead."""
        ...

    async def begin_session(self, session: Session, record: LogRecord) -> None:
        """Stores a session with the row of its login, and deletes those whose time is over."""
        ...

    async def end_session(self, session_id: str, record: LogRecord) -> bool:
        """Deletes a session, with the row of its logout. False if there is none of that id."""
        ...


class LoginStore(Protocol):
    """Logins that have begun and not ended yet. They are of one region and of no interest to the log."""

    async def begin_login(self, digest: bytes, target: str, now: float, expires_at: float) -> None:
        """Stores a login under the SHA-256 of its state, with the path to which it leads; deletes those whose time is over."""
        ...

    async def take_login(self, digest: bytes, now: float) -> str | None:
        """Deletes a login and returns its path; None if there is none: it never began, its time is over, or it was taken."""
        ...
