"""The end that answers the region's peers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace

from cluster.ports.clock import Clock
from cluster.ports.replication import LinkRefused, ReplicationEnd
from cluster.process.loops import Loops, OnFatal, ended, unwatched
from regions.links.asking import answer
from regions.links.frames import BrokenLink, FramedConnection, LinkBounds, within
from regions.links.identity import PeerFiles, region_of
from regions.links.messages import Greeting, MessageKind, RefusedAnswer, spoken, why_not_spoken

_logger = logging.getLogger(__name__)
#: How often the certificate's files are looked at.
LOOK_S = 1.0


class LinkServer:
    """``ends``: what answers, by the zone that a peer's greeting names. ``peers``: the regions that may ask. A connection answers
    one question at a time, so a peer that applies slowly is sent nothing that it has not asked for."""

    def __init__(
        self,
        ends: Mapping[str, ReplicationEnd],
        greeting: Greeting,
        peers: Collection[str],
        files: PeerFiles,
        clock: Clock,
        bounds: LinkBounds | None = None,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._ends = ends
        self._greeting = greeting
        self._peers = frozenset(peers)
        self._files = files
        self._clock = clock
        self._bounds = bounds or LinkBounds()
        self._loops = Loops(on_fatal)
        self._open: dict[tuple[str, str], list[FramedConnection]] = {}
        self._talks: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._served: object = None

    @property
    def port(self) -> int:
        assert self._listening is not None
        return int(self._listening.getsockname()[1])

    def open_connections(self) -> int:
        """How many connections there are of peers that were admitted."""
        return sum(map(len, self._open.values()))

    async def start(self, host: str, port: int) -> None:
        """Raises: `OSError` if the address is taken, or a file cannot be used."""
        self._listening = socket.create_server((host, port))
        self._listening.setblocking(False)
        try:
            await self._serve()
        except BaseException:
            self._listening.close()
            raise
        self._loops.start(self._renew_forever())

    async def stop(self) -> None:
        """Ends all connections."""
        await self._loops.stop()
        if self._server is not None:
            self._server.close()
        if self._listening is not None:
            self._listening.close()
        await ended(*self._talks)

    async def _serve(self) -> None:
        """Accepts by the files as they are now. The socket stays, so whoever connects meanwhile waits in its queue. New files
        could also be loaded into the context that serves, but an authority that is in them no more would stay."""
        assert self._listening is not None
        state, tls = self._files.state(), self._files.accepting()
        server = await asyncio.start_server(
            self._connected, sock=self._listening.dup(), ssl=tls, ssl_handshake_timeout=self._bounds.connect_s
        )
        if self._server is not None:
            self._server.close()
        self._server, self._served = server, state

    async def _renew_forever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            # Files that do not fit, as while one of two is written, change nothing.
            with suppress(OSError):
                if self._files.state() != self._served:
                    await self._serve()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        connection = FramedConnection(reader, writer, self._bounds)
        # By ``stop``. asyncio would report the cancellation as an error of the callback.
        with suppress(asyncio.CancelledError):
            try:
                await self._talk(connection)
            except BrokenLink as error:
                _logger.info("a replication link ended: %s", error)
            finally:
                await connection.closed()

    async def _talk(self, connection: FramedConnection) -> None:
        kind, number, theirs = await connection.receive(self._bounds.connect_s)
        if kind is not MessageKind.GREETING or number != 0:
            raise BrokenLink("no greeting came")
        try:
            peer = self._admitted(connection, theirs)
        except LinkRefused as error:
            _logger.warning("a region was refused: %s", error)
            await connection.send(MessageKind.REFUSED, 0, RefusedAnswer(code=error.code, message=error.message))
            await _read_to_the_end(connection, self._bounds)
            return
        zone = theirs.zone
        await connection.send(MessageKind.GREETING, 0, replace(self._greeting, zone=zone))
        ends_at = self._clock.now() + 2 * self._bounds.life_s
        opened = self._open.setdefault((peer, zone), [])
        opened.append(connection)
        if len(opened) > self._bounds.connections:
            opened.pop(0).abort()  # the oldest: its other end has most likely gone without a word
        try:
            while self._clock.now() < ends_at:
                kind, number, question = await connection.receive(self._bounds.quiet_s)
                answering = answer(self._ends[zone], peer, kind, question)
                answered, message = await within(self._bounds.answer_s, "answering", answering)
                await connection.send(answered, number, message)
        finally:
            if connection in opened:
                opened.remove(connection)

    def _admitted(self, connection: FramedConnection, theirs: Greeting) -> str:
        peer = region_of(connection.peer_certificate(), self._files.trust_domain)
        if theirs.region != peer:
            raise LinkRefused(
                f"Region {theirs.region} shows the certificate of region {peer}; give each region its own.",
                "wrong_region",
            )
        if spoken(theirs, self._greeting) is None:
            raise LinkRefused(why_not_spoken(theirs, self._greeting), "protocol_mismatch")
        if peer not in self._peers:
            raise LinkRefused(
                f"Region {self._greeting.region} knows no peer {peer}; name {peer} in its configuration.",
                "unknown_region",
            )
        if theirs.zone not in self._ends:
            raise LinkRefused(
                f"Region {self._greeting.region} keeps the log of zone {', '.join(self._ends)} and not of {theirs.zone}; mend "
                "the zones of the regions.",
                "wrong_zone",
            )
        return peer


async def _read_to_the_end(connection: FramedConnection, bounds: LinkBounds) -> None:
    """Until the other end has read the refusal and closes: a socket that is closed at once may take it along."""
    with suppress(BrokenLink):
        await connection.receive(bounds.connect_s)
