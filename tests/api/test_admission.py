"""No call reaches an endpoint without admission: the fast path, FastAPI and WebSockets admit and refuse alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import websockets
from aragora_sdk.exceptions import AuthenticationError, AuthorizationError
from fastapi import APIRouter, FastAPI
from starlette.requests import HTTPConnection
from starlette.types import Message

from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.base.log import LOCAL_ADMIN, SYSTEM, LogRow
from serve_app import application
from serve_app.application import make_app
from serve_app.auth.admission import UndeclaredPermission, requires
from serve_app.auth.local_administrator import LocalAdministrator
from serve_app.auth.resolver import PrincipalResolver
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.web_pages import WebPages
from tests.support.api import CP, Api, in_thread
from tests.support.changes import CHANGES
from tests.support.principals import UNKNOWABLE, TokenTable, bearer, principal
from tests.support.routes import Route, http_routes, websocket_routes

#: A request with an Origin header is not plain, so it goes through all of FastAPI.
WAYS: Mapping[str, Mapping[str, str]] = {"fast path": {}, "FastAPI": {"Origin": "http://elsewhere"}}
BODIES = (b"", b"{}", b'{"task_type": "t"}', b"{", b"[" * 1000)


def _only(permission: Permission) -> str:
    return f"only {permission}"


def _all_but(permission: Permission) -> str:
    return f"all but {permission}"


@pytest.fixture
async def tokens(api: Api) -> TokenTable:
    """``full`` may everything everywhere and acts in the workspace w, ``stranger`` everything in another one. The test's own
    client is ``full``."""
    await api.post("/workspaces", {"id": "w"})
    full = replace(principal("full"), everywhere=ALL)
    table = TokenTable({"full": full, "stranger": principal("stranger", workspace="v")})
    for permission in ALL:
        only = principal(_only(permission), permissions={permission})
        table.table[_only(permission)] = replace(only, everywhere=only.permissions)
        table.table[_all_but(permission)] = principal(_all_but(permission), permissions=ALL - {permission})
    api.app.state.resolver = table
    api.client.headers.update(bearer("full"))
    return table


def _guarded() -> list[Route]:
    return [route for route in http_routes() if route.endpoint.permission is not Permission.PUBLIC]


async def _ask(api: Api, route: Route, way: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    path = route.path.replace("{", "some-").replace("}", "")
    content_type = {"Content-Type": "application/json"}
    sent = {**content_type, **WAYS[way], "Authorization": "", **headers}
    return await api.client.request(route.method, path, content=body, headers=sent)


async def _answers(
    api: Api, token: Mapping[str, str] | Any, bodies: Sequence[bytes] = BODIES
) -> Sequence[tuple[str, Route, httpx.Response]]:
    """Of every guarded route, on both ways, with valid bodies and others. ``token`` may be a function of the route."""
    found = []
    for route in _guarded():
        for way in WAYS:
            for body in bodies if route.method != "GET" else (b"",):
                headers = token(route) if callable(token) else token
                answer = await _ask(api, route, way, body, headers)
                found.append((f"{route} by the {way} with {body[:20]!r}: {answer.status_code}", route, answer))
    return found


async def _rows(api: Api) -> list[LogRow]:
    """Without those that the system writes at any time: that is no answer to a call."""
    return [row for row in await api.rows() if not row.principal.startswith(SYSTEM)]


async def test_a_call_without_a_token_is_refused(api: Api, tokens: TokenTable) -> None:
    before = await api.rows()
    answers = [*await _answers(api, {})]
    for wrong in (bearer("unknown"), {"Authorization": "Basic full"}, {"Authorization": "full"}):
        answers += await _answers(api, wrong, (b"{",))
    for asked, _, answer in answers:
        assert (answer.status_code, answer.json().get("code")) == (401, "unauthenticated"), asked
        assert answer.headers["www-authenticate"] == "Bearer", asked
    assert await api.rows() == before


async def test_a_token_without_the_permission_opens_nothing(api: Api, tokens: TokenTable) -> None:
    """Whatever its body: whether that was valid is not told either."""
    before = await api.rows()
    for asked, route, answer in await _answers(api, lambda target: bearer(_all_but(target.endpoint.permission))):
        assert (answer.status_code, answer.json().get("code")) == (403, "forbidden"), asked
        assert route.endpoint.permission in answer.json()["error"], asked
    assert await api.rows() == before


async def test_exactly_the_permission_is_enough(api: Api, tokens: TokenTable) -> None:
    for asked, _, answer in await _answers(api, lambda target: bearer(_only(target.endpoint.permission))):
        assert answer.status_code not in (401, 403), asked
        assert answer.status_code < 500, asked


async def test_an_unreachable_resolver_is_answered_503(api: Api, tokens: TokenTable) -> None:
    for asked, _, answer in await _answers(api, bearer(UNKNOWABLE), (b"{",)):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), asked


async def test_public_routes_need_no_token(api: Api, tokens: TokenTable) -> None:
    routes = [route for route in http_routes() if route.endpoint.permission is Permission.PUBLIC]
    public = [route.path for route in routes if route.method == "GET" and not route.path.endswith("/auth/caller")]
    for path in [*public, "/openapi.json", "/docs"]:
        answer = await api.client.get(path, headers={"Authorization": ""})
        is_off = answer.status_code == 404 and answer.json()["code"] == "login_off"
        assert answer.status_code in (200, 503) or is_off, path
    assert tokens.resolved == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_refused_change_changes_nothing_and_an_admitted_one_does(
    api: Api, tokens: TokenTable, way: str
) -> None:
    required = {
        (declared.method, declared.path.removeprefix(CP)): declared.endpoint.permission for declared in http_routes()
    }
    for (method, template), prepare in CHANGES.items():
        path, body = await prepare(api)
        before = await _rows(api)
        permission = required[method, template]
        refused = await api.call(method, path, body, headers={**WAYS[way], **bearer(_all_but(permission))})
        assert refused.status_code == 403, f"{method} {template}"
        assert await _rows(api) == before, f"{method} {template}"
        # Who changes access must have what it grants, and some of it everywhere (tests/api/test_access.py).
        who = "full" if permission is Permission.ACCESS_WRITE else _only(permission)
        admitted = await api.call(method, path, body, headers={**WAYS[way], **bearer(who)})
        assert admitted.is_success, f"{method} {template}: {admitted.text}"


@pytest.mark.parametrize("way", WAYS)
async def test_a_principal_of_another_workspace_changes_nothing_here(api: Api, tokens: TokenTable, way: str) -> None:
    for number, ((method, template), prepare) in enumerate(CHANGES.items()):
        path, body = await prepare(api)
        before = await _rows(api)
        headers = {**WAYS[way], "Idempotency-Key": f"key {number}"}
        answer = await api.call(method, path, body, headers={**headers, **bearer("stranger")})
        assert answer.status_code < 500, f"{method} {template}: {answer.text}"
        ours = [row for row in await _rows(api) if row.workspace == "w"]
        assert ours == [row for row in before if row.workspace == "w"], f"{method} {template}: {answer.text}"
        admitted = await api.call(method, path, body, headers=headers)
        assert admitted.is_success, f"{method} {template}: {admitted.text}"


async def test_routes_see_the_workspace_of_the_principal(api: Api, tokens: TokenTable) -> None:
    task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
    await api.post("/agents", {"agent_id": "ours"})
    (row,) = await api.rows(task_id)
    assert (row.workspace, row.principal) == ("w", "user:full")
    stranger = bearer("stranger")
    for path in (f"/tasks/{task_id}", f"/tasks/{task_id}/events", f"/tasks/{task_id}/explain", "/agents/ours"):
        assert (await api.call("GET", path)).status_code == 200, path
        assert (await api.call("GET", path, headers=stranger)).status_code == 404, path
    assert (await api.get("/agents"))["total"] == 1
    assert (await api.get("/agents", headers=stranger))["total"] == 0
    assert (await api.get("/queue"))["total"] == 1
    assert (await api.get("/queue", headers=stranger))["total"] == 0


async def test_a_caller_is_resolved_once_per_request(api: Api, tokens: TokenTable) -> None:
    """Also when the fast path leaves the request to FastAPI."""
    for number, body in enumerate((b'{"task_type": "t"}', b'{"task_type": 5}', b"{"), start=1):
        await api.client.post(f"{CP}/tasks", content=body, headers={"Content-Type": "application/json"})
        assert tokens.resolved == number, body


async def test_the_released_client_names_both_refusals(api: Api, tokens: TokenTable) -> None:
    nobody, poor = api.sdk(max_retries=1), api.sdk(api_key=_all_but(Permission.TASKS_WRITE), max_retries=1)
    full = api.sdk(api_key="full", max_retries=1)
    with pytest.raises(AuthenticationError, match="bearer token"):
        await in_thread(nobody.control_plane.list_agents)
    with pytest.raises(AuthorizationError, match=Permission.TASKS_WRITE):
        await in_thread(poor.control_plane.create_task, task_type="echo")
    assert (await in_thread(full.control_plane.create_task, task_type="echo"))["task_id"]


async def test_while_authentication_is_off_everybody_is_the_local_administrator(api: Api) -> None:
    resolver = api.app.state.resolver
    assert isinstance(resolver, LocalAdministrator)
    task_id = (await api.post("/tasks", {"task_type": "echo"}, headers=bearer("ignored")))["task_id"]
    (row,) = await api.rows(task_id)
    assert (row.workspace, row.principal) == (api.settings.workspace, LOCAL_ADMIN)


async def test_while_authentication_is_off_other_peoples_pages_open_nothing(api: Api) -> None:
    foreign = ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:8080"})
    for headers in foreign:
        for route in _guarded():
            answer = await _ask(api, route, "fast path", b"{}", headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), f"{route} with {headers}"
    for route in websocket_routes():
        url = api.url.replace("http", "ws") + route.path
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(url, additional_headers={"Origin": "http://evil.example"}):
                pass
        assert refused.value.response.status_code == 403, route
    assert await _rows(api) == []


async def test_while_authentication_is_off_own_pages_may_do_everything(api: Api) -> None:
    for route in _guarded():
        answer = await _ask(api, route, "fast path", b"{}", {"Origin": api.url})
        assert answer.status_code != 403, route
    for route in websocket_routes():
        url = api.url.replace("http", "ws") + route.path
        async with websockets.connect(url, additional_headers={"Origin": api.url}):
            pass


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "resolver",
    [LocalAdministrator("w", WebPages((), on_loopback=True)), TokenTable({"full": principal("full")})],
    ids=lambda resolver: type(resolver).__name__,
)
async def test_every_resolver_needs_only_headers_and_answers_alike(resolver: PrincipalResolver, kind: str) -> None:
    """From the headers alone: there is nothing here that a body could be received with."""
    scope = {"type": kind, "path": "/", "headers": [(b"authorization", b"Bearer full")], "query_string": b""}
    first, again = [await resolver.resolve(HTTPConnection(scope)) for _ in range(2)]
    assert first == again
    assert first.id.startswith("user:")
    assert (first.workspace, first.permissions) == ("w", ALL)


# --- WebSockets -------------------------------------------------------------------------------------------------------


def _connect(api: Api, path: str, token: str | None) -> Any:
    headers = bearer(token) if token is not None else {}
    return websockets.connect(api.url.replace("http", "ws") + path, additional_headers=headers)


async def _refusal(api: Api, path: str, token: str | None) -> tuple[int, dict[str, Any]]:
    """The handshake's answer; fails when the WebSocket was accepted."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with _connect(api, path, token):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body or b"{}")


