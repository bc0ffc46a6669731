"""Pushes of the A2A server, by the official client over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from a2a.types import (
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    StreamResponse,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import TaskNotFoundError
from google.protobuf.json_format import ParseDict

from tests.api.test_deliberations import panel
from tests.api.test_notifications import sending
from tests.support.a2a_clients import a2a_client, called, message, raw_message, refused, sent, state_of, work
from tests.support.answering import Agents
from tests.support.api import Api, api_settings
from tests.support.authenticated import authenticated
from tests.support.notifications import Receiver, receiver
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

PUBLIC = "https://control.example.com"


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema, a2a_enabled=True, public_url=PUBLIC)).running() as running:
        yield running


@asynccontextmanager
async def pushing(api: Api) -> AsyncIterator[Receiver]:
    async with receiver() as it, sending(api):
        yield it


def updates(it: Receiver) -> list[Any]:
    """What a receiver got, read as the protocol has it."""
    return [ParseDict(json.loads(body), StreamResponse()).status_update for _, _, body in it.got]


async def heard(it: Receiver, state: str) -> None:
    await eventually(lambda: state in [state_of(update) for update in updates(it)], what=f"a push of {state}")


async def test_a_client_is_told_of_a_task_and_its_question(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    async with pushing(api) as it, a2a_client(api.url, polling=True, streaming=False) as client:
        request = work({"n": 1}, context_id="talk")
        config = {"id": "mine", "url": f"{it.url}/a2a", "token": "tok-1"}
        request.configuration.task_push_notification_config.CopyFrom(ParseDict(config, TaskPushNotificationConfig()))
        task = await sent(client, request)
        lease = await tasks.claim_one("a1")
        await heard(it, "WORKING")
        await tasks.post(f"/tasks/{task.id}/ask", {"question": "secret?", "lease_token": lease["lease_token"]})
        await heard(it, "INPUT_REQUIRED")
        await sent(client, message("yes", task_id=task.id))
        lease = await tasks.claim_one("a1")
        await tasks.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], "result": "secret"})
        await heard(it, "COMPLETED")
    assert {(update.task_id, update.context_id) for update in updates(it)} == {(task.id, "talk")}
    assert {(path, headers["x-a2a-notification-token"]) for path, headers, _ in it.got} == {("/a2a", "tok-1")}
    assert not [body for _, _, body in it.got if b"secret" in body]


async def test_a_client_is_told_of_a_deliberation_that_has_begun(api: Api) -> None:
    async with pushing(api) as it, Agents().running() as agents, a2a_client(api.url) as client:
        await panel(api, agents, a="A", b="A")
        config = {"options": ["A", "B"], "rounds": 0}
        events = [event async for event in client.send_message(message("Which?", ours={"config": config}))]
        task = events[0].task
        await client.create_task_push_notification_config(TaskPushNotificationConfig(task_id=task.id, url=it.url))
        await heard(it, "COMPLETED")


async def test_pushes_are_made_read_listed_and_deleted(api: Api, tasks: TaskApi) -> None:
    task_id = await tasks.submit()
    async with a2a_client(api.url) as client:
        config = TaskPushNotificationConfig(task_id=task_id, id="one", url="http://127.0.0.1:1/x", token="secret-token")
        config.authentication.scheme, config.authentication.credentials = "Bearer", "secret-cred"
        made = await client.create_task_push_notification_config(config)
        got = await client.get_task_push_notification_config(
            GetTaskPushNotificationConfigRequest(task_id=task_id, id="one")
        )
        listed = await client.list_task_push_notification_configs(
            ListTaskPushNotificationConfigsRequest(task_id=task_id)
        )
        assert made == got == listed.configs[0]
        assert (got.id, got.url, got.token, len(listed.configs)) == ("one", "http://127.0.0.1:1/x", "", 1)
        delete = DeleteTaskPushNotificationConfigRequest(task_id=task_id, id="one")
        for _ in range(2):
            await client.delete_task_push_notification_config(delete)
        with pytest.raises(TaskNotFoundError):
            await client.get_task_push_notification_config(
                GetTaskPushNotificationConfigRequest(task_id=task_id, id="one")
            )
    kinds = [row.kind for row in await api.rows() if row.kind.startswith("notification.push")]
    assert kinds == ["notification.push_set", "notification.push_deleted"]
    assert "secret" not in str([row.data for row in await api.rows()])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "http://169.254.169.254/latest"}, "169.254.169.254"),
        ({"url": "ftp://example.com/"}, "http or https"),
        ({"url": "https://me:pw@example.com/"}, "no user and password"),
        ({"url": "https://example.com/", "token": "a\r\nHost: b"}, "token"),
        ({"url": "https://example.com/", "authentication": {"scheme": "Bearer"}}, "both scheme and credentials"),
        ({"url": "https://example.com/", "id": "a b"}, "id"),
    ],
)
async def test_a_push_that_cannot_be_sent_begins_nothing(api: Api, fields: dict[str, Any], words: str) -> None:
    configuration = {"returnImmediately": True, "taskPushNotificationConfig": fields}
    params = raw_message([{"data": 1}], metadata={"aragora": {"task_type": "t"}}, configuration=configuration)
    code, said = await refused(api.client, "SendMessage", params)
    assert (code, words in said) == (-32602, True), said
    assert (await api.get("/tasks"))["total"] == 0


async def test_who_may_only_read_and_who_is_foreign_make_no_push(store_urls: StoreUrls) -> None:
    async with authenticated(store_urls, (), a2a_enabled=True, public_url=PUBLIC) as door:
        await door.call("POST", "/workspaces", {"id": "other", "name": "Other"})
        foreign, viewer = bearer(await door.key("admin", workspace="other")), bearer(await door.key("viewer"))
        http = door.api.client
        params = raw_message(
            [{"data": 1}], metadata={"aragora": {"task_type": "t"}}, configuration={"returnImmediately": True}
        )
        task_id = (await called(http, "SendMessage", params, door.admin))["result"]["task"]["id"]
        config = {"taskId": task_id, "id": "p", "url": "https://example.com/path?secret=word"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "CreateTaskPushNotificationConfig", "params": config}
        answer = await http.post("/a2a", json=body, headers={"A2A-Version": "1.0", **viewer})
        assert answer.status_code == 403
        await called(http, "CreateTaskPushNotificationConfig", config, door.admin)
        for method in ("Create", "Get", "Delete"):
            assert (await refused(http, f"{method}TaskPushNotificationConfig", config, foreign))[0] == -32001
        assert (await refused(http, "ListTaskPushNotificationConfigs", {"taskId": task_id}, foreign))[0] == -32001
        listed = await called(http, "ListTaskPushNotificationConfigs", {"taskId": task_id}, viewer)
        # What is behind the origin of a URL may be its secret.
        seen = {"taskId": task_id, "id": "p", "url": "https://example.com:443"}
        assert listed["result"]["configs"] == [seen]
        assert (await called(http, "GetTaskPushNotificationConfig", config, viewer))["result"] == seen
        assert (await called(http, "GetTaskPushNotificationConfig", config, door.admin))["result"] == config
