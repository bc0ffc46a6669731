"""Network streams for httpcore, directly over asyncio. Its own streams, through anyio, cost a call more than HTTP does."""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import Any

import httpcore


class _Reader(asyncio.StreamReader):
    """Counts the bytes that have arrived and were not read yet, since the socket no longer shows them."""

    unread = 0

    def feed_data(self, data: Any) -> None:
        self.unread += len(data)
        super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        self.unread -= len(data)
        return data


class AsyncioStream(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what has arrived. Raises: httpcore's `ReadTimeout` or `ReadError`."""
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes, and waits only if the peer does not read fast enough. Raises: httpcore's `WriteTimeout` or `WriteError`."""
        if not buffer:
            return
        if self._writer.is_closing():
            raise httpcore.WriteError("the connection is closed")
        try:
            self._writer.write(buffer)
            if self._writer.transport.get_write_buffer_size() > 0:
                async with asyncio.timeout(timeout):
                    await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Closes the socket at once. Waiting for a peer that reads nothing would keep the socket open for ever."""
        self._writer.transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Does the TLS handshake. Raises: httpcore's `ConnectTimeout` or `ConnectError`."""
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except TimeoutError as error:
            self._writer.transport.abort()
            raise httpcore.ConnectTimeout from error
        except OSError as error:  # a certificate that is not trusted is one too
            self._writer.transport.abort()
            raise httpcore.ConnectError(str(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._readable()
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._writer.get_extra_info(names.get(info, info))

    def _readable(self) -> bool:
        """Whether an idle connection is of no use: the other side has closed it, or has sent something unasked."""
        if self._reader.unread or self._reader.at_eof() or self._writer.is_closing():
            return True
        socket = self._writer.get_extra_info("socket")
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))


async def connect(address: str, port: int, timeout: float | None) -> httpcore.AsyncNetworkStream:
    """Opens a TCP connection. Raises: httpcore's `ConnectError` or `ConnectTimeout`."""
    loop = asyncio.get_running_loop()
    reader = _Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await loop.create_connection(lambda: protocol, address, port)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout from error
    except (OSError, OverflowError) as error:
        raise httpcore.ConnectError(str(error)) from error
    return AsyncioStream(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