def test_the_application_has_websocket_routes() -> None:
    assert {route.path for route in websocket_routes()} >= {f"{CP}/stream", f"{CP}/agents/heartbeats"}


async def test_a_websocket_is_refused_before_it_is_accepted(api: Api, tokens: TokenTable) -> None:
    task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
    for route in websocket_routes():
        permission, path = route.endpoint.permission, route.path.format(task_id=task_id)
        for token in (None, "unknown"):
            status, body = await _refusal(api, path, token)
            assert (status, body["code"]) == (401, "unauthenticated"), route
        # Its parameters are not looked at before either.
        status, body = await _refusal(api, f"{path}?after=nonsense", _all_but(permission))
        assert (status, body["code"]) == (403, "forbidden"), route
        assert permission in body["error"]
        assert (await _refusal(api, path, UNKNOWABLE))[0] == 503, route
        async with _connect(api, path, _only(permission)) as socket:
            await socket.send('{"type": "ping"}')
            assert json.loads(await socket.recv())["type"], route


async def test_a_websocket_sees_the_workspace_of_its_principal(api: Api, tokens: TokenTable) -> None:
    async with _connect(api, f"{CP}/stream", "full") as ours, _connect(api, f"{CP}/stream", "stranger") as theirs:
        for socket in (ours, theirs):
            assert json.loads(await socket.recv())["type"] == "connected"
        first = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
        second = (await api.post("/tasks", {"task_type": "echo"}, headers=bearer("stranger")))["task_id"]
        assert json.loads(await ours.recv())["data"]["task_id"] == first
        assert json.loads(await theirs.recv())["data"]["task_id"] == second


