"""An issuer of tokens: a real HTTP server that publishes its keys, and can answer anything or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from cluster.http.addresses import PinnedBackend, resolve
from cluster.http.connections import ConnectionPool
from tests.support.listening import listening, port_of
from tests.support.tokens import jwk, key_set, private_key, signed

LOOPBACK = ("127.0.0.0/8",)


class Issuer:
    """``calls`` counts the fetches of its keys. ``hangs``: it takes calls and answers none."""

    def __init__(self) -> None:
        self.keys = [jwk("EdDSA", "k1")]
        self.calls = 0
        self.status = 200
        self.content: bytes | None = None
        self.hangs = False
        self.url = ""

    def token(self, claims: dict[str, Any], kid: str = "k1", key: str = "") -> str:
        return signed(claims, private_key("EdDSA", key), "EdDSA", {"kid": kid})

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.calls += 1
            if self.hangs:
                await reader.read()
                return
            body = key_set(*self.keys) if self.content is None else self.content
            head = f"HTTP/1.1 {self.status} X\r\nLocation: {self.url}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Issuer]:
        async with listening(self._answer) as server:
            self.url = f"http://127.0.0.1:{port_of(server)}/keys"
            yield self


@contextlib.asynccontextmanager
async def connections(allowed: tuple[str, ...] = LOOPBACK) -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool(size=2, tls=ssl.create_default_context(), backend=PinnedBackend(allowed, resolve))
    try:
        yield pool
    finally:
        await pool.aclose()
