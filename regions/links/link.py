"""The end that asks: a receiver, or a candidate. One connection is kept for the rows; each report has one of its own, since a
question for rows may wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.ports.replication import LinkLost, LinkRefused
from regions.links.asking import AskingLink, error_of
from regions.links.frames import BrokenLink, FramedConnection, LinkBounds, within
from regions.links.identity import PeerFiles, region_of
from regions.links.messages import Greeting, Message, MessageKind, spoken, why_not_spoken

#: Questions with a connection of their own: one that waits for rows would keep them waiting.
_APART = (MessageKind.ASK_REPORT, MessageKind.ASK_SUMS, MessageKind.ASK_ZONE)


class TlsLink(AskingLink):
    """``address`` is where region ``peer`` answers. ``greeting`` is what this region says of itself. Close it with ``close``."""

    def __init__(
        self,
        peer: str,
        address: tuple[str, int],
        greeting: Greeting,
        files: PeerFiles,
        bounds: LinkBounds | None = None,
    ) -> None:
        super().__init__(self._asked)
        self._peer = peer
        self._address = address
        self._greeting = greeting
        self._files = files
        self._bounds = bounds or LinkBounds()
        self._lock = asyncio.Lock()
        self._kept: FramedConnection | None = None
        self._kept_since = 0.0
        self._number = 0

    @property
    def is_connected(self) -> bool:
        """Whether a connection is kept for the next question."""
        return self._kept is not None

    async def close(self) -> None:
        """Closes the connection that is kept."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.closed()

    async def _asked(self, kind: MessageKind, question: Message, expected: MessageKind) -> Any:
        try:
            if kind in _APART:
                found, message = await self._once(kind, question)
            else:
                async with self._lock:
                    found, message = await self._on_kept(kind, question)
        except BrokenLink as error:
            raise LinkLost(f"Region {self._peer} cannot be reached over the replication link: {error}.") from error
        if found is MessageKind.REFUSED:
            raise error_of(message)
        if found is not expected:
            await self.close()
            raise LinkLost(f"Region {self._peer} answered {expected.name.lower()} with {found.name.lower()}.")
        return message

    async def _once(self, kind: MessageKind, question: Message) -> tuple[MessageKind, Any]:
        connection = await self._connected()
        try:
            return await self._exchange(connection, kind, question)
        finally:
            await connection.closed()

    async def _on_kept(self, kind: MessageKind, question: Message) -> tuple[MessageKind, Any]:
        """The connection is kept after a whole exchange only: what was interrupted leaves an answer on its way."""
        now = asyncio.get_running_loop().time()
        if self._kept is not None and now - self._kept_since > self._bounds.life_s:
            await self.close()
        connection, self._kept = self._kept, None
        if connection is None:
            connection, self._kept_since = await self._connected(), now
        try:
            answered = await self._exchange(connection, kind, question)
        except BaseException:
            await connection.closed()
            raise
        self._kept = connection
        return answered

    async def _exchange(
        self, connection: FramedConnection, kind: MessageKind, question: Message
    ) -> tuple[MessageKind, Any]:
        self._number += 1
        number = self._number
        await connection.send(kind, number, question)
        found, answered, message = await connection.receive(self._bounds.answer_s)
        if answered != number:
            raise BrokenLink(f"an answer to question {answered} instead of {number}")
        return found, message

    async def _connected(self) -> FramedConnection:
        """A connection on which both ends know each other. The files are read each time, so a renewed one is used at once."""
        try:
            tls = self._files.connecting()
        except OSError as error:
            raise BrokenLink(f"this region's certificate files cannot be used: {error}") from error
        opened = asyncio.open_connection(*self._address, ssl=tls)
        reader, writer = await within(self._bounds.connect_s, "connecting", opened)
        connection = FramedConnection(reader, writer, self._bounds)
        try:
            await self._greeted(connection)
        except BaseException:
            await connection.closed()
            raise
        return connection

    async def _greeted(self, connection: FramedConnection) -> None:
        named = region_of(connection.peer_certificate(), self._files.trust_domain)
        if named != self._peer:
            raise LinkRefused(
                f"The address of region {self._peer} is answered by region {named}; mend the addresses of the regions.",
                "wrong_region",
            )
        await connection.send(MessageKind.GREETING, 0, self._greeting)
        try:
            kind, number, theirs = await connection.receive(self._bounds.connect_s)
        except BrokenLink as error:
            # With TLS 1.3 a client learns only now whether its certificate was taken, and often not why.
            raise BrokenLink(f"it did not greet, and may not take this region's certificate ({error})") from error
        if kind is MessageKind.REFUSED:
            raise error_of(theirs)
        if kind is not MessageKind.GREETING or number != 0:
            raise BrokenLink("no greeting came")
        if spoken(self._greeting, theirs) is None:
            raise LinkRefused(why_not_spoken(self._greeting, theirs), "protocol_mismatch")
