"""Agents that compress their answers although no call asks for it."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from cluster.agent_transports.a2a import A2ATransport
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentMalformed, AgentRefused, AgentUnavailable
from cluster.http.addresses import MAX_ANSWER_BYTES
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import serving

KINDS = pytest.mark.parametrize("kind", [TransportKind.OPENAI, TransportKind.A2A], ids=str)
COMPRESSED = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress}
BOMB = gzip.compress(b"0" * (MAX_ANSWER_BYTES + 1))


async def _asked(
    kind: TransportKind, status: int, encoding: str, made: Any, more: dict[str, str] | None = None
) -> Reply:
    """The reply of an agent whose every body is what ``made`` makes of it."""

    async def answer(request: Request) -> Response:
        body = _body(kind, request.method, await request.body(), str(request.url))
        return Response(made(body), status, {"content-encoding": encoding, **(more or {})}, "application/json")

    async with serving(answer) as url:
        http = transports(LOOPBACK)
        asker = A2ATransport(http.client) if kind is TransportKind.A2A else http
        try:
            return await asker.ask(question(url, transport=kind, tries=1))
        finally:
            await http.close()


def _body(kind: TransportKind, method: str, asked: bytes, url: str) -> bytes:
    if kind is TransportKind.OPENAI:
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice]}).encode()
    if method == "GET":
        interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        return json.dumps({"name": "x", "version": "1", "supportedInterfaces": [interface]}).encode()
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "yes"}]}
    return json.dumps({"jsonrpc": "2.0", "id": json.loads(asked)["id"], "result": {"message": message}}).encode()


@KINDS
@pytest.mark.parametrize("encoding", [*COMPRESSED, "identity", "br"])
async def test_a_compressed_answer_is_read(kind: TransportKind, encoding: str) -> None:
    """What names an encoding that is not known is read as it comes: some servers name one that they do not use."""
    reply = await _asked(kind, 200, encoding, COMPRESSED.get(encoding, bytes))
    assert reply.text == "yes"


@KINDS
async def test_what_it_becomes_is_bounded(kind: TransportKind) -> None:
    with pytest.raises(AgentMalformed, match=f"sent more than {MAX_ANSWER_BYTES} bytes"):
        await _asked(kind, 200, "gzip", lambda body: BOMB)


@KINDS
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (bytes, "is not the gzip that it says"),
        (lambda body: gzip.compress(body)[:-9], "without its end"),
        (lambda body: gzip.compress(body)[:2] + b"x" + gzip.compress(body)[3:], "is not the gzip that it says"),
    ],
    ids=["plain", "cut", "wrong"],
)
async def test_one_that_cannot_be_read_is_malformed(kind: TransportKind, made: Any, said: str) -> None:
    with pytest.raises(AgentMalformed, match=f"127.0.0.1 sent a body .*{said}"):
        await _asked(kind, 200, "gzip", made)


@KINDS
async def test_the_words_of_a_compressed_error_are_read(kind: TransportKind) -> None:
    with pytest.raises(AgentUnavailable, match="answers 503: busy"):
        await _asked(kind, 503, "gzip", lambda body: gzip.compress(b'{"error": "busy"}'))


@KINDS
@pytest.mark.parametrize("location", ["http://[::", "ftp://x/", "http://x:99999/", "\\"])
async def test_where_a_redirect_leads_is_not_looked_at(kind: TransportKind, location: str) -> None:
    with pytest.raises(AgentRefused, match="302"):
        await _asked(kind, 302, "identity", bytes, {"location": location})