async def test_heartbeats_by_websocket_are_for_agents_of_the_principal(api: Api, tokens: TokenTable) -> None:
    await api.post("/agents", {"agent_id": "ours"})
    for token, unknown in (("full", []), ("stranger", ["ours"])):
        async with _connect(api, f"{CP}/agents/heartbeats", token) as socket:
            await socket.send('{"agent_id": "ours"}')
            assert json.loads(await socket.recv())["data"]["unknown"] == unknown


@pytest.mark.parametrize(("token", "code"), [("nobody", 1008), (UNKNOWABLE, 1013)])
async def test_a_server_that_cannot_answer_a_handshake_closes_it(token: str, code: int) -> None:
    """Of ASGI's extensions, servers may have none."""
    app = make_app()
    app.state.resolver = TokenTable({})
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "websocket", "path": f"{CP}/stream", "headers": headers, "query_string": b"", "subprotocols": []}
    await asyncio.wait_for(app(scope, receive, send), 10)
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", code)]


# --- no route beside the door -----------------------------------------------------------------------------------------


async def _endpoint() -> dict[str, str]:
    return {}


def _router(kind: type[APIRouter], permission: Permission | None, how: str) -> APIRouter:
    router = kind()

    async def endpoint() -> dict[str, str]:
        return {}

    declared = requires(permission)(endpoint) if permission is not None else endpoint
    if how == "websocket":
        router.websocket("/beside")(declared)
    else:
        router.api_route("/beside", methods=[how])(declared)
    return router


