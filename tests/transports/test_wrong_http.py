"""Bytes that are not HTTP show that the server is there: a malformed answer. A connection closed too early is a lost one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from cluster.agent_transports.a2a import A2ATransport
from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentMalformed, AgentUnavailable
from cluster.domain.base.json_values import check_text
from cluster.http.connections import MAX_PARTS, PARTS_AT_ONCE
from cluster.http.sockets import HEAD_PART_BYTES, MAX_HEAD_BYTES, MAX_WIRE_BYTES
from tests.support.asking import LOOPBACK, question, transports
from tests.support.listening import listening, port_of

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"content-length: 2\r\n\r\n{}"
WRONG_HEADS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a page without a head": b"<html>yes</html>\r\n\r\n",
    "bytes of TLS": b"\x15\x03\x01\x00\x02\x02\x50",
    "no status": b"HTTP/1.1 abc OK\r\n" + BODY,
    "a status below 100": b"HTTP/1.1 099 OK\r\n" + BODY,
    "a long status": b"HTTP/1.1 2000 OK\r\n" + BODY,
    "a status of words": b"HTTP/1.1\r\n" + BODY,
    "NUL in a header": OK + b"x: a\x00b\r\n" + BODY,
    "a header without a colon": OK + b"x\r\n" + BODY,
    "a header of 1 MB": OK + b"x: " + b"a" * 1_000_000 + b"\r\n" + BODY,
    "two lengths": OK + b"content-length: 3\r\n" + BODY,
    "a negative length": OK + b"content-length: -1\r\n\r\n{}",
    "a length of words": OK + b"content-length: two\r\n\r\n{}",
    "a length of 5,000 digits": OK + b"content-length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "a coding that is none": OK + b"transfer-encoding: magic\r\n\r\n{}",
    "an unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
}
WRONG_BODIES = {
    "a length of 20 digits": OK + b"content-length: " + b"9" * 20 + b"\r\n\r\n{}",
    "a length of 1 GB": OK + b"content-length: 1000000000\r\n\r\n{}",
    "a chunk's size that is none": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": OK + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk without its end": OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}{}{}\r\n0\r\n\r\n",
}
WRONG = WRONG_HEADS | WRONG_BODIES
LOST = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": OK + b"content-le",
    "only a 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "half a body": OK + b"content-length: 20\r\n\r\n{}",
    "half a chunk": OK + b"transfer-encoding: chunked\r\n\r\n9\r\n{}",
    "no last chunk": OK + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
}
KINDS = pytest.mark.parametrize(
    "kind", [TransportKind.HTTP, TransportKind.OPENAI, TransportKind.ANTHROPIC, TransportKind.A2A], ids=str
)


@contextlib.asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that answers every request by these bytes and closes the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with listening(talk) as server:
        yield f"http://127.0.0.1:{port_of(server)}/x"


async def _asked(kind: TransportKind, answer: bytes) -> None:
    http = transports(LOOPBACK)
    asker = A2ATransport(http.client) if kind is TransportKind.A2A else http
    async with saying(answer) as url:
        try:
            await asker.ask(question(url, transport=kind, tries=1))
        finally:
            await http.close()


@KINDS
@pytest.mark.parametrize("name", WRONG)
async def test_an_answer_that_is_not_http_is_malformed(kind: TransportKind, name: str) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        await _asked(kind, WRONG[name])
    check_text(malformed.value.message, "The sentence")
    assert malformed.value.message.startswith("127.0.0.1 ")
    assert len(malformed.value.message) < 250


@KINDS
@pytest.mark.parametrize("name", LOST)
async def test_a_connection_that_is_closed_too_early_is_unavailable(kind: TransportKind, name: str) -> None:
    with pytest.raises(AgentUnavailable):
        await _asked(kind, LOST[name])


@pytest.mark.parametrize("name", [*WRONG_HEADS, "nothing", "half a head"])
async def test_a_probe_tells_them_apart_too(name: str) -> None:
    http = transports(LOOPBACK)
    async with saying((WRONG | LOST)[name]) as url:
        with pytest.raises(AgentUnavailable if name in LOST else AgentMalformed):
            await http.probe(url)
        await http.close()


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
HEAD_TURNS = MAX_HEAD_BYTES // HEAD_PART_BYTES
#: What begins an answer, what is repeated without an end, as fast as it is read, and how often others run at least.
FLOODS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", HEAD_TURNS),
    "interim answers with headers": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", HEAD_TURNS),
    "chunks of a byte": (CHUNKED, b"1\r\n \r\n", MAX_PARTS // PARTS_AT_ONCE),
    "chunks with long extensions": (CHUNKED, b"1;" + b"x" * 10_000 + b"\r\n \r\n", MAX_WIRE_BYTES // 65_536),
}


@pytest.mark.parametrize("kind", [TransportKind.HTTP, TransportKind.A2A], ids=str)
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_malformed_and_lets_others_run(kind: TransportKind, name: str) -> None:
    """The parser does not bound how many events it makes, and what has arrived is read without a wait."""
    begin, repeated, turns_at_least = FLOODS[name]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(repeated * (65_536 // len(repeated)))
                await writer.drain()

    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    ours = transports(LOOPBACK, timeout_s=60.0)
    running = asyncio.create_task(neighbour())
    async with listening(talk) as server:
        asked = question(f"http://127.0.0.1:{port_of(server)}/", transport=kind, timeout_s=60.0)
        with pytest.raises(AgentMalformed):
            await (A2ATransport(ours.client).ask(asked) if kind is TransportKind.A2A else ours.ask(asked))
    running.cancel()
    await ours.close()
    assert turns >= turns_at_least, "others did not run while it was read"
