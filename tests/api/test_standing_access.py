"""What goes on after a call (pushes, notifications, schedules) when the access of whoever asked for it is taken away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from actors.roles import SCHEDULER, TELEMETRY
from cluster.domain.base.log import Origin
from cluster.ports.access import Revocation
from tests.api.test_notifications import KEY, sending
from tests.support.a2a_clients import called
from tests.support.authenticated import Authenticated, authenticated
from tests.support.bearer_tables import own_token
from tests.support.notifications import receiver
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

W = "research"
ANN = "user:ann@example.com"
ORIGIN = Origin(workspace=W, principal="test", cause="test")
#: Who pushes: a key, a person with a role of her own, one by her group, a key and a person with a role of the workspace.
MAKERS = ("key", "ann", "group", "narrow", "bob")


@dataclass
class Standing:
    door: Authenticated
    tokens: dict[str, str]
    task_id: str

    async def pushes(self) -> set[str]:
        """Whose pushes there are."""
        params = {"taskId": self.task_id, "tenant": W}
        headers = {**self.door.admin, "X-Aragora-Workspace": W}
        listed = await called(self.door.api.client, "ListTaskPushNotificationConfigs", params, headers)
        return {config["id"] for config in listed["result"].get("configs", [])}


async def _bind(door: Authenticated, subject: str, role: str) -> None:
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": subject, "role": role})


async def _define(door: Authenticated, *permissions: str) -> None:
    headers = {**door.admin, "X-Aragora-Workspace": W}
    await door.call("PUT", "/roles/pusher", {"permissions": [f"controlplane:{each}" for each in permissions]}, headers)


@pytest.fixture
async def standing(store_urls: StoreUrls) -> AsyncIterator[Standing]:
    """A task with a push of each."""
    parts = (TELEMETRY, SCHEDULER)
    async with authenticated(store_urls, parts, a2a_enabled=True, public_url="https://control.example.com") as door:
        await door.call("POST", "/workspaces", {"id": W})
        await _define(door, "tasks.read", "tasks.write")
        for subject, role in ((ANN, "submitter"), ("group:team", "submitter"), ("user:bob@example.com", "pusher")):
            await _bind(door, subject, role)
        tokens = {
            "key": await door.key("submitter", workspace=W),
            "ann": own_token(door.clock),
            "group": own_token(door.clock, "user:eve@example.com", groups=["team"]),
            "narrow": await door.key("pusher", workspace=W),
            "bob": own_token(door.clock, "user:bob@example.com"),
        }
        assert tuple(tokens) == MAKERS
        body = {"task_type": "t", "required_capabilities": ["nobody"]}
        task_id = (await door.call("POST", "/tasks", body, bearer(tokens["key"])))["task_id"]
        for name, token in tokens.items():
            config = {"taskId": task_id, "id": name, "url": "http://127.0.0.1:1/"}
            await called(door.api.client, "CreateTaskPushNotificationConfig", config, bearer(token))
        found = Standing(door, tokens, task_id)
        assert await found.pushes() == set(MAKERS)
        yield found


async def _revoke_key(it: Standing) -> None:
    await it.door.call("DELETE", f"/keys/{it.tokens['key'].split('_')[1]}")


async def _revoke_tokens(it: Standing) -> None:
    now = it.door.clock.now()
    await it.door.api.stores.access.revoke(ORIGIN, Revocation(subject=ANN, not_before=now, until=now + 3600))


async def _unbind(it: Standing, subject: str, role: str) -> None:
    query = f"subject={subject}&role={role}"
    await it.door.call("DELETE", f"/workspaces/{W}/members?{query}")


async def _narrow(it: Standing) -> None:
    await _define(it.door, "tasks.read")


async def _widen(it: Standing) -> None:
    await _define(it.door, "tasks.read", "tasks.write", "queue.read")


async def _rotate(it: Standing) -> None:
    await it.door.call("POST", f"/keys/{it.tokens['key'].split('_')[1]}/rotate", {"overlap_seconds": 0})


async def _revoke_one_token(it: Standing) -> None:
    now = it.door.clock.now()
    await it.door.api.stores.access.revoke(ORIGIN, Revocation(subject="jti:x", not_before=now, until=now + 3600))


TAKEN: dict[str, tuple[Callable[[Standing], Awaitable[None]], set[str]]] = {
    "a key is revoked": (_revoke_key, {"key"}),
    "tokens are revoked": (_revoke_tokens, {"ann"}),
    "a member is removed": (lambda it: _unbind(it, ANN, "submitter"), {"ann"}),
    # Who is in a group is known to nobody here.
    "a group is removed": (lambda it: _unbind(it, "group:team", "submitter"), {"group", "ann", "bob"}),
    "a role is narrowed": (_narrow, {"narrow", "bob"}),
    "a role is widened": (_widen, set()),
    "a key is rotated": (_rotate, set()),
    "one token is revoked": (_revoke_one_token, set()),
    "another role is removed": (lambda it: _unbind(it, "user:nobody@example.com", "viewer"), set()),
}


@pytest.mark.parametrize("taken", TAKEN)
async def test_pushes_end_with_the_access_of_whoever_asked(standing: Standing, taken: str) -> None:
    take, whose = TAKEN[taken]
    await take(standing)
    assert await standing.pushes() == set(MAKERS) - whose


async def test_a_push_that_was_asked_for_after_a_revocation_stays(standing: Standing) -> None:
    await _revoke_tokens(standing)
    config = {"taskId": standing.task_id, "id": "later", "url": "http://127.0.0.1:1/"}
    standing.door.clock.ahead_s = 60
    token = own_token(standing.door.clock)
    await called(standing.door.api.client, "CreateTaskPushNotificationConfig", config, bearer(token))
    now = standing.door.clock.now()
    other = Revocation(subject="user:else@example.com", not_before=now, until=now + 3600)
    await standing.door.api.stores.access.revoke(ORIGIN, other)
    assert "later" in await standing.pushes()


async def _told(door: Authenticated, url: str, workspace: str) -> None:
    """A channel that is told of everything in a workspace."""
    headers = {**door.admin, "X-Aragora-Workspace": workspace}
    await door.call("POST", "/credentials", {"name": "key", "secret": KEY}, headers)
    channel = {"name": "c", "kind": "webhook", "url": f"{url}/{workspace}", "credential": "key"}
    await door.call("POST", "/notifications/channels", channel, headers)
    await door.call("POST", "/notifications/rules", {"name": "all", "events": ["*"], "channels": ["c"]}, headers)


async def _is_cancelled(door: Authenticated, task_id: str) -> bool:
    return any(row.kind == "task.cancelled" for row in await door.api.rows(task_id))


async def test_nothing_is_told_of_a_workspace_that_was_deleted(standing: Standing) -> None:
    door = standing.door
    async with receiver() as it, sending(door.api):
        for workspace in (W, "default"):
            await _told(door, it.url, workspace)
        await door.call("DELETE", f"/workspaces/{W}")
        await eventually(lambda: _is_cancelled(door, standing.task_id))
        later = (await door.call("POST", "/tasks", {"task_type": "t"}))["task_id"]
        await door.call("POST", f"/tasks/{later}/cancel")
        await eventually(lambda: any(later.encode() in body for _, _, body in it.got))
    assert {path for path, _, _ in it.got} == {"/default"}


async def test_what_waits_to_be_told_ends_with_its_workspace(standing: Standing) -> None:
    door, pool = standing.door, standing.door.api.stores.pool
    await _told(door, "http://127.0.0.1:1", W)
    headers = {**door.admin, "X-Aragora-Workspace": W}
    await door.call("POST", "/notifications/channels/c/test", {}, headers)
    await door.call("DELETE", f"/workspaces/{W}")
    (row,) = await pool.rows("select status, error from notifications where workspace = $1", W)
    assert tuple(row) == ("dead", "The workspace was deleted.")
    assert await pool.value("select count(*) from pushes where workspace = $1", W) == 0


async def test_what_belongs_to_the_workspace_goes_on_and_names_its_maker(standing: Standing) -> None:
    """A key that ends must not stop what runs every night: an administrator sees whose it was, and deletes it."""
    door, headers = standing.door, bearer(standing.tokens["key"])
    principal = (await door.call("GET", "/auth/caller", headers=headers))["principal"]
    schedule: Any = {"cron": "@daily", "task": {"task_type": "t"}}
    await door.call("POST", "/schedules", schedule, headers)
    await _revoke_key(standing)
    (left,) = (await door.call("GET", "/schedules", headers={**door.admin, "X-Aragora-Workspace": W}))["schedules"]
    assert (left["created_by"], left["paused"]) == (principal, False)
