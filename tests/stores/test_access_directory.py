"""A process's copy of access is what the database holds, whatever was changed by whom and however rows come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.domain.access.api_key import digest_of
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.rows import login_record
from cluster.domain.access.sessions import Session, SessionKind
from cluster.domain.access.workspaces import RoleBinding, WorkspaceState
from cluster.domain.base.errors import Conflict, NotFound
from cluster.log.access_directory import ACCESS_ROWS, AccessDirectory
from cluster.log.follower import LogFollower
from cluster.ports.access import AccessSnapshot, Revocation
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from tests.support.access import NEVER, a_binding, a_key, a_workspace
from tests.support.probes import eventually
from tests.support.samples import ASKER, NOW, registration
from tests.support.stores import StoreUrls, fresh_name

WORKSPACES = ("w", "x")


def _tables(found: AccessSnapshot) -> dict[str, Any]:
    return {
        "workspaces": {each.id: each for each in found.workspaces},
        "bindings": {(each.workspace, each.subject, each.role): each for each in found.bindings},
        "roles": {(each.workspace, each.name): each for each in found.roles},
        "keys": {each.id: each for each in found.keys},
        "revocations": {each.subject: each for each in found.revocations},
    }


@dataclass
class Ground:
    """An event loop and stores that outlive the examples of a property."""

    runner: asyncio.Runner
    stores: Stores


@pytest.fixture
def ground(store_urls: StoreUrls) -> Iterator[Ground]:
    with asyncio.Runner() as runner:
        schema = fresh_name()
        runner.run(migrate(store_urls.database, schema))
        stores = runner.run(open_stores(store_urls.database, schema, "test-region", max_connections=4))
        yield Ground(runner, stores)
        runner.run(stores.close())


class Replicas:
    """Two copies, each with a follower of its own, and the changes that a history may make."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.directories: list[AccessDirectory] = []
        self.followers: list[LogFollower] = []

    async def start(self) -> None:
        for _ in range(2):
            directory = AccessDirectory(self.stores.access)
            self.directories.append(directory)
            self.followers.append(self._follower(directory, await directory.load()))

    def _follower(self, directory: AccessDirectory, after: int) -> LogFollower:
        return LogFollower(
            self.stores.log, None, SystemClock(), after=after, apply=directory.apply, only=ACCESS_ROWS, batch=3
        )

    async def workspace(self, name: str, state: WorkspaceState) -> None:
        store = self.stores.access
        try:
            await store.create_workspace(ASKER, a_workspace(name))
        except Conflict:
            await store.put_workspace(ASKER, a_workspace(name, state=state))

    async def bind(self, workspace: str, subject: int, role: str) -> None:
        await self.stores.access.put_binding(ASKER, a_binding(f"user:{subject}", role, workspace))

    async def unbind(self, which: int) -> None:
        found = (await self.stores.access.load()).bindings
        if found:
            binding = found[which % len(found)]
            await self.stores.access.remove_binding(ASKER, binding.workspace, binding.subject, binding.role)

    async def role(self, workspace: str, name: str, permission: str) -> None:
        role = CustomRole(workspace=workspace, name=name, permissions=(permission,))
        await self.stores.access.put_role(ASKER, role)

    async def unrole(self, which: int) -> None:
        found = (await self.stores.access.load()).roles
        if found:
            role = found[which % len(found)]
            await self.stores.access.remove_role(ASKER, role.workspace, role.name)

    async def key(self, number: int, grant: str) -> None:
        await self.stores.access.create_key(ASKER, a_key(id=f"key{number}", workspaces=("*",), grants=(grant,)))

    async def rekey(self, number: int, secret: int) -> None:
        for key in (await self.stores.access.load()).keys:
            if key.id == f"key{number}":
                digests = (digest_of(str(secret)), key.digests[0])
                await self.stores.access.put_key(ASKER, replace(key, digests=digests, overlap_until=NOW))

    async def unkey(self, number: int) -> None:
        await self.stores.access.put_key(ASKER, a_key(id=f"key{number}", revoked_at=NOW))

    async def revoke(self, subject: int, until: float) -> None:
        await self.stores.access.revoke(ASKER, Revocation(subject=f"jti:{subject}", not_before=NOW, until=until))

    async def other_work(self) -> None:
        await self.stores.agents.register([registration(fresh_name())])

    async def catch_up(self, replica: int) -> None:
        await self.followers[replica].catch_up()

    async def restart(self, replica: int) -> None:
        self.directories[replica] = AccessDirectory(self.stores.access)
        cursor = await self.directories[replica].load()
        # As if the copy had been read later than the cursor says: every row may come again.
        self.followers[replica] = self._follower(self.directories[replica], max(0, cursor - 2))

    async def check(self) -> None:
        expected = _tables(await self.stores.access.load())
        for directory, follower in zip(self.directories, self.followers, strict=True):
            await follower.catch_up_to(await self.stores.log.head())
            assert _tables(directory.snapshot()) == expected


