"""Followers of a task's output: each chunk once and in order, whatever is away, replaced or too slow meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from fastapi import WebSocket

from aragora_worker.api import ControlPlaneClient, OutputEvent
from aragora_worker.blocking import BlockingClient
from aragora_worker.errors import ApiError
from cluster.domain.base.errors import NotFound
from serve_app.streams import sending
from tests.api.test_chunks import write
from tests.api.test_cli_tasks import _run as run_command
from tests.support.api import CP, Api, api_settings, in_thread
from tests.support.authenticated import authenticated
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

SSE = {"Accept": "text/event-stream"}


async def _lease(tasks: TaskApi) -> dict[str, Any]:
    await tasks.agent("a1")
    await tasks.submit(target_agent="a1")
    return dict(await tasks.claim_one("a1"))


@contextlib.asynccontextmanager
async def _following(api: Api, task_id: str, after: str | None = None) -> AsyncIterator[list[OutputEvent]]:
    """What a client has got so far. The block is to end the task; then all is there."""
    got: list[OutputEvent] = []

    async def follow() -> None:
        async with (
            ControlPlaneClient(api.url) as client,
            contextlib.aclosing(client.output(task_id, after=after)) as output,
        ):
            async for event in output:
                got.append(event)

    following = asyncio.create_task(follow())
    try:
        yield got
        await asyncio.wait_for(following, 30)
    finally:
        following.cancel()


def _told(got: list[OutputEvent]) -> list[tuple[str, str]]:
    return [(event.type.removeprefix("task_"), event.cursor) for event in got]


async def test_a_follower_gets_chunks_attempts_and_the_end(api: Api, tasks: TaskApi) -> None:
    first = await _lease(tasks)
    await write(tasks, first, 1, "before")
    async with _following(api, first["id"]) as got:
        await eventually(lambda: len(got) == 2)
        await write(tasks, first, 2, {"live": True})
        await eventually(lambda: len(got) == 3)
        await tasks.fail(first, released=True)
        second = await tasks.claim_one("a1")
        await eventually(lambda: _told(got)[3:] == [("attempt", "2.0")])
        await write(tasks, second, 4, "of the second", skip=True)
        await tasks.complete(second)
    assert _told(got) == [
        ("attempt", "1.0"), ("chunk", "1.1"), ("chunk", "1.2"), ("attempt", "2.0"), ("chunks_missing", "2.3"),
        ("chunk", "2.4"), ("ended", "2.4"),
    ]  # fmt: skip
    assert [event.content for event in got if event.type == "task_chunk"] == ["before", {"live": True}, "of the second"]
    assert (got[-1].data["status"], got[4].data["first"], got[4].data["last"]) == ("completed", 1, 3)
    async with _following(api, first["id"], after="1.1") as rest:
        pass
    assert _told(rest) == _told(got)[2:]


async def test_a_replaced_replica_tells_where_to_go_on_and_nothing_is_lost(api: Api, tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    async with _following(api, lease["id"]) as got:
        for n in range(1, 7):
            await write(tasks, lease, n, n)
            await eventually(lambda n=n: len(got) == n + 1)
            if n % 2:
                api.gateway.endings.end_all()
        await tasks.complete(lease)
    assert [event.content for event in got[1:-1]] == [1, 2, 3, 4, 5, 6]


async def test_another_replica_goes_on_by_number(api: Api, tasks: TaskApi, store_urls: StoreUrls, schema: str) -> None:
    """Its doorbell is another one: what the first replica announces, it finds by looking."""
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "a", "b")
    other = Api(api_settings(store_urls, schema, database_schema=api.settings.database_schema))
    async with other.running(()), _following(other, lease["id"], after="1.1") as got:
        await eventually(lambda: _told(got) == [("chunk", "1.2")])
        await write(tasks, lease, 3, "c")
        await eventually(lambda: len(got) == 2)
        await tasks.complete(lease)
    assert [event.content for event in got[:-1]] == ["b", "c"]


async def test_nothing_is_lost_while_redis_is_flushed_or_away(store_urls: StoreUrls, schema: str) -> None:
    nobody = api_settings(store_urls, schema, redis_url="redis://127.0.0.1:1/0")
    async with Api(nobody).running() as api:
        tasks = TaskApi(api)
        lease = await _lease(tasks)
        async with _following(api, lease["id"]) as got:
            for n in range(1, 4):
                await write(tasks, lease, n, n)
                await eventually(lambda n=n: len(got) == n + 1)
            await tasks.complete(lease)
    assert [event.content for event in got[1:-1]] == [1, 2, 3]


async def test_the_store_is_asked_only_while_somebody_follows(api: Api, tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    hub = api.gateway.chunk_hub
    async with _following(api, lease["id"]) as got:
        await eventually(lambda: len(got) == 1)
        assert (len(hub._followers), hub._is_needed.is_set()) == (1, True)
        await tasks.complete(lease)
    await eventually(lambda: (len(hub._followers), hub._is_needed.is_set(), hub._marks) == (0, False, {}))


async def test_a_slow_follower_is_told_where_to_go_on(
    api: Api, tasks: TaskApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SLOW_S", -1.0)  # whatever it takes is too long
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "a", "b")
    path = f"{CP}/tasks/{lease['id']}/chunks/stream"
    text = (await api.client.get(path, headers=SSE)).text
    assert text.endswith("retry: 1000\nid: 1.0\n\n")
    assert text.count("event: ") == 1


async def test_a_slow_websocket_is_told_where_to_go_on(
    api: Api, tasks: TaskApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's connection takes nothing more, as if the buffers up to a client that does not read were full."""
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "a")
    path = f"{CP}/tasks/{lease['id']}/chunks/stream"
    async with websockets.connect(api.url.replace("http", "ws") + path) as socket:
        for _ in range(2):
            await asyncio.wait_for(socket.recv(), 20)
        monkeypatch.setattr(sending, "SLOW_S", 0.01)
        monkeypatch.setattr(WebSocket, "send_text", lambda *_: asyncio.Event().wait())
        await write(tasks, lease, 2, "b")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason[-10:]) == (1012, "after=1.1.")


