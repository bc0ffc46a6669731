"""Whoever sends a body that is too large reads why, also if they send all of it before they read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest

from serve_app.http.middleware import DISCARDED_BYTES
from tests.support.api import CP, Api, api_settings
from tests.support.stores import StoreUrls

PART = b"x" * 1_000_000


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema)).running(()) as running:
        yield running


def _answer(url: httpx.URL, head: str, body: Iterable[bytes]) -> tuple[int, str]:
    """(status, code) of what is read once everything has been sent."""
    begin = f"POST {CP}/tasks HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall(begin.encode())
        for part in body:
            connection.sendall(part)
        answer = b""
        while not answer.endswith(b"}"):
            part = connection.recv(65_536)
            assert part, answer
            answer += part
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])["code"]


@pytest.mark.parametrize("megabytes", [2, 5, 30])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_body_that_is_too_large_is_read_before_it_is_refused(api: Api, megabytes: int, chunked: bool) -> None:
    url = httpx.URL(api.url)
    if chunked:
        chunk = f"{len(PART):x}\r\n".encode() + PART + b"\r\n"
        call = ("Transfer-Encoding: chunked", [*[chunk] * megabytes, b"0\r\n\r\n"])
    else:
        call = (f"Content-Length: {megabytes * len(PART)}", [PART] * megabytes)
    assert await asyncio.to_thread(_answer, url, *call) == (413, "body_too_large")
    assert (await api.client.post(f"{CP}/tasks", json={"task_type": "t"})).status_code == 201


@pytest.mark.parametrize(
    "head", ["Content-Length: 5000000\r\nExpect: 100-continue", f"Content-Length: {2 * DISCARDED_BYTES}"]
)
async def test_a_body_that_nobody_should_send_is_refused_before_it_comes(api: Api, head: str) -> None:
    assert await asyncio.to_thread(_answer, httpx.URL(api.url), head, []) == (413, "body_too_large")