workspace = st.sampled_from((*WORKSPACES, "*"))
number = st.integers(0, 2)
role = st.sampled_from(("viewer", "admin", "own"))
permission = st.sampled_from(("controlplane:read", "controlplane:tasks"))
change = st.one_of(
    st.tuples(st.just("workspace"), st.sampled_from(WORKSPACES), st.sampled_from(WorkspaceState)),
    st.tuples(st.just("bind"), workspace, number, role),
    st.tuples(st.just("unbind"), number),
    st.tuples(st.just("role"), st.sampled_from(WORKSPACES), st.sampled_from(("own", "other")), permission),
    st.tuples(st.just("unrole"), number),
    st.tuples(st.just("key"), number, st.sampled_from(("viewer", "admin"))),
    st.tuples(st.just("rekey"), number, number),
    st.tuples(st.just("unkey"), number),
    st.tuples(st.just("revoke"), number, st.sampled_from((NOW, NEVER))),
    st.tuples(st.just("other_work")),
    st.tuples(st.just("catch_up"), st.integers(0, 1)),
    st.tuples(st.just("restart"), st.integers(0, 1)),
    st.tuples(st.just("check")),
)


@settings(
    max_examples=30,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(change, min_size=16, max_size=60))
def test_every_copy_becomes_what_the_database_holds(ground: Ground, steps: list[tuple[Any, ...]]) -> None:
    async def live() -> None:
        await ground.stores.pool.execute(
            "truncate workspaces, workspace_deletions, role_bindings, custom_roles, api_keys, api_key_agents, revocations "
            "restart identity"
        )
        replicas = Replicas(ground.stores)
        for name in WORKSPACES:
            await replicas.workspace(name, WorkspaceState.ACTIVE)
        await replicas.start()
        for name, *values in steps:
            with contextlib.suppress(Conflict, NotFound):
                await getattr(replicas, name)(*values)
        await replicas.check()

    ground.runner.run(live())


async def test_a_copy_answers_what_its_tables_hold(stores: Stores) -> None:
    store = stores.access
    await store.create_workspace(ASKER, a_workspace("w", state=WorkspaceState.SUSPENDED))
    own = CustomRole(workspace="w", name="own", permissions=("controlplane:read",))
    await store.put_role(ASKER, own)
    bindings = [a_binding(), a_binding(role="own")]
    for binding in bindings:
        await store.put_binding(ASKER, binding)
    key = a_key()
    await store.create_key(ASKER, key)
    await store.revoke(ASKER, Revocation(subject="jti:t1", not_before=0.0, until=NEVER))
    await store.revoke(ASKER, Revocation(subject="user:ann@example.org", not_before=NOW, until=NEVER))
    directory = AccessDirectory(store)
    assert (directory.workspace("w"), directory.key(key.id), directory.is_revoked("t1")) == (None, None, False)
    assert await directory.load() == await stores.log.head()
    assert {role.role for role in directory.bindings("user:ann@example.org")} == {"viewer", "own"}
    assert all(isinstance(each, RoleBinding) for each in directory.bindings("user:ann@example.org"))
    assert (directory.bindings("user:none"), directory.custom_roles("none"), directory.key("none")) == ((), {}, None)
    assert directory.custom_roles("w") == {"own": own}
    found = directory.workspace("w")
    assert found is not None
    assert found.state is WorkspaceState.SUSPENDED
    assert (directory.key(key.id), directory.is_revoked("t1"), directory.is_revoked("t2")) == (key, True, False)
    assert (directory.not_before("user:ann@example.org"), directory.not_before("user:none")) == (NOW, 0.0)


async def test_a_known_session_waits_for_no_read(stores: Stores, store_urls: StoreUrls, schema: str) -> None:
    known = Session(
        id="s1",
        digest=digest_of("secret"),
        kind=SessionKind.BROWSER,
        issuer="https://id.example.org",
        principal="user:ann@example.org",
        groups=(),
        began_at=NOW,
        expires_at=NEVER,
    )
    await stores.access.begin_session(known, login_record(ASKER, known, "192.0.2.1"))
    directory = AccessDirectory(stores.access)
    await directory.load()
    database = await asyncpg.connect(store_urls.database)
    async with database.transaction():
        await database.execute(f'lock table "{schema}".sessions')
        unknown = asyncio.ensure_future(directory.find_session("s2"))
        await eventually(lambda: directory._reading.locked())
        assert await directory.find_session("s1") == known
        assert not unknown.done()
    await database.close()
    assert await unknown is None


async def test_a_copy_that_cannot_be_read_anew_stays_and_tries_again(stores: Stores) -> None:
    await stores.access.create_workspace(ASKER, a_workspace("w"))
    directory = AccessDirectory(stores.access)
    follower = LogFollower(
        stores.log, None, SystemClock(), after=await directory.load(), apply=directory.apply, only=ACCESS_ROWS
    )
    key = a_key()
    await stores.access.create_key(ASKER, key)
    before = follower.cursor
    await stores.pool.execute("alter table api_keys rename to api_keys_away")
    with pytest.raises(Exception, match="api_keys"):
        await follower.catch_up()
    assert (follower.cursor, directory.workspace("w") is not None) == (before, True)
    await stores.pool.execute("alter table api_keys_away rename to api_keys")
    await follower.catch_up()
    assert directory.key(key.id) == key
