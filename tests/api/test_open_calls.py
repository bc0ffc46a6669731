"""Calls that stay open end when their caller loses its access, whatever takes it away; all others stay open."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import websockets
from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Unauthenticated
from cluster.domain.base.log import Origin
from cluster.ports.access import Revocation
from serve_app.routes import audit
from tests.support.api import CP, STARTED
from tests.support.authenticated import Authenticated, authenticated
from tests.support.bearer_tables import own_token
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

SSE = {"Accept": "text/event-stream"}
W = "research"
ANN = "user:ann@example.com"
ORIGIN = Origin(workspace=W, principal="test", cause="test")
#: What a stream says last, a claim answers, and a WebSocket closes with.
CLOSED = {"unauthenticated": 401, "forbidden": 403, "workspace_suspended": 403}


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, STARTED) as door:
        await door.call("POST", "/workspaces", {"id": W})
        yield door


async def _sse(door: Authenticated, token: str) -> str:
    """The code of the event with which a stream ends; empty: it ended so that its client connects again."""
    async with door.api.client.stream("GET", f"{CP}/stream", headers=bearer(token) | SSE) as stream:
        text = "".join([part async for part in stream.aiter_text()])
    blocks = text.strip().split("\n\n")
    assert blocks[-2 if "event: closed" in text else -1].startswith("retry: "), "it says where to resume"
    return str(json.loads(blocks[-1].partition("data: ")[2])["data"]["code"]) if "event: closed" in text else ""


async def _socket(door: Authenticated, token: str, path: str) -> str:
    url = door.api.url.replace("http", "ws") + path
    async with websockets.connect(url, additional_headers=bearer(token)) as socket:
        if "heartbeats" in path:
            await socket.send('{"agent_id": "a1"}')
        await socket.recv()
        with contextlib.suppress(websockets.ConnectionClosed):
            async for _ in socket:
                pass
        code, reason = socket.close_code, socket.close_reason or ""
    assert code in (1008, 1012), (code, reason)
    if code == 1012:
        return ""
    return "unauthenticated" if "expired or was revoked" in reason else "forbidden"


async def _answer(door: Authenticated, token: str, path: str, body: Any) -> str:
    answer = await door.api.call("POST", path, body, headers=bearer(token))
    assert answer.status_code == CLOSED.get(answer.json().get("code", "")), answer.text
    return str(answer.json()["code"])


def _claim(door: Authenticated, token: str) -> Awaitable[str]:
    return _answer(door, token, "/tasks/claim", {"agent_id": "a1", "block_ms": 25_000})


def _deliberation(door: Authenticated, token: str) -> Awaitable[str]:
    return _answer(door, token, "/deliberations", {"content": "Which?", "agents": ["a1", "a2"], "timeout_seconds": 60})


async def _result(door: Authenticated, token: str) -> str:
    task = {"task_type": "t", "required_capabilities": ["nobody"]}
    task_id = (await door.call("POST", "/tasks", task, bearer(token)))["task_id"]
    answer = await door.api.call("GET", f"/tasks/{task_id}?wait=25", headers=bearer(token))
    return str(answer.json()["code"])


CALLS: dict[str, Callable[[Authenticated, str], Awaitable[str]]] = {
    "sse": _sse,
    "websocket": lambda door, token: _socket(door, token, "/ws/control-plane"),
    "heartbeats": lambda door, token: _socket(door, token, f"{CP}/agents/heartbeats"),
    "claim": _claim,
    "result": _result,
    "deliberation": _deliberation,
}


@contextlib.asynccontextmanager
async def _opened(door: Authenticated, token: str, *names: str) -> AsyncIterator[list[asyncio.Task[str]]]:
    """The calls, once all of them are open."""
    before = len(door.api.gateway.open_calls)
    calls = [asyncio.ensure_future(CALLS[name](door, token)) for name in names]
    try:
        await eventually(lambda: len(door.api.gateway.open_calls) == before + len(names))
        yield calls
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def _agents(door: Authenticated, headers: dict[str, str]) -> None:
    for agent in ("a1", "a2"):
        await door.call("POST", "/agents", {"agent_id": agent, "capabilities": ["deliberate"]}, headers)


async def test_each_open_call_of_a_revoked_key_ends(door: Authenticated) -> None:
    token, other = [await door.key("operator", workspace=W) for _ in range(2)]
    await _agents(door, bearer(token))
    async with _opened(door, other, "sse", "websocket") as others, _opened(door, token, *CALLS) as calls:
        await door.call("DELETE", f"/keys/{token.split('_')[1]}")
        assert await asyncio.wait_for(asyncio.gather(*calls), 20) == ["unauthenticated"] * len(CALLS)
        assert [call for call in others if call.done()] == []
        assert len(door.api.gateway.open_calls) == len(others)
    # A waiting claim that ended so has taken nothing.
    task_id = (await door.call("POST", "/tasks", {"task_type": "t"}, bearer(other)))["task_id"]
    assert (await door.call("GET", f"/tasks/{task_id}", headers=bearer(other)))["status"] == "pending"


async def test_a_task_that_comes_after_a_revocation_goes_to_others(door: Authenticated) -> None:
    token, other = [await door.key("operator", workspace=W) for _ in range(2)]
    await _agents(door, bearer(token))
    async with _opened(door, token, "claim") as calls:
        await door.call("DELETE", f"/keys/{token.split('_')[1]}")
        await door.call("POST", "/tasks", {"task_type": "t"}, bearer(other))
        assert await calls[0] == "unauthenticated"
    claim = {"agent_id": "a2", "block_ms": 20_000}
    assert (await door.call("POST", "/tasks/claim", claim, bearer(other)))["task"] is not None


async def _by_expiry(door: Authenticated) -> str:
    return await door.key("operator", workspace=W, expires_in_seconds=600)


async def _by_user(door: Authenticated) -> str:
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": "operator"})
    return own_token(door.clock)


async def _by_own_role(door: Authenticated) -> str:
    permissions = ["controlplane:stream.read", "controlplane:tasks.claim", "controlplane:agents.connect"]
    headers = door.admin | {"X-Aragora-Workspace": W}
    await door.call("PUT", "/roles/mine", {"permissions": permissions}, headers)
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": "mine"})
    return own_token(door.clock)


async def _expire(door: Authenticated, token: str) -> None:
    door.clock.ahead_s = 3600.0


async def _unbind(door: Authenticated, token: str) -> None:
    await door.call("DELETE", f"/workspaces/{W}/members?subject={ANN}&role=operator")


async def _revoke_token(door: Authenticated, token: str) -> None:
    """As another replica does it while Redis is away: nobody tells this one."""
    await door.api.stores.access.revoke(ORIGIN, Revocation(subject="jti:t1", not_before=0.0, until=4e9))


async def _revoke_earlier(door: Authenticated, token: str) -> None:
    now = door.clock.now() + 5
    await door.api.stores.access.revoke(ORIGIN, Revocation(subject=ANN, not_before=now, until=4e9))


async def _suspend(door: Authenticated, token: str) -> None:
    await door.call("PATCH", f"/workspaces/{W}", {"state": "suspended"})


async def _delete(door: Authenticated, token: str) -> None:
    await door.call("DELETE", f"/workspaces/{W}")


async def _rotate(door: Authenticated, token: str) -> None:
    await door.call("POST", f"/keys/{token.split('_')[1]}/rotate", {"overlap_seconds": 0})


async def _rotate_with_overlap(door: Authenticated, token: str) -> None:
    await door.call("POST", f"/keys/{token.split('_')[1]}/rotate", {"overlap_seconds": 60})
    door.clock.ahead_s = 61.0


async def _take_streams(door: Authenticated, token: str) -> None:
    headers = door.admin | {"X-Aragora-Workspace": W}
    await door.call("PUT", "/roles/mine", {"permissions": ["controlplane:queue.read"]}, headers)


async def _take_payloads(door: Authenticated, token: str) -> None:
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": "agent"})
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": "viewer"})
    await _unbind(door, token)


#: What happens → how the caller got access, and how a stream, a WebSocket and a claim end (empty: connect again; None: not at
#: all).
ENDINGS: dict[Any, tuple[Any, tuple[str, str, str | None]]] = {
    _expire: (_by_expiry, ("unauthenticated",) * 3),
    _rotate: (_by_expiry, ("unauthenticated",) * 3),
    _rotate_with_overlap: (_by_expiry, ("unauthenticated",) * 3),
    _unbind: (_by_user, ("forbidden",) * 3),
    _revoke_token: (_by_user, ("unauthenticated",) * 3),
    _revoke_earlier: (_by_user, ("unauthenticated",) * 3),
    _take_streams: (_by_own_role, ("forbidden",) * 3),
    _suspend: (_by_expiry, ("", "", "workspace_suspended")),
    _delete: (_by_expiry, ("forbidden",) * 3),
    _take_payloads: (_by_user, ("", "", None)),
}


@pytest.mark.parametrize("take", ENDINGS, ids=lambda take: take.__name__.strip("_"))
async def test_whatever_takes_access_away_ends_open_calls(door: Authenticated, take: Any) -> None:
    give, ends = ENDINGS[take]
    token = await give(door)
    await _agents(door, bearer(await door.key("operator", workspace=W)))
    async with _opened(door, token, "sse", "websocket", "claim") as calls:
        await take(door, token)
        for call, expected in zip(calls, ends, strict=True):
            if expected is None:
                assert not call.done()
            else:
                assert await asyncio.wait_for(call, 20) == expected


async def test_access_of_others_and_more_of_the_same_end_nothing(door: Authenticated) -> None:
    token = await _by_user(door)
    await _agents(door, bearer(await door.key("operator", workspace=W)))
    async with _opened(door, token, "sse", "websocket", "claim") as calls:
        short = await door.key("operator", workspace=W)
        await door.call("DELETE", f"/keys/{short.split('_')[1]}")
        await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": "viewer"})  # within operator
        await door.call("PATCH", f"/workspaces/{W}", {"name": "Research"})
        gate = door.api.gateway
        await eventually(lambda: (known := gate.access.workspace(W)) is not None and known.name == "Research")
        door.clock.ahead_s = 60.0
        await gate.open_calls.look(everything=True)
        assert [call for call in gate.open_calls._calls if call.ended.is_set()] == []
        assert [call for call in calls if call.done()] == []


async def test_a_call_whose_access_ended_before_it_was_open_ends(door: Authenticated) -> None:
    token = await door.key("operator", workspace=W)
    gate, id = door.api.gateway, token.split("_")[1]
    async with _opened(door, token, "websocket"):
        (known,) = gate.open_calls._calls
        await door.call("DELETE", f"/keys/{id}")
        scope = {"type": "websocket", "state": {"principal": known.principal, "proof": known.proof}}
        with gate.open_calls.of(HTTPConnection(scope), Permission.STREAM_READ) as late:
            assert late.ended.is_set()
            with pytest.raises(Unauthenticated):
                gate.open_calls.check(late)


async def test_what_a_call_waited_for_is_shown_as_its_caller_may_then(door: Authenticated) -> None:
    worker, ann = bearer(await door.key("operator", workspace=W)), bearer(await _by_user(door))
    await _agents(door, worker)
    task_id = (await door.call("POST", "/tasks", {"task_type": "t", "payload": "zanzibar"}, worker))["task_id"]
    gate = door.api.gateway
    polls = [
        asyncio.ensure_future(door.api.call("GET", f"/tasks/{task_id}?wait=25", headers=headers))
        for headers in (ann, worker)
    ]
    await eventually(lambda: len(gate.open_calls) == len(polls))
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": "viewer"})
    await _unbind(door, "")
    task = (await door.call("POST", "/tasks/claim", {"agent_id": "a1"}, worker))["task"]
    report = {"lease_token": task["lease_token"], "result": "zanzibar"}
    await door.call("POST", f"/tasks/{task_id}/complete", report, worker)
    lost, kept = [(await poll).json() for poll in polls]
    assert (lost["status"], kept["status"], kept["result"]) == ("completed", "completed", "zanzibar")
    assert "zanzibar" not in str(lost)


async def test_an_export_has_words_for_whom_may_read_them_until_its_end(
    door: Authenticated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranges after a change have none; the number of rows in the answer says that it went on."""
    monkeypatch.setattr(audit, "EXPORT_ROWS", 1)
    worker = bearer(await door.key("operator", workspace=W))
    await _agents(door, worker)
    for _ in range(2):
        await door.call("POST", "/tasks", {"task_type": "t", "max_retries": 0}, worker)
        task = (await door.call("POST", "/tasks/claim", {"agent_id": "a1"}, worker))["task"]
        report = {"lease_token": task["lease_token"], "error": "zanzibar"}
        await door.call("POST", f"/tasks/{task['id']}/fail", report, worker)
    for role in ("auditor", "operator"):
        await door.call("PUT", f"/workspaces/{W}/members", {"subject": ANN, "role": role})
    gate, lines = door.api.gateway, []
    read = gate.audit.next

    async def read_and_lose(*of: Any) -> Any:
        found = await read(*of)
        if "zanzibar" in str(found) and not lines:
            lines.append("the first words were read")
            generation = gate.access.generation
            await door.call("DELETE", f"/workspaces/{W}/members?subject={ANN}&role=operator")
            await eventually(lambda: gate.access.generation > generation)
        return found

    monkeypatch.setattr(gate, "audit", SimpleNamespace(next=read_and_lose))
    ann = bearer(own_token(door.clock))
    text = (await door.api.client.get(f"{CP}/audit/export?format=json", headers=ann)).text
    assert (text.count("task.failed") + text.count("task.dead_lettered")) >= 2
    assert 1 <= text.count("zanzibar") < 4