async def test_a_websocket_has_the_same_frames_and_ends_with_the_task(api: Api, tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "a", "b")
    url = api.url.replace("http", "ws") + f"{CP}/tasks/{lease['id']}/chunks/stream"
    async with websockets.connect(f"{url}?after=1.1") as socket:
        frame = json.loads(await asyncio.wait_for(socket.recv(), 20))
        assert (frame["type"], frame["data"]["content"], frame["data"]["after"]) == ("task_chunk", "b", "1.2")
        await socket.send('{"type": "ping"}')
        assert json.loads(await asyncio.wait_for(socket.recv(), 20))["type"] == "pong"
        await tasks.complete(lease)
        assert json.loads(await asyncio.wait_for(socket.recv(), 20))["data"]["status"] == "completed"
        with pytest.raises(websockets.ConnectionClosedOK):
            await asyncio.wait_for(socket.recv(), 20)
    for wrong in (url.replace(lease["id"], "nobody"), f"{url}?after=1", f"{url}?other=1"):
        async with websockets.connect(wrong) as socket:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_stream_is_refused_like_other_reads(api: Api, tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    path = f"/tasks/{lease['id']}/chunks/stream"
    assert (await tasks.get(path))["chunks"] == []  # without the header
    for wrong, status in (("/tasks/nobody/chunks/stream", 404), (f"{path}?after=1", 400)):
        assert (await api.call("GET", wrong, headers=SSE)).status_code == status
    async with ControlPlaneClient(api.url) as client:
        with pytest.raises(NotFound):
            await anext(client.output("nobody"))
        with pytest.raises(ApiError):
            await anext(client.output(lease["id"], after="x"))


async def test_a_stream_ends_when_its_caller_loses_access(store_urls: StoreUrls) -> None:
    async with authenticated(store_urls) as auth:
        task_id = (await auth.call("POST", "/tasks", {"task_type": "echo"}))["task_id"]
        key = await auth.call("POST", "/keys", {"name": "k", "grants": ["submitter"], "workspaces": ["default"]})
        path, headers = f"{CP}/tasks/{task_id}/chunks/stream", {**SSE, **bearer(key["token"])}
        async with auth.api.client.stream("GET", path, headers=headers) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == ": connected"
            await auth.call("DELETE", f"/keys/{key['id']}")
            async with asyncio.timeout(20):
                rest = [line async for line in lines]
        assert "event: closed" in rest


async def test_the_blocking_client_and_the_command_follow_too(api: Api, tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "Once upon\x1b[2J", " a time", {"step": 3})

    def follow() -> list[Any]:
        with BlockingClient(api.url) as client:
            return [event.content for event in client.output(lease["id"])]

    blocking = asyncio.create_task(in_thread(follow))
    command = asyncio.create_task(run_command(tasks, "tasks", "follow", lease["id"]))
    await eventually(lambda: len(api.gateway.chunk_hub._followers.get(("default", lease["id"]), ())) == 2, 60)
    await write(tasks, lease, 4, "The end.\n")
    await tasks.complete(lease)
    assert await blocking == [None, "Once upon\x1b[2J", " a time", {"step": 3}, "The end.\n", None]
    printed = await command
    for line in ("Once upon [2J a time\n", '{"step": 3}\n', "The end.\n", "completed\n"):
        assert line in printed
