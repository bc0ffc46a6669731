"""What is stored about access, on real PostgreSQL: each change and its row, and two writers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.access.api_key import ApiKey, digest_of
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.workspaces import StateChange, Workspace, WorkspaceState
from cluster.domain.base.errors import Conflict, Fenced, NotFound
from cluster.ports.access import AccessNames, Revocation
from cluster.ports.tasks import SubmitItem
from cluster.postgres.migrate import migrate, shipped
from cluster.postgres.stores import Stores, open_stores
from tests.support.access import NEVER, a_binding, a_key, a_workspace
from tests.support.samples import ASKER, NOW, new_task
from tests.support.stores import StoreUrls, fresh_name

ADMIN: dict[str, Any] = {"workspaces": ("*",), "grants": ("admin",)}


async def _with_w(stores: Stores) -> Stores:
    await stores.access.create_workspace(ASKER, a_workspace("w"))
    return stores


async def _refusal(call: Awaitable[object]) -> str:
    with pytest.raises((Conflict, NotFound)) as refused:
        await call
    return refused.value.code


async def _key(stores: Stores, key_id: str) -> ApiKey:
    (found,) = (await stores.access.read(AccessNames(keys=frozenset({key_id})))).keys
    return found


async def _kinds(stores: Stores) -> list[str]:
    rows = await stores.log.read(0, 1000)
    assert all(row.verifies() for row in rows)
    return [row.kind.removeprefix("access.") for row in rows]


async def test_workspaces_that_were_in_use_go_on(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema, [migration for migration in shipped() if migration.version < 9])
    stores = await open_stores(store_urls.database, schema, "test-region")
    try:
        await stores.tasks.submit([SubmitItem(task=new_task(origin=replace(ASKER, workspace="of-a-task")))])
        # As a build of that time did: the functions of this one do more.
        await stores.pool.execute(
            """insert into agents (workspace, agent_id, principal, capabilities, model, provider, metadata, tags, region_id,
                   available_regions, transport, max_concurrency, options, intent, liveness, health, registered_at, updated_at)
               values ('of-an-agent', 'a1', 'p', '[]', '', '', '{}', '[]', '', '[]', 'pull', 1, '{}', 'active', 'online',
                   'unknown', 1, 1)"""
        )
        await migrate(store_urls.database, schema)
        found = (await stores.access.load()).workspaces
        assert {(each.id, each.name, each.state.value) for each in found} == {
            (name, name, "active") for name in ("default", "of-a-task", "of-an-agent")
        }
    finally:
        await stores.close()


async def test_a_workspace_is_created_once_changed_and_deleted_for_good(stores: Stores) -> None:
    new = a_workspace("w", name="The first one")
    await stores.access.create_workspace(ASKER, new)
    assert await _refusal(stores.access.create_workspace(ASKER, new)) == "workspace_exists"
    changed = replace(new, name="Renamed", state=WorkspaceState.SUSPENDED, changed_at=NOW + 5)
    await stores.access.put_workspace(ASKER, changed)
    await stores.access.put_workspace(ASKER, replace(changed, changed_at=NOW + 6))
    assert (await stores.access.read(AccessNames(workspaces=frozenset({"w"})))).workspaces == [changed]
    await stores.access.put_workspace(ASKER, replace(changed, state=WorkspaceState.DELETED))
    assert await _refusal(stores.access.put_workspace(ASKER, changed)) == "workspace_not_found"
    assert await _refusal(stores.access.create_workspace(ASKER, new)) == "workspace_exists"
    assert await _refusal(stores.access.put_workspace(ASKER, a_workspace("none"))) == "workspace_not_found"
    assert await _kinds(stores) == ["workspace_created", "workspace_changed", "workspace_changed"]


async def test_workspaces_in_which_nothing_starts_are_listed(stores: Stores) -> None:
    await _with_w(stores)
    for state in (WorkspaceState.SUSPENDED, WorkspaceState.DELETED):
        await stores.access.create_workspace(ASKER, a_workspace(state.value))
        await stores.access.put_workspace(ASKER, a_workspace(state.value, state=state))
    deletion = (await stores.log.read(0, 1000))[-1]
    assert await stores.access.closed() == {
        "suspended": StateChange(state=WorkspaceState.SUSPENDED),
        "deleted": StateChange.of(deletion),
    }
    assert (deletion.principal, deletion.data["state"]) == (ASKER.principal, "deleted")


async def test_who_deleted_a_workspace_is_known_after_a_migration(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema, [migration for migration in shipped() if migration.version < 57])
    stores = await open_stores(store_urls.database, schema, "test-region")
    try:
        await stores.access.create_workspace(ASKER, a_workspace("w"))
        await stores.access.put_workspace(ASKER, a_workspace("w", state=WorkspaceState.DELETED))
        await migrate(store_urls.database, schema)
        assert await stores.access.closed() == {"w": StateChange.of((await stores.log.read(0, 1000))[-1])}
    finally:
        await stores.close()


async def test_a_key_is_stored_without_its_secret_and_read_as_it_was(stores: Stores) -> None:
    await _with_w(stores)
    key = a_key(name="Of the build", grants=("viewer", "controlplane:tasks.write"), expires_at=NEVER + 0.25)
    assert await stores.access.create_key(ASKER, key)
    assert not await stores.access.create_key(ASKER, replace(key, digests=(digest_of("other"),)))
    assert await _key(stores, key.id) == key
    assert (await stores.access.load()).keys == [key]
    await stores.access.used([(key.id, NOW + 9), (key.id, NOW + 8)])
    await stores.access.used([(key.id, NOW + 7)])
    assert (await _key(stores, key.id)).last_used_at == NOW + 9
    (_, row) = await stores.log.read(0, 10)
    assert (row.kind, row.entity, row.private) == ("access.key_created", key.id, {"name": "Of the build"})
    assert key.digests[0].hex() not in str(row)


async def test_the_agents_of_a_key_are_stored_logged_and_stay(stores: Stores) -> None:
    await _with_w(stores)
    bound, free = a_key(agents=("a", "b")), a_key()
    for key in (bound, free):
        assert await stores.access.create_key(ASKER, key)
    assert not await stores.access.create_key(ASKER, replace(bound, agents=("c",)))
    await stores.access.put_key(ASKER, replace(bound, revoked_at=NOW + 1))
    assert await _key(stores, bound.id) == replace(bound, revoked_at=NOW + 1)
    assert await _key(stores, free.id) == free
    rows = await stores.log.read(0, 10)
    assert [row.data.get("agents") for row in rows if row.kind == "access.key_created"] == [["a", "b"], None]


async def test_a_revoked_key_stays_revoked_and_of_two_rotations_one_counts(stores: Stores) -> None:
    await _with_w(stores)
    key = a_key()
    await stores.access.create_key(ASKER, key)

    def rotated(of: ApiKey, secret: str) -> ApiKey:
        return replace(of, digests=(digest_of(secret), of.digests[0]), overlap_until=NOW + 60)

    outcomes = await asyncio.gather(
        *(stores.access.put_key(ASKER, rotated(key, f"new {n}")) for n in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "NoneType"]
    stored = await _key(stores, key.id)
    assert stored in [rotated(key, "new 0"), rotated(key, "new 1")]
    await stores.access.put_key(ASKER, replace(stored, revoked_at=NOW + 1))
    await stores.access.put_key(ASKER, replace(stored, revoked_at=NOW + 2))
    assert await _refusal(stores.access.put_key(ASKER, rotated(stored, "again"))) == "key_revoked"
    assert await _key(stores, key.id) == replace(stored, revoked_at=NOW + 1)
    assert await _refusal(stores.access.put_key(ASKER, a_key())) == "key_not_found"
    assert await _kinds(stores) == ["workspace_created", "key_created", "key_rotated", "key_revoked"]


async def test_a_binding_is_added_once_and_removed_once(stores: Stores) -> None:
    await _with_w(stores)
    binding = a_binding()
    await stores.access.put_binding(ASKER, binding)
    await stores.access.put_binding(ASKER, replace(binding, created_by="user:another"))
    assert (await stores.access.load()).bindings == [binding]
    names = (binding.workspace, binding.subject, binding.role)
    assert [await stores.access.remove_binding(ASKER, *names) for _ in range(2)] == [True, False]
    assert await _refusal(stores.access.put_binding(ASKER, a_binding(workspace="none"))) == "workspace_not_found"
    assert await _refusal(stores.access.put_binding(ASKER, a_binding(role="no-such"))) == "role_not_found"
    assert await _kinds(stores) == ["workspace_created", "role_bound", "role_unbound"]


async def test_a_role_in_use_is_not_removed(stores: Stores) -> None:
    await _with_w(stores)
    role = CustomRole(workspace="w", name="starter", permissions=("controlplane:tasks.write",))
    for _ in range(2):
        await stores.access.put_role(ASKER, role)
    binding, key = a_binding(role="starter"), a_key(grants=("starter",))
    await stores.access.put_binding(ASKER, binding)
    await stores.access.create_key(ASKER, key)
    assert await _refusal(stores.access.remove_role(ASKER, "w", "starter")) == "role_in_use"
    await stores.access.remove_binding(ASKER, "w", binding.subject, "starter")
    assert await _refusal(stores.access.remove_role(ASKER, "w", "starter")) == "role_in_use"
    await stores.access.put_key(ASKER, replace(key, revoked_at=NOW))
    assert [await stores.access.remove_role(ASKER, "w", "starter") for _ in range(2)] == [True, False]
    assert (await _kinds(stores)).count("role_defined") == 1
    assert await _refusal(stores.access.create_key(ASKER, a_key(grants=("starter",)))) == "role_not_found"
    for workspace in ("none", "*"):
        assert (
            await _refusal(stores.access.put_role(ASKER, replace(role, workspace=workspace))) == "workspace_not_found"
        )


async def test_the_last_administrator_stays(stores: Stores) -> None:
    binding, key = a_binding(role="admin", workspace="*"), a_key(**ADMIN)
    expired = a_key(**ADMIN, expires_at=NOW)
    await stores.access.create_key(ASKER, expired)
    await stores.access.put_binding(ASKER, a_binding(f"key:{expired.id}", "admin", "*"))
    await stores.access.put_binding(ASKER, binding)
    last = ("*", binding.subject, "admin")
    assert await _refusal(stores.access.remove_binding(ASKER, *last)) == "last_admin"
    await stores.access.create_key(ASKER, key)
    assert await stores.access.remove_binding(ASKER, *last)
    assert await _refusal(stores.access.put_key(ASKER, replace(key, revoked_at=NOW))) == "last_admin"
    assert (await _key(stores, key.id)).revoked_at is None
    rotated = replace(key, digests=(digest_of("new"), key.digests[0]), overlap_until=NOW)
    await stores.access.put_key(ASKER, rotated)
    await stores.access.put_key(ASKER, replace(expired, revoked_at=NOW))
    await stores.access.put_binding(ASKER, a_binding("group:admins", "admin", "*"))
    await stores.access.put_key(ASKER, replace(rotated, revoked_at=NOW))
    assert len(await stores.log.read(0, 100)) == 9, "what was refused left no row"


async def test_of_two_administrators_removed_at_once_one_stays(
    store_urls: StoreUrls, schema: str, stores: Stores
) -> None:
    other = await open_stores(store_urls.database, schema, "test-region", max_connections=2)
    try:
        for number in range(10):
            subjects = [f"user:{number}-{n}@example.org" for n in range(2)]
            for subject in subjects:
                await stores.access.put_binding(ASKER, a_binding(subject, "admin", "*"))
            for old in [each for each in (await stores.access.load()).bindings if each.subject not in subjects]:
                await stores.access.remove_binding(ASKER, "*", old.subject, "admin")
            outcomes = await asyncio.gather(
                stores.access.remove_binding(ASKER, "*", subjects[0], "admin"),
                other.access.remove_binding(ASKER, "*", subjects[1], "admin"),
                return_exceptions=True,
            )
            assert sorted(map(type, outcomes), key=str) == [bool, Conflict]
            assert len((await stores.access.load()).bindings) == 1
    finally:
        await other.close()


async def test_of_first_keys_made_at_once_one_is_the_first(stores: Stores) -> None:
    outcomes = await asyncio.gather(
        *(stores.access.create_key(ASKER, a_key(**ADMIN), first=True) for _ in range(4)), return_exceptions=True
    )
    assert sorted(map(type, outcomes), key=str) == [bool, Conflict, Conflict, Conflict]
    assert len((await stores.access.load()).keys) == 1


async def test_the_stricter_revocation_counts_and_expired_ones_go(stores: Stores) -> None:
    for not_before, until in ((5.0, NEVER), (9.0, NEVER - 1), (7.0, NEVER - 2)):
        revocation = Revocation(subject="user:ann", not_before=not_before, until=until)
        await stores.access.revoke(ASKER, revocation)
    await stores.access.revoke(ASKER, Revocation(subject="jti:old", not_before=0.0, until=NOW))
    await stores.access.revoke(ASKER, Revocation(subject="jti:new", not_before=0.0, until=NEVER))
    found = {each.subject: (each.not_before, each.until) for each in (await stores.access.load()).revocations}
    assert found == {"user:ann": (9.0, NEVER), "jti:new": (0.0, NEVER)}


async def test_a_change_under_a_replaced_epoch_leaves_nothing(stores: Stores) -> None:
    await stores.pool.execute("update region_state set epoch = epoch + 1")
    for change in (
        stores.access.create_workspace(ASKER, a_workspace("w")),
        stores.access.create_key(ASKER, a_key(**ADMIN)),
        stores.access.put_binding(ASKER, a_binding(workspace="*")),
        stores.access.revoke(ASKER, Revocation(subject="jti:x", not_before=0.0, until=NEVER)),
    ):
        with pytest.raises(Fenced):
            await change
    found = await stores.access.load()
    assert (found.keys, found.bindings, found.revocations, await stores.log.read(0, 9)) == ([], [], [], [])
    assert [each.id for each in found.workspaces] == ["default"]


async def test_what_is_read_is_what_is_named(stores: Stores) -> None:
    await _with_w(stores)
    roles = [CustomRole(workspace="w", name=name, permissions=()) for name in ("r1", "r2")]
    for role in roles:
        await stores.access.put_role(ASKER, role)
    bindings = [a_binding(), a_binding(role="auditor"), a_binding("group:x")]
    for binding in bindings:
        await stores.access.put_binding(ASKER, binding)
    nothing = await stores.access.read(AccessNames())
    assert not any((nothing.workspaces, nothing.bindings, nothing.roles, nothing.keys, nothing.revocations))
    names = AccessNames(subjects=frozenset({bindings[0].subject, "user:none"}), roles=frozenset({("w", "r2")}))
    found = await stores.access.read(names)
    assert (found.roles, {each.role for each in found.bindings}) == ([roles[1]], {"viewer", "auditor"})
    assert found.cursor == await stores.log.head()
    assert Workspace in {type(each) for each in (await stores.access.load()).workspaces}
