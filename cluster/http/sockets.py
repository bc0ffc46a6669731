"""Network streams for httpcore, directly over asyncio. Its own streams, through anyio, cost a call more than HTTP does."""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import Any

import httpcore

from cluster.domain.base.json_values import MAX_BYTES

#: Bytes of an answer's head, with all interim answers (1xx) before it; and of a whole answer, with what frames its chunks. The
#: parser bounds each event, and not how many there are.
MAX_HEAD_BYTES = 200_000
MAX_WIRE_BYTES = 2 * MAX_BYTES + MAX_HEAD_BYTES
#: How much of a head is parsed at a time. The parser takes everything that was read without letting others run, and a head may
#: be thousands of tiny answers.
HEAD_PART_BYTES = 4096


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

    def set_exception(self, exc: Exception) -> None:
        """Called when the connection breaks. An answer that has arrived can still be read: a server may answer before it has read
        the whole request, and what it does not read makes its end of the connection a reset."""
        if self.unread:
            self.feed_eof()
        else:
            super().set_exception(exc)


class AsyncioStream(httpcore.AsyncNetworkStream):
    """One connection. An answer begins after whatever was written last. ``most_bytes``: of an answer with its framing; None: any
    number."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter, most_bytes: int | None = MAX_WIRE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._reader = reader
        self._writer = writer
        #: Of the answer that is read: its bytes so far, and whether they are its head's.
        self._answer_bytes = 0
        self._in_head = True

    def body_begins(self) -> None:
        """Says that the head of the answer has been read."""
        self._in_head = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what has arrived, and lets others run before. Raises: httpcore's `ReadTimeout` or `ReadError`, or its
        `RemoteProtocolError` if the answer has more bytes than one may have."""
        if self._answer_bytes:
            await asyncio.sleep(0)  # what has arrived already is read without a wait
        try:
            async with asyncio.timeout(timeout):
                data = await self._reader.read(min(max_bytes, HEAD_PART_BYTES) if self._in_head else max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        self._answer_bytes += len(data)
        if self._in_head and self._answer_bytes > MAX_HEAD_BYTES:
            raise httpcore.RemoteProtocolError(f"its head has more than {MAX_HEAD_BYTES} bytes")
        if self._most_bytes is not None and self._answer_bytes > self._most_bytes:
            raise httpcore.RemoteProtocolError(f"it has more than {self._most_bytes} bytes with its framing")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes, and waits only if the peer does not read fast enough. Raises: httpcore's `WriteTimeout` or `WriteError`."""
        if not buffer:
            return
        self._answer_bytes, self._in_head = 0, True
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


async def connect(
    address: str, port: int, timeout: float | None, most_bytes: int | None = MAX_WIRE_BYTES
) -> httpcore.AsyncNetworkStream:
    """Opens a TCP connection. ``most_bytes``: of an answer. Raises: httpcore's `ConnectError` or `ConnectTimeout`."""
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
    return AsyncioStream(reader, asyncio.StreamWriter(transport, protocol, reader, loop), most_bytes)