@pytest.mark.parametrize("how", ["GET", "POST", "websocket"])
def test_a_route_that_declares_no_permission_cannot_be_added(how: str) -> None:
    with pytest.raises(UndeclaredPermission, match="endpoint declares no permission"):
        _router(GuardedRouter, None, how)
    with pytest.raises(UndeclaredPermission):
        make_app().get("/beside")(_endpoint)


def _serve_also(monkeypatch: pytest.MonkeyPatch, router: APIRouter) -> None:
    """The next application has the routes of this router too, and those after the test do not."""
    monkeypatch.setattr(application, "_ROUTERS", (*application._ROUTERS, router))
    monkeypatch.setattr(application, "_routes", application._routes.__wrapped__)


@pytest.mark.parametrize("how", ["GET", "POST", "websocket"])
@pytest.mark.parametrize("permission", [None, Permission.TASKS_READ])
def test_an_application_with_an_unguarded_route_is_refused(
    monkeypatch: pytest.MonkeyPatch, how: str, permission: Permission | None
) -> None:
    """A declaration alone guards nothing."""
    _serve_also(monkeypatch, _router(APIRouter, permission, how))
    with pytest.raises(UndeclaredPermission):
        make_app()


def test_an_application_with_an_unguarded_mount_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    router = GuardedRouter()
    router.mount("/beside", FastAPI())
    _serve_also(monkeypatch, router)
    with pytest.raises(UndeclaredPermission, match="/beside"):
        make_app()
