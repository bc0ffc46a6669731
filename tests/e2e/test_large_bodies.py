"""Whoever sends a body that is too large reads why, also if they send all of it before they read. HAProxy stands before the API,
and ends a connection on which the answer has come before the end of the body."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import pytest

from serve_app.http.body_bounds import DISCARDED_BYTES
from tests.support.system import RunningSystem

PART = b"x" * 1_000_000


def _answer(system: RunningSystem, head: str, body: Iterable[bytes] = ()) -> tuple[int, str]:
    """(status, code) of what is read once everything has been sent."""
    url = urlsplit(system.api_url)
    begin = f"POST /api/control-plane/tasks HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
    with socket.create_connection((str(url.hostname), url.port or 80), timeout=60) as connection:
        connection.sendall(begin.encode())
        for part in body:
            connection.sendall(part)
        answer = b""
        while not answer.endswith(b"}"):
            received = connection.recv(65_536)
            assert received, answer
            answer += received
    final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    status, _, rest = final.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])["code"]


@pytest.mark.parametrize("megabytes", [2, 5, 30])
def test_a_body_that_is_too_large_is_read_before_it_is_refused(system: RunningSystem, megabytes: int) -> None:
    declared = _answer(system, f"Content-Length: {megabytes * len(PART)}", [PART] * megabytes)
    chunk = f"{len(PART):x}\r\n".encode() + PART + b"\r\n"
    chunked = _answer(system, "Transfer-Encoding: chunked", [*[chunk] * megabytes, b"0\r\n\r\n"])
    assert declared == chunked == (413, "body_too_large")


@pytest.mark.parametrize(
    "head", ["Content-Length: 5000000\r\nExpect: 100-continue", f"Content-Length: {2 * DISCARDED_BYTES}"]
)
def test_a_body_that_nobody_should_send_is_refused_before_it_comes(system: RunningSystem, head: str) -> None:
    assert _answer(system, head) == (413, "body_too_large")
