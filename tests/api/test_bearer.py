"""Bearer tokens through the whole application: keys and tokens open all its doors alike, and are written nowhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
import websockets
from aragora_sdk.exceptions import AuthenticationError

from cluster.process.clock import SystemClock
from tests.support.api import CP, Api, in_thread
from tests.support.bearer_tables import Tables, bearer_tokens, own_token
from tests.support.principals import bearer
from tests.support.tokens import OTHER_SECRET, signed

WAYS = {"fast path": {}, "FastAPI": {"Origin": "http://elsewhere"}}


@pytest.fixture
def tables(api: Api) -> Tables:
    tables = Tables()
    api.app.state.resolver = bearer_tokens(tables)
    return tables


def _socket(api: Api, query: str, **headers: str) -> Any:
    return websockets.connect(f"{api.url.replace('http', 'ws')}/ws/control-plane{query}", additional_headers=headers)


async def test_keys_and_tokens_open_every_door(api: Api, tables: Tables) -> None:
    key, user = tables.add_key("k"), own_token(SystemClock())
    tables.bind("user:ann@example.com", "admin")
    for token, name in ((key, f"key:{key.split('_')[1]}"), (user, "user:ann@example.com")):
        for headers in WAYS.values():
            answer = await api.call("POST", "/tasks", {"task_type": "t"}, headers={**bearer(token), **headers})
            assert answer.status_code == 201, answer.text
            (row,) = await api.rows(answer.json()["task_id"])
            assert (row.workspace, row.principal) == ("w", name)
        assert (await api.call("GET", "/queue", headers=bearer(token))).status_code == 200
        async with _socket(api, "", **bearer(token)) as socket:
            assert json.loads(await socket.recv())["type"] == "connected"


async def test_refusals_say_what_to_do_in_our_shape(api: Api, tables: Tables) -> None:
    tables.add_key("k")
    wrong = ("", "Basic YTpi", "Bearer", "Bearer ara_x", f"Bearer {signed({'sub': 'a'}, OTHER_SECRET)}")
    for sent in wrong:
        for headers in WAYS.values():
            answer = await api.call("POST", "/tasks", {"task_type": "t"}, headers={"Authorization": sent, **headers})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), sent
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"].endswith("."), sent
    with pytest.raises(AuthenticationError, match="API key or a token"):
        await in_thread(api.sdk(max_retries=1).control_plane.list_agents)


async def test_a_workspace_is_named_in_a_header(api: Api, tables: Tables) -> None:
    headers = bearer(tables.add_key("k", workspaces=("w", "v")))
    for named, status in ((None, 200), ("v", 200), ("elsewhere", 403), ("not an id!", 400)):
        sent = headers if named is None else {**headers, "X-Aragora-Workspace": named}
        assert (await api.call("GET", "/queue", headers=sent)).status_code == status, named


async def test_a_token_in_the_query_is_for_sockets_and_is_logged_nowhere(
    api: Api, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    key = tables.add_key("k")
    caplog.set_level(logging.INFO, "serve_app")
    async with _socket(api, f"?debate_id=d&token={key}") as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with _socket(api, f"?token={key[:-1]}!"):
            pass
    assert refused.value.response.status_code == 401
    assert key[:-1] not in (refused.value.response.body or b"").decode()
    accept = {"Accept": "text/event-stream"}
    for path in (
        f"/stream?token={key}",
        f"/tasks/t/chunks/stream?token={key}",
        f"/queue?token={key}",
        f"/nothing?token={key}",
    ):
        answer = await api.call("GET", path, headers=accept)
        assert answer.status_code in (401, 404)
        assert key not in answer.text
    assert not [record for record in caplog.records if key in record.getMessage() and "serve_app" in record.name]


@pytest.mark.parametrize(
    "sent",
    [b"Bearer \xff\xfe", b"Bearer " + b"a" * 9_000, b"Bearer a.b.c", b"x", b"Bearer ara_\x80", b"bearer  ara_x_y"],
)
async def test_odd_headers_are_refused_and_break_nothing(api: Api, tables: Tables, sent: bytes) -> None:
    headers = httpx.Headers([(b"authorization", sent), (b"x-aragora-workspace", b"\xff")])
    for method, path in (("GET", "/queue"), ("POST", "/tasks"), ("GET", "/stream")):
        answer = await api.client.request(method, CP + path, headers=headers)
        assert answer.status_code == 401, answer.text
