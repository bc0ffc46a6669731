"""Every answer that a page can meet says whether the page may read it, errors of every kind included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from serve_app.http import body_bounds
from tests.support.api import CP
from tests.support.authenticated import Authenticated, authenticated
from tests.support.principals import bearer
from tests.support.stores import StoreUrls

ORIGIN = "https://page.example"
JSON = {"Content-Type": "application/json"}
Made = Callable[[Authenticated, pytest.MonkeyPatch], Awaitable[httpx.Response]]


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, kinds=(), cors_origins=(ORIGIN,), max_body_bytes=2000) as running:
        yield running


def calls(method: str, path: str, *, by: dict[str, str] | None = None, **sent: Any) -> Made:
    async def made(door: Authenticated, _: pytest.MonkeyPatch) -> httpx.Response:
        headers = {"Origin": ORIGIN, **(door.admin if by is None else by), **sent.pop("headers", {})}
        return await door.api.client.request(method, path, headers=headers, **sent)

    return made


async def in_pieces(pieces: int) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        yield b" " * 1000


def undeclared(door: Authenticated, _: pytest.MonkeyPatch) -> Awaitable[httpx.Response]:
    headers = {"Origin": ORIGIN, **door.admin, **JSON}
    return door.api.client.post(CP + "/tasks", headers=headers, content=in_pieces(4))


async def slow(door: Authenticated, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(body_bounds, "BODY_S", 0.2)
    url = httpx.URL(door.api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [f"POST {CP}/tasks HTTP/1.1", f"Host: {url.host}", f"Origin: {ORIGIN}", "Content-Length: 9", *_lines(JSON)]
    writer.write("\r\n".join([*lines, *_lines(door.admin), "", ""]).encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in rest]
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


def _lines(headers: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in headers.items()]


async def throttled(door: Authenticated, patch: pytest.MonkeyPatch) -> httpx.Response:
    for _ in range(25):
        answer = await calls("GET", CP + "/agents", by=bearer("ara_nobody"))(door, patch)
    return answer


async def broken(door: Authenticated, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(door.api.app.state, "resolver", None)
    return await calls("POST", CP + "/tasks", json={"task_type": "t"})(door, patch)


async def drains(door: Authenticated, patch: pytest.MonkeyPatch) -> httpx.Response:
    patch.setattr(door.api.gateway, "draining", True)
    return await calls("GET", "/health")(door, patch)


async def without_actors(door: Authenticated, patch: pytest.MonkeyPatch) -> httpx.Response:
    return await calls("POST", CP + "/tasks/t-1/cancel")(door, patch)


KINDS: dict[str, tuple[int, Made]] = {
    "200": (200, calls("GET", CP + "/agents")),
    "201, a call of the fast path": (201, calls("POST", CP + "/tasks", json={"task_type": "t"})),
    "a redirect": (307, calls("GET", CP + "/agents/")),
    "400": (400, calls("POST", CP + "/tasks", json={})),
    "401": (401, calls("POST", CP + "/tasks", by={}, json={"task_type": "t"})),
    "403": (403, calls("GET", CP + "/agents", headers={"X-Aragora-Workspace": "other"})),
    "404": (404, calls("GET", CP + "/tasks/t-1")),
    "404, no route": (404, calls("GET", "/nothing")),
    "405": (405, calls("PATCH", CP + "/tasks")),
    "408": (408, slow),
    "413, by its length": (413, calls("POST", CP + "/tasks", json={"task_type": "t" * 3000})),
    "413, as it comes": (413, undeclared),
    "415": (415, calls("POST", CP + "/tasks", content="x", headers={"Content-Type": "text/plain"})),
    "429": (429, throttled),
    "500": (500, broken),
    "503, the replica drains": (503, drains),
    "503, an actor is away": (503, without_actors),
    "HEAD": (200, calls("HEAD", CP + "/health")),
}


@pytest.mark.parametrize(("status", "made"), KINDS.values(), ids=KINDS.keys())
async def test_every_kind_of_answer_may_be_read_by_a_named_page(
    door: Authenticated, status: int, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await made(door, monkeypatch)
    assert answer.status_code == status, answer.text
    told = {name: answer.headers.get_list(name) for name in answer.headers if name.startswith("access-control-")}
    assert told == {
        "access-control-allow-origin": [ORIGIN],
        "access-control-allow-credentials": ["true"],
        "access-control-expose-headers": ["X-Trace-Id, Location, Retry-After"],
    }
    assert "origin" in answer.headers["vary"].lower(), "a cache keeps it for this page alone"
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(answer.headers.get_list("x-trace-id")) == 1


async def test_a_preflight_is_answered_with_trace_and_security_headers(door: Authenticated) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    answer = await door.api.client.options(CP + "/tasks", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert {"x-trace-id", "x-content-type-options"} <= answer.headers.keys()


@pytest.mark.parametrize("origin", [None, "https://other.example", "null"])
async def test_other_pages_are_told_nothing_and_calls_without_a_page_neither(
    door: Authenticated, origin: str | None
) -> None:
    headers = door.admin | ({} if origin is None else {"Origin": origin})
    for sent in ({"task_type": "t"}, {"task_type": "t" * 3000}):
        answer = await door.api.client.post(CP + "/tasks", json=sent, headers=headers)
        assert "access-control-allow-origin" not in answer.headers
