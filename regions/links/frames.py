"""Frames on a connection: a head of fixed length, and a body. Every wait is bounded, and so is what a peer makes this end keep.

A connection on which anything goes wrong is given up, never repaired: the receiver says with its next question where it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from regions.links.messages import Message, MessageKind, packed, unpacked

#: Kind, number of the question, length of the body.
_HEAD: Final = struct.Struct("!BII")
_PART: Final = 256 * 1024
#: Bodies that are larger are packed in a thread: a batch of 32 MB takes half a second.
_SMALL: Final = 64 * 1024
_MANY_ROWS: Final = 50
T = TypeVar("T")


class BrokenLink(Exception):
    """The connection is of no use any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBounds:
    """``connect_s``: until the greetings are exchanged. ``stall_s``: while a frame is on its way, so long may nothing move.
    ``answer_s``: from a question to the beginning of its answer; more than the answering end waits for rows. ``quiet_s``: so long
    an answering end keeps a connection on which nothing is asked. ``life_s``: then a new connection is made, and the certificates
    are looked at again. ``connections``: of one peer at one end."""

    connect_s: float = 5.0
    stall_s: float = 10.0
    answer_s: float = 35.0
    quiet_s: float = 120.0
    life_s: float = 3600.0
    frame_bytes: int = 96 * 2**20
    body_bytes: int = 192 * 2**20
    connections: int = 4


async def within(seconds: float, what: str, call: Awaitable[T]) -> T:
    """The result of ``call``. Raises: `BrokenLink` if it takes longer, or the connection breaks."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as error:
        raise BrokenLink(f"{what} took longer than {seconds:g} s") from error
    except (OSError, EOFError) as error:
        raise BrokenLink(f"{what}: {str(error) or type(error).__name__}") from error


class FramedConnection:
    """One connection, of which each end sends one frame at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bounds: LinkBounds) -> None:
        self._reader = reader
        self._writer = writer
        self._bounds = bounds
        # asyncio does so for sockets that say that they are TCP's. Those that `socket.create_server` accepts do not, and the
        # end of each frame then waits for 40 ms until the other end has acknowledged what came before it.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def peer_certificate(self) -> bytes:
        """DER. Raises: `BrokenLink` if there is none."""
        tls = self._writer.get_extra_info("ssl_object")
        try:
            found: bytes | None = tls.getpeercert(binary_form=True)
        except ValueError:  # the connection broke in the moment that it was made
            found = None
        if not found:
            raise BrokenLink("the other end has shown no certificate")
        return found

    async def send(self, kind: MessageKind, number: int, message: Message) -> None:
        """Raises: `BrokenLink` if the peer does not take it."""
        body = await asyncio.to_thread(packed, kind, message) if _is_large(message) else packed(kind, message)
        if len(body) > self._bounds.frame_bytes:
            raise BrokenLink(f"a frame of {len(body)} bytes is longer than frames may be")
        frame = _HEAD.pack(kind, number, len(body)) + body
        for start in range(0, len(frame), _PART):
            self._writer.write(frame[start : start + _PART])
            await within(self._bounds.stall_s, "sending", self._writer.drain())

    async def receive(self, wait_s: float) -> tuple[MessageKind, int, Any]:
        """The next message, of which the first byte comes within ``wait_s``.

        Raises: `BrokenLink` if none comes, or something that is none."""
        first = await within(wait_s, "waiting", self._reader.readexactly(1))
        head = first + await self._part(_HEAD.size - 1)
        kind, number, length = _HEAD.unpack(head)
        try:
            known = MessageKind(kind)
        except ValueError as error:
            raise BrokenLink(f"a frame of an unknown kind, {kind}") from error
        if length > self._bounds.frame_bytes:
            raise BrokenLink(f"a frame of {length} bytes, which is longer than frames may be")
        parts = [await self._part(min(_PART, length - start)) for start in range(0, length, _PART)]
        body = b"".join(parts)
        try:
            if len(body) > _SMALL:
                message = await asyncio.to_thread(unpacked, known, body, self._bounds.body_bytes)
            else:
                message = unpacked(known, body, self._bounds.body_bytes)
        except ValueError as error:
            raise BrokenLink(str(error)) from error
        return known, number, message

    async def _part(self, length: int) -> bytes:
        return await within(self._bounds.stall_s, "receiving", self._reader.readexactly(length))

    def abort(self) -> None:
        """Closes at once: waiting for a peer that reads nothing would keep the socket."""
        self._writer.transport.abort()

    async def closed(self) -> None:
        """Closes, and waits until the socket is closed."""
        self.abort()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


def _is_large(message: Message) -> bool:
    images = getattr(message, "images", ())
    return len(getattr(message, "rows", ())) + sum(len(image.rows) for image in images) > _MANY_ROWS
