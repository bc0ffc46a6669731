"""A process's copy of everything that decides access, kept up to date by the log.

So a request costs no read of the database, and a revocation counts in every process as soon as it has read the revocation's row:
at once if the doorbell rings, else at the follower's next poll. If the database is away, the copy answers as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from cluster.domain.access import rows as access_rows
from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.sessions import Session
from cluster.domain.access.workspaces import RoleBinding, Workspace
from cluster.domain.base.log import LogRow
from cluster.ports.access import AccessNames, AccessSnapshot, AccessStore, Revocation
from cluster.ports.log import LogFilter

#: The rows that a follower has to read to keep a directory.
ACCESS_ROWS = LogFilter(kinds=(access_rows.PREFIX, access_rows.LOGIN, access_rows.LOGOUT))
_TOKEN = "jti:"


class AccessDirectory:
    """The ``AccessTables`` of a process, and what its resolvers ask about keys and tokens."""

    def __init__(self, store: AccessStore) -> None:
        self._store = store
        self._workspaces: dict[str, Workspace] = {}
        #: Subject → its bindings.
        self._bindings: dict[str, tuple[RoleBinding, ...]] = {}
        #: Workspace → name → role.
        self._roles: dict[str, dict[str, CustomRole]] = {}
        self._keys: dict[str, ApiKey] = {}
        self._revocations: dict[str, Revocation] = {}
        self._sessions: dict[str, Session] = {}
        #: How often this copy has changed. Whatever was derived from it is derived again when this number differs.
        self.generation = 0
        #: Set, and replaced by a new event, whenever ``generation`` rises.
        self._moved = asyncio.Event()
        #: Held from a read until it is applied: of two reads at once, the older one must not be applied last.
        self._reading = asyncio.Lock()

    # --- answers ---------------------------------------------------------------------------------------------------

    def bindings(self, subject: str) -> Sequence[RoleBinding]:
        """The bindings of one subject, in all workspaces."""
        return self._bindings.get(subject, ())

    def custom_roles(self, workspace: str) -> Mapping[str, CustomRole]:
        """The roles that a workspace has defined, by name."""
        return self._roles.get(workspace, {})

    def workspace(self, workspace: str) -> Workspace | None:
        """A workspace; None if there is none of that id."""
        return self._workspaces.get(workspace)

    def workspaces(self) -> Iterable[Workspace]:
        """All of them, in no order, with those that were deleted."""
        return self._workspaces.values()

    def key(self, key_id: str) -> ApiKey | None:
        """An API key, also one that is not valid any more; None if there is none of that id."""
        return self._keys.get(key_id)

    def is_revoked(self, jti: str) -> bool:
        """Whether the token of that id was revoked."""
        return _TOKEN + jti in self._revocations

    def not_before(self, principal: str) -> float:
        """Tokens of a principal that were issued before this time (epoch seconds) do not count; 0 if all do."""
        found = self._revocations.get(principal)
        return 0.0 if found is None else found.not_before

    def session(self, session_id: str) -> Session | None:
        """A session that this copy knows, also one whose time is over."""
        return self._sessions.get(session_id)

    def snapshot(self) -> AccessSnapshot:
        """The whole copy. Its cursor is 0, since the follower keeps that."""
        return AccessSnapshot(
            cursor=0,
            workspaces=list(self._workspaces.values()),
            bindings=[binding for bindings in self._bindings.values() for binding in bindings],
            roles=[role for roles in self._roles.values() for role in roles.values()],
            keys=list(self._keys.values()),
            revocations=list(self._revocations.values()),
            sessions=list(self._sessions.values()),
        )

    async def changed_since(self, generation: int) -> None:
        """Returns when the copy has another generation than this one."""
        while self.generation == generation:
            await self._moved.wait()

    # --- changes ---------------------------------------------------------------------------------------------------

    async def load(self) -> int:
        """Reads everything and returns the cursor from which to follow the log."""
        async with self._reading:
            found = await self._store.load()
            for table in (
                self._workspaces,
                self._bindings,
                self._roles,
                self._keys,
                self._revocations,
                self._sessions,
            ):
                table.clear()
            self._put(found)
        return found.cursor

    async def apply(self, rows: Sequence[LogRow]) -> None:
        """Reads again what the rows name, so that a row that is applied twice does no harm. Raises: `StoreUnavailable`."""
        names = AccessNames(
            workspaces=access_rows.workspaces_named(rows),
            subjects=access_rows.bindings_named(rows),
            roles=access_rows.roles_named(rows),
            keys=access_rows.keys_named(rows),
            revocations=access_rows.revocations_named(rows),
            sessions=access_rows.sessions_named(rows),
        )
        if names.sessions:  # as the store does with every login
            now = max(row.at for row in rows if row.entity in names.sessions)
            self._sessions = {id: found for id, found in self._sessions.items() if found.expires_at > now}
        if names.revocations:
            # As the store does with every revocation. Those that the rows name are read, so that none is lost.
            expired_at = max(row.at for row in rows if row.entity in names.revocations)
            self._revocations = {
                subject: found for subject, found in self._revocations.items() if found.until > expired_at
            }
        await self.refresh(names)

    async def refresh(self, names: AccessNames) -> None:
        """Reads again what is named. A process that has just changed it need not wait for the log.

        Raises: `StoreUnavailable`."""
        async with self._reading:
            found = await self._store.read(names)
            for workspace, name in names.roles:
                self._roles.get(workspace, {}).pop(name, None)
            for table, removed in (
                (self._workspaces, names.workspaces),
                (self._bindings, names.subjects),
                (self._keys, names.keys),
                (self._revocations, names.revocations),
                (self._sessions, names.sessions),
            ):
                for name in removed:
                    table.pop(name, None)
            self._put(found)

    async def find_session(self, session_id: str) -> Session | None:
        """A session, also one that began at another replica whose row this copy has not read yet. ``generation`` stays: what was
        derived from the copy does not change, and whoever makes ids up must not make every replica derive it again.

        Raises: `StoreUnavailable`."""
        known = self._sessions.get(session_id)
        if (
            known is not None
        ):  # a read that hangs, such as that of an id that was made up, must not hold up who has logged in
            return known
        async with self._reading:
            if session_id not in self._sessions:
                found = await self._store.read(AccessNames(sessions=frozenset({session_id})))
                self._sessions.update({session.id: session for session in found.sessions})
            return self._sessions.get(session_id)

    def _put(self, found: AccessSnapshot) -> None:
        self._workspaces.update({workspace.id: workspace for workspace in found.workspaces})
        self._keys.update({key.id: key for key in found.keys})
        self._revocations.update({revocation.subject: revocation for revocation in found.revocations})
        self._sessions.update({session.id: session for session in found.sessions})
        for role in found.roles:
            self._roles.setdefault(role.workspace, {})[role.name] = role
        by_subject: dict[str, list[RoleBinding]] = {}
        for binding in found.bindings:
            by_subject.setdefault(binding.subject, []).append(binding)
        self._bindings.update({subject: tuple(bindings) for subject, bindings in by_subject.items()})
        self.generation += 1
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
