"""Workspaces, members and roles over HTTP: what each call changes, and what a caller may not give or see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from actors.roles import DELIBERATION
from cluster.domain.access.identity import AccessPolicy, Identity, Method, principal_for
from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM, Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.roles import ROLES
from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.errors import Forbidden
from cluster.domain.tasks.task import TaskStatus
from cluster.log.access_directory import ACCESS_ROWS, AccessDirectory
from cluster.log.follower import LogFollower
from cluster.ports.wake_ups import WakeTopic
from cluster.process.clock import SystemClock
from tests.support.access import a_binding
from tests.support.api import Api
from tests.support.principals import TokenTable, bearer
from tests.support.probes import eventually
from tests.support.samples import ASKER

POLICY = AccessPolicy(home="default")
#: May manage access, and nothing else.
KEEPER = frozenset({Permission.ACCESS_READ, Permission.ACCESS_WRITE})
INVALID: Sequence[tuple[str, str, Any, str]] = (
    ("POST", "/workspaces", {"id": "system"}, "invalid_id"),
    ("POST", "/workspaces", {"id": "*"}, "invalid_id"),
    ("POST", "/workspaces", {"id": "batch"}, "invalid_id"),
    ("PATCH", "/workspaces/a", {"state": "deleted"}, "invalid_request"),
    ("PUT", "/workspaces/a/members", {"subject": "ann", "role": "viewer"}, "invalid_subject"),
    ("PUT", "/workspaces/a/members", {"subject": "user:ann lee", "role": "viewer"}, "invalid_subject"),
    ("PUT", "/workspaces/a/members", {"subject": "user:ann", "role": "no-such"}, "unknown_role"),
    ("PUT", "/workspaces/a/members", {"subject": "user:ann", "role": "controlplane:tasks.read"}, "invalid_role"),
    ("PUT", "/roles/admin", {"permissions": []}, "built_in_role"),
    ("PUT", "/roles/Big", {"permissions": []}, "invalid_role"),
    ("PUT", "/roles/mine", {"permissions": ["tasks.fly"]}, "unknown_permission"),
    ("POST", "/keys", {"name": "k", "grants": ["no-such"]}, "unknown_role"),
    ("POST", "/keys", {"name": "k", "grants": []}, "invalid_request"),
    ("POST", "/keys", {"name": "k", "grants": ["viewer"], "workspaces": ["*", "a"]}, "invalid_workspaces"),
    ("POST", "/keys", {"name": "k", "grants": ["viewer"], "expires_in_seconds": 0}, "invalid_request"),
)


def _principal(name: str, workspace: str, permissions: frozenset[Permission] = ALL) -> Principal:
    return Principal(id=f"user:{name}", workspace=workspace, permissions=permissions)


@pytest.fixture
async def doors(api: Api) -> Api:
    """With workspaces a and b; ``root`` may do all everywhere, ``a`` and ``b`` all in their workspace, ``keeper`` manages
    access to a."""
    for name in ("a", "b"):
        await api.post("/workspaces", {"id": name})
    everywhere = Principal(id="user:root", workspace="default", permissions=ALL, everywhere=ALL)
    api.app.state.resolver = TokenTable(
        {"root": everywhere, "keeper": _principal("keeper", "a", KEEPER)}
        | {name: _principal(name, name) for name in ("a", "b")}
    )
    return api


async def _as(api: Api, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    response = await api.call(method, path, body, headers=bearer(who))
    answer = response.json()
    return response.status_code, answer["code"] if response.is_error else answer


def _user(email: str) -> Identity:
    return Identity(id=f"user:{email}", method=Method.JWT, subjects=(f"user:{email}",))


async def test_a_member_has_its_role_until_it_is_removed(doors: Api) -> None:
    member = {"subject": "user:Ann@Example.org", "role": "submitter"}
    status, answer = await _as(doors, "a", "PUT", "/workspaces/a/members", member)
    assert (status, answer) == (200, {"workspace": "a", "subject": "user:ann@example.org", "role": "submitter"})
    assert (await _as(doors, "a", "PUT", "/workspaces/a/members", member))[0] == 200
    (_, listed) = await _as(doors, "a", "GET", "/workspaces/a/members")
    assert [(each["subject"], each["role"], each["created_by"]) for each in listed["members"]] == [
        ("user:ann@example.org", "submitter", "user:a")
    ]
    principal = principal_for(_user("ann@example.org"), None, doors.gateway.access, POLICY)
    assert (principal.workspace, principal.permissions) == ("a", ROLES["submitter"] - OF_THE_SYSTEM)
    removal = "/workspaces/a/members?subject=user:ANN@example.org&role=submitter"
    assert await _as(doors, "a", "DELETE", removal) == (200, {"removed": True})
    assert await _as(doors, "a", "DELETE", removal) == (200, {"removed": False})
    with pytest.raises(Forbidden):
        principal_for(_user("ann@example.org"), "a", doors.gateway.access, POLICY)
    bound, unbound = await doors.rows("user:ann@example.org")
    assert (bound.kind, bound.workspace, bound.principal) == ("access.role_bound", "a", "user:a")
    assert (unbound.kind, bound.cause != "") == ("access.role_unbound", True)


async def test_a_role_in_all_workspaces_counts_in_new_ones_too(doors: Api) -> None:
    member = {"subject": "group:ops", "role": "operator"}
    assert (await _as(doors, "root", "PUT", "/workspaces/*/members", member))[0] == 200
    await _as(doors, "root", "POST", "/workspaces", {"id": "later"})
    identity = Identity(id="user:bo", method=Method.JWT, subjects=("user:bo", "group:ops"))
    principal = principal_for(identity, "later", doors.gateway.access, POLICY)
    assert (principal.permissions, principal.everywhere) == (ROLES["operator"], ROLES["operator"])
    (_, listed) = await _as(doors, "root", "GET", "/workspaces/*/members")
    assert [each["subject"] for each in listed["members"]] == ["group:ops"]


async def test_a_suspended_workspace_only_reads_and_a_deleted_one_is_closed(doors: Api) -> None:
    access = doors.gateway.access
    await _as(doors, "a", "PUT", "/workspaces/a/members", {"subject": "user:bo@x.org", "role": "operator"})
    (_, suspended) = await _as(doors, "root", "PATCH", "/workspaces/a", {"state": "suspended", "name": "On hold"})
    assert (suspended["state"], suspended["name"]) == ("suspended", "On hold")
    narrowed = principal_for(_user("bo@x.org"), "a", access, POLICY).permissions
    operator = ROLES["operator"] - OF_THE_SYSTEM
    reads = {permission for permission in operator if permission.endswith(".read")}
    assert narrowed == reads | {Permission.AGENTS_CONNECT, Permission.TASKS_CLAIM}
    await _as(doors, "root", "PATCH", "/workspaces/a", {"state": "active"})
    assert principal_for(_user("bo@x.org"), "a", access, POLICY).permissions == operator
    (status, deleted) = await _as(doors, "root", "DELETE", "/workspaces/a")
    assert (status, deleted["state"], deleted["name"]) == (200, "deleted", "On hold")
    with pytest.raises(Forbidden):
        principal_for(_user("bo@x.org"), "a", access, POLICY)
    for method, path, body in (
        ("DELETE", "/workspaces/a", None),
        ("PATCH", "/workspaces/a", {"state": "active"}),
        ("PUT", "/workspaces/a/members", {"subject": "user:x", "role": "viewer"}),
        ("POST", "/keys", {"name": "k", "grants": ["viewer"], "workspaces": ["a"]}),
    ):
        assert await _as(doors, "root", method, path, body) == (404, "workspace_not_found")
    assert await _as(doors, "root", "POST", "/workspaces", {"id": "a"}) == (409, "workspace_exists")
    (_, listed) = await _as(doors, "root", "GET", "/workspaces")
    assert [each["id"] for each in listed["workspaces"]] == ["b", "default"]


async def test_in_a_suspended_workspace_a_refusal_names_the_suspension(doors: Api) -> None:
    access = doors.gateway.access
    for name, role in (("op", "operator"), ("view", "viewer")):
        member = {"subject": f"user:{name}@x.org", "role": role}
        assert (await _as(doors, "a", "PUT", "/workspaces/a/members", member))[0] == 200
    await _as(doors, "root", "PATCH", "/workspaces/a", {"state": "suspended"})
    resolver: TokenTable = doors.app.state.resolver
    resolver.table |= {name: principal_for(_user(f"{name}@x.org"), "a", access, POLICY) for name in ("op", "view")}
    for method, path in (
        ("POST", "/tasks"),
        ("POST", "/tasks/t1/cancel"),
        ("POST", "/deliberations"),
    ):
        assert await _as(doors, "op", method, path, {}) == (403, "workspace_suspended"), path
        assert await _as(doors, "view", method, path, {}) == (403, "forbidden"), path
    assert await _as(doors, "op", "PUT", "/roles/mine", {"permissions": []}) == (403, "forbidden"), "no operator's"
    refused = await doors.call("POST", "/tasks", {"task_type": "echo"}, headers=bearer("op"))
    assert "aragora-cp workspaces resume a" in refused.json()["error"]


@pytest.mark.parametrize("late", [False, True])
async def test_open_work_of_a_deleted_workspace_is_cancelled_with_its_cause(doors: Api, late: bool) -> None:
    """``late``: the worker of deliberations has heard of the deletion before it takes the deliberation."""
    await _as(doors, "a", "POST", "/agents", {"agent_id": "a1"})
    ids = [(await _as(doors, "a", "POST", "/tasks", {"task_type": "echo"}))[1]["task_id"] for _ in range(2)]
    (_, claimed) = await _as(doors, "a", "POST", "/tasks/claim", {"agent_id": "a1", "block_ms": 20_000})
    assert claimed["task"]["id"] in ids
    (_, kept) = await _as(doors, "b", "POST", "/tasks", {"task_type": "echo"})
    question = {"content": "Tea?", "async": True, "config": {"min_agents": 2}}
    (_, asked) = await _as(doors, "a", "POST", "/deliberations", question)
    if late:
        await doors.kill(DELIBERATION)
    assert (await _as(doors, "root", "DELETE", "/workspaces/a"))[0] == 200
    if late:
        await doors.start(DELIBERATION)
    (deletion,) = [row for row in await doors.rows("a") if row.data.get("state") == "deleted"]

    async def are_over() -> bool:
        tasks = await doors.stores.tasks.get_many("a", ids)
        return all(task.status is TaskStatus.CANCELLED for task in tasks.values())

    await eventually(are_over, what="the tasks end")
    for task_id in ids:
        rows = [row for row in await doors.rows(task_id) if row.kind.startswith("task.cancel")]
        assert (rows[0].principal, rows[-1].kind) == ("user:root", "task.cancelled")
        assert {row.cause for row in rows} == {f"#{deletion.seq}"}

    async def is_cancelled() -> bool:
        found = await doors.stores.deliberations.get("a", asked["request_id"])
        return found is not None and found.terminal == "CANCELLED"

    await eventually(is_cancelled, what="the deliberation ends")
    wish = next(row for row in await doors.rows(asked["request_id"]) if row.kind == "deliberation.cancel_requested")
    assert (wish.principal, wish.cause) == ("user:root", f"#{deletion.seq}")
    assert (await _as(doors, "b", "GET", f"/tasks/{kept['task_id']}"))[1]["status"] == "pending"
    assert await _as(doors, "root", "DELETE", "/workspaces/default") == (409, "home_workspace")


async def test_work_of_a_suspended_workspace_waits_until_it_is_resumed(doors: Api) -> None:
    await _as(doors, "a", "POST", "/agents", {"agent_id": "a1"})
    for _ in range(2):
        await _as(doors, "a", "POST", "/tasks", {"task_type": "echo"})
    claim = {"agent_id": "a1", "block_ms": 20_000}
    (_, first) = await _as(doors, "a", "POST", "/tasks/claim", claim)
    await _as(doors, "root", "PATCH", "/workspaces/a", {"state": "suspended"})
    assert await _as(doors, "a", "POST", "/tasks/claim", claim) == (403, "workspace_suspended")
    report = {"lease_token": first["task"]["lease_token"]}
    assert (await _as(doors, "a", "POST", f"/tasks/{first['task']['id']}/complete", report))[0] == 200
    await _as(doors, "root", "PATCH", "/workspaces/a", {"state": "active"})
    (_, second) = await _as(doors, "a", "POST", "/tasks/claim", claim)
    assert second["task"]["attempt"] == 1


async def test_roles_of_a_workspace_can_be_defined_given_and_removed(doors: Api) -> None:
    body = {"permissions": ["controlplane:tasks.write", "control_plane:read", "controlplane:tasks.write"]}
    (_, defined) = await _as(doors, "a", "PUT", "/roles/starter", body)
    names = ["controlplane:tasks.write", "control_plane:read"]
    assert defined == {"name": "starter", "built_in": False, "permissions": names}
    await _as(doors, "a", "PUT", "/workspaces/a/members", {"subject": "agent:x1", "role": "starter"})
    identity = Identity(id="agent:x1", method=Method.CERTIFICATE, subjects=("agent:x1",))
    assert Permission.TASKS_WRITE in principal_for(identity, "a", doors.gateway.access, POLICY).permissions
    (_, listed) = await _as(doors, "a", "GET", "/roles")
    assert [role["name"] for role in listed["roles"]] == [*ROLES, "starter"]
    (_, elsewhere) = await _as(doors, "b", "GET", "/roles")
    assert elsewhere["total"] == len(ROLES)
    assert await _as(doors, "a", "DELETE", "/roles/starter") == (409, "role_in_use")
    await _as(doors, "a", "DELETE", "/workspaces/a/members?subject=agent:x1&role=starter")
    assert await _as(doors, "a", "DELETE", "/roles/starter") == (200, {"removed": True})
    assert await _as(doors, "a", "DELETE", "/roles/starter") == (200, {"removed": False})


async def test_nobody_gives_more_than_they_have(doors: Api) -> None:
    key = {"name": "k", "grants": ["viewer"]}
    for method, path, body in (
        ("PUT", "/workspaces/a/members", {"subject": "user:keeper", "role": "admin"}),
        ("PUT", "/workspaces/a/members", {"subject": "user:keeper", "role": "viewer"}),
        ("PUT", "/roles/mine", {"permissions": ["controlplane:access.write", "controlplane:tasks.write"]}),
        ("POST", "/keys", key),
        ("POST", "/keys", key | {"grants": ["controlplane:access.read", "controlplane:read"]}),
    ):
        assert await _as(doors, "keeper", method, path, body) == (403, "exceeds_own"), body
    assert (await _as(doors, "keeper", "POST", "/keys", key | {"grants": ["controlplane:access.read"]}))[0] == 201
    (_, strong) = await _as(doors, "a", "POST", "/keys", key | {"grants": ["operator"]})
    assert await _as(doors, "keeper", "POST", f"/keys/{strong['id']}/rotate") == (403, "exceeds_own")
    (_, defined) = await _as(doors, "a", "PUT", "/roles/strong", {"permissions": ["controlplane:tasks.write"]})
    member = {"subject": "user:keeper", "role": defined["name"]}
    assert await _as(doors, "keeper", "PUT", "/workspaces/a/members", member) == (403, "exceeds_own")


async def test_nobody_manages_a_workspace_of_others(doors: Api) -> None:
    member = {"subject": "user:a", "role": "viewer"}
    key = {"name": "k", "grants": ["viewer"]}
    (_, own) = await _as(doors, "b", "POST", "/keys", key)
    for workspace in ("b", "none", ALL_WORKSPACES):
        for method, path, body in (
            ("GET", f"/workspaces/{workspace}/members", None),
            ("PUT", f"/workspaces/{workspace}/members", member),
            ("DELETE", f"/workspaces/{workspace}/members?subject=user:a&role=viewer", None),
            ("POST", "/keys", key | {"workspaces": [workspace]}),
            ("POST", "/keys", key | {"workspaces": [workspace], "grants": ["of-its-own"]}),
        ):
            assert await _as(doors, "a", method, path, body) == (403, "forbidden"), (method, path)
        if workspace != ALL_WORKSPACES:
            assert await _as(doors, "a", "PATCH", f"/workspaces/{workspace}", {"name": "mine"}) == (403, "forbidden")
            assert await _as(doors, "a", "DELETE", f"/workspaces/{workspace}") == (403, "forbidden")
    assert await _as(doors, "a", "POST", "/workspaces", {"id": "c"}) == (403, "forbidden")
    for method, path in (("POST", f"/keys/{own['id']}/rotate"), ("DELETE", f"/keys/{own['id']}")):
        assert await _as(doors, "a", method, path) == (404, "key_not_found")
    (_, keys) = await _as(doors, "a", "GET", "/keys")
    (_, workspaces) = await _as(doors, "a", "GET", "/workspaces")
    assert (keys["total"], [each["id"] for each in workspaces["workspaces"]]) == (0, ["a"])


async def test_the_last_administrator_is_not_removed(doors: Api) -> None:
    body = {"name": "First", "grants": ["admin"], "workspaces": ["*"]}
    (_, first) = await _as(doors, "root", "POST", "/keys", body)
    assert await _as(doors, "root", "DELETE", f"/keys/{first['id']}") == (409, "last_admin")
    member = {"subject": "user:ann@example.org", "role": "admin"}
    await _as(doors, "root", "PUT", "/workspaces/*/members", member)
    assert (await _as(doors, "root", "DELETE", f"/keys/{first['id']}"))[0] == 200
    removal = "/workspaces/*/members?subject=user:ann@example.org&role=admin"
    assert await _as(doors, "root", "DELETE", removal) == (409, "last_admin")


async def test_what_is_not_valid_is_refused_by_name(doors: Api) -> None:
    for method, path, body, code in INVALID:
        assert await _as(doors, "root", method, path, body) == (400, code), (path, body)


async def test_a_change_reaches_other_replicas_by_the_doorbell_or_the_poll(doors: Api) -> None:
    """The other copy polls so rarely that only the doorbell can tell it; this replica's own polls, and nobody rings."""
    other = AccessDirectory(doors.stores.access)
    follower = LogFollower(
        doors.stores.log, doors.resources.doorbell, SystemClock(), after=await other.load(), apply=other.apply,
        only=ACCESS_ROWS, topics=(WakeTopic.ACCESS,), poll_s=3600.0,
    )  # fmt: skip
    following = asyncio.ensure_future(follower.run())
    try:
        await eventually(lambda: _is_subscribed(doors), what="the follower waits for the doorbell")
        (_, key) = await _as(doors, "a", "POST", "/keys", {"name": "k", "grants": ["viewer"]})
        await eventually(lambda: _has(other, key["id"]), what="the other copy has the key")
    finally:
        following.cancel()
    await doors.stores.access.put_binding(ASKER, a_binding("user:bo", "viewer", "a"))

    async def is_bound() -> bool:
        return bool(doors.gateway.access.bindings("user:bo"))

    await eventually(is_bound, what="the poll brings the binding")


async def _is_subscribed(api: Api) -> bool:
    """This replica's own follower and the other copy's."""
    channel = f"{api.settings.redis_prefix}:doorbell:{WakeTopic.ACCESS.value}"
    return dict(await api.resources.redis.pubsub_numsub(channel))[channel] >= 2


async def _has(directory: AccessDirectory, key_id: str) -> bool:
    return directory.key(key_id) is not None
