"""Clients that send too slowly, to a whole system: HAProxy and replicas as Ray runs them give up each, and serve the others."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import httpx
import pytest

from serve_app.http.body_bounds import BODY_S
from tests.support.system import RunningSystem

pytestmark = pytest.mark.longer

HEAD = b"POST /api/control-plane/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
#: Each is never completed.
HEADS = [b"G", HEAD]
BODIES = [HEAD + b"Content-Length: 20\r\n\r\n{", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
#: A test that waits longer than this hangs; Ray's own bounds are an hour.
LONGEST_S = 4 * BODY_S


async def _given_up(system: RunningSystem, begin: bytes) -> bytes:
    """What is read until the system ends a connection on which ``begin`` was sent and then a byte now and then."""
    url = urlsplit(system.api_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(begin)
    received = b""
    try:
        async with asyncio.timeout(LONGEST_S):
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        more = await reader.read(65_536)
                except TimeoutError:
                    writer.write(b"1" if begin in HEADS else b"")
                    continue
                if not more:
                    return received
                received += more
    except ConnectionError:
        return received
    finally:
        writer.close()


async def test_slow_clients_are_given_up_and_others_are_served(system: RunningSystem) -> None:
    slow = [asyncio.ensure_future(_given_up(system, begin)) for begin in [*HEADS, *BODIES] * 25]
    served = 0
    async with httpx.AsyncClient(base_url=system.api_url, timeout=30) as client:
        while not all(each.done() for each in slow):
            answer = await client.post("/api/control-plane/tasks", json={"task_type": "t"})
            assert answer.status_code == 201, answer.text
            served += 1
            await asyncio.wait(slow, timeout=1.0)
    assert served > 1
    answers = [await each for each in slow]
    for begin, answer in zip([*HEADS, *BODIES] * 25, answers, strict=True):
        head, _, body = answer.partition(b"\r\n\r\n")
        if begin in HEADS:
            assert head[:13] in (b"HTTP/1.1 408 ", b"")
        else:
            assert head[:13] == b"HTTP/1.1 408 ", answer
            assert json.loads(body)["code"] == "body_too_slow"
