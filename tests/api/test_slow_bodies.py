"""A body that never ends is given up, however it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from serve_app.http import body_bounds
from tests.support.api import CP, Api, api_settings
from tests.support.stores import StoreUrls

BODY = json.dumps({"task_type": "t"}).encode()


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema)).running(()) as running:
        monkeypatch.setattr(body_bounds, "BODY_S", 0.5)
        yield running


def _head(api: Api, kind: str, length: str) -> bytes:
    url = httpx.URL(api.url)
    return (
        f"POST {CP}/tasks HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
    ).encode()


async def _answer(api: Api, begin: bytes, drop: bytes) -> bytes:
    """What the server sends before it ends the connection, while ``drop`` is sent again and again."""
    url = httpx.URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)

    async def drip() -> None:
        writer.write(begin)
        with contextlib.suppress(OSError):
            while drop:
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    answer = b""
    try:
        # The server closes the connection while more arrives, so a reset may follow the answer.
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                while part := await reader.read(65_536):
                    answer += part
        return answer
    finally:
        dripping.cancel()
        writer.close()


@pytest.mark.parametrize("drop", [b"", b" "], ids=["silent", "dripping"])
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"], ids=["fast", "whole"])
async def test_a_body_that_does_not_end_is_given_up(api: Api, kind: str, drop: bytes) -> None:
    answer = await _answer(api, _head(api, kind, "Content-Length: 100000") + BODY, drop)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_too_slow"
    assert (await api.client.post(f"{CP}/tasks", json={"task_type": "t"})).status_code == 201


async def test_a_chunked_body_that_does_not_end_is_given_up(api: Api) -> None:
    begin = _head(api, "application/json", "Transfer-Encoding: chunked")
    answer = await _answer(api, begin, b"1\r\n \r\n")
    assert answer.startswith(b"HTTP/1.1 408 "), answer


async def test_a_call_that_waits_longer_than_a_body_may_take_goes_on(api: Api) -> None:
    await api.start_scheduler()
    await api.post("/agents", {"agent_id": "a1"})
    claimed = await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 1000})
    assert claimed["task"] is None
