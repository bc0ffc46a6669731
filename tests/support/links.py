"""Links between regions in a test: the adapter in memory, a sending end that is a list, and a proxy with a network's faults."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509

from cluster.domain.replication.batch import (
    START,
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogPosition,
    LogRange,
    LogSums,
    PeerReport,
    Refusal,
    ReplicationRefused,
    TextRow,
    position_of,
)
from cluster.domain.replication.tables import LOG
from cluster.ports.replication import LinkLost, ReplicationEnd
from cluster.process.clock import SystemClock
from regions.links.asking import AskingLink, answer, error_of
from regions.links.frames import LinkBounds
from regions.links.identity import PeerFiles
from regions.links.link import TlsLink
from regions.links.messages import Greeting, Message, MessageKind, packed, unpacked
from regions.links.server import LinkServer
from regions.replication.source import ReplicationSource
from tests.support.authorities import Issued, Issuer
from tests.support.listening import listening, port_of
from tests.support.replicating import RESIDENCY

ZONE = "test-region"
#: For a busy machine; bodies are small.
PATIENT = LinkBounds(connect_s=15.0, stall_s=15.0, answer_s=20.0, quiet_s=60.0, frame_bytes=2**20, body_bytes=2**21)
#: Short, so that what never comes is given up at once. A test that uses it tries again.
SHORT = replace(PATIENT, connect_s=0.4, stall_s=0.2, answer_s=0.4)


class MemoryLink(AskingLink):
    """Asks an end in this process. Messages are packed and unpacked all the same. ``up`` may be taken away."""

    def __init__(self, end: ReplicationEnd, peer: str) -> None:
        super().__init__(self._asked)
        self._end = end
        self._peer = peer
        self.up = True

    async def _asked(self, kind: MessageKind, question: Message, expected: MessageKind) -> Any:
        if not self.up:
            raise LinkLost("The link is cut.")
        arrived = unpacked(kind, packed(kind, question), PATIENT.body_bytes)
        found, message = await answer(self._end, self._peer, kind, arrived)
        arrived = unpacked(found, packed(found, message), LinkBounds().body_bytes)
        if not self.up:
            raise LinkLost("The link was cut.")
        if found is MessageKind.REFUSED:
            raise error_of(arrived)
        assert found is expected
        return arrived


class SourceEnd:
    """A database's own source, without a shell; it answers whoever asks."""

    def __init__(self, source: ReplicationSource) -> None:
        self._source = source
        self.asked_by: set[str] = set()

    async def batch(self, peer: str, follower: Follower) -> Batch:
        self.asked_by.add(peer)
        return await self._source.batch(follower.position, RESIDENCY)

    async def tail(self, peer: str) -> CopyBeginning:
        return await self._source.tail()

    async def piece(self, peer: str, progress: CopyProgress) -> CopyPiece:
        return await self._source.piece(progress, RESIDENCY)

    async def report(self, peer: str) -> PeerReport:
        return PeerReport(epoch=3, version=4, position=(await self._source.tail()).tail, is_whole=True)


def log_row(seq: int, epoch: int = 1) -> TextRow:
    values: dict[str, str | None] = dict.fromkeys(LOG.columns)
    values |= {"seq": str(seq), "epoch": str(epoch), "digest": f"\\x{seq:04x}", "kind": "system.test", "data": "{}"}
    return tuple(values.values())


@dataclass
class ListEnd:
    """The sending end of a log that is a list. ``waits_s``: how long it waits when there is nothing new."""

    rows: list[TextRow] = field(default_factory=list)
    most: int = 7
    waits_s: float = 0.0
    watermark: int = 0
    asked: list[Follower] = field(default_factory=list)
    heirs: list[str] = field(default_factory=list)

    def add(self, count: int) -> None:
        self.rows += [log_row(len(self.rows) + n) for n in range(1, count + 1)]

    async def batch(self, peer: str, follower: Follower) -> Batch:
        self.asked.append(follower)
        after = follower.position
        if after != START and (after.seq > len(self.rows) or position_of(self.rows[after.seq - 1]) != after):
            raise ReplicationRefused(Refusal.FORK)
        if after.seq == len(self.rows):
            await asyncio.sleep(self.waits_s)
        rows = tuple(self.rows[after.seq : after.seq + self.most])
        batch = Batch(zone=ZONE, schema_version=1, epoch=1, after=after, rows=rows, images=(), images_at=len(self.rows))
        return replace(batch, watermark=self.watermark)

    async def tail(self, peer: str) -> CopyBeginning:
        return CopyBeginning(zone=ZONE, schema_version=1, epoch=1, tail=position_of(self.rows[-1]))

    async def piece(self, peer: str, progress: CopyProgress) -> CopyPiece:
        raise ReplicationRefused(Refusal.NOT_COPYING)

    async def sums(self, peer: str, of: LogRange) -> LogSums:
        return LogSums(count=len(self.rows[of.after : of.upto]), digest=f"of {peer}", surplus=2)

    async def hand_over(self, peer: str) -> None:
        if not self.rows:
            raise ReplicationRefused(Refusal.NOT_PRIMARY)
        self.heirs.append(peer)

    async def report(self, peer: str) -> PeerReport:
        return PeerReport(epoch=1, version=1, position=position_of(self.rows[-1]), is_whole=True)


@dataclass
class ListFollower:
    """Takes all rows of a `ListEnd`, and remembers them in order."""

    rows: list[TextRow] = field(default_factory=list)

    @property
    def position(self) -> LogPosition:
        return position_of(self.rows[-1]) if self.rows else START

    async def advance(self, link: AskingLink) -> int:
        batch = await link.batch(Follower(position=self.position, is_whole=True))
        assert batch.after == self.position
        self.rows += batch.rows
        return len(batch.rows)


# --- real ends --------------------------------------------------------------------------------------------------------


@dataclass
class RegionIssuer:
    """An authority of regions, and a directory for its files."""

    directory: Path
    issuer: Issuer = field(default_factory=Issuer)

    def issued(self, uri: str, **options: Any) -> Issued:
        return self.issuer.issue([x509.UniformResourceIdentifier(uri)], **options)

    def files(self, region: str, *, name: str = "", **options: Any) -> PeerFiles:
        issued = self.issued(f"spiffe://aragora/region/{region}", **options)
        certificate, key = issued.write(self.directory, name or region)
        return PeerFiles(certificate=certificate, key=key, authority=self.issuer.file(self.directory))


def greeting(name: str, **changes: Any) -> Greeting:
    return replace(Greeting(region=name, zone=ZONE, release="1.0", oldest=1, newest=1), **changes)


@asynccontextmanager
async def serving(
    end: ReplicationEnd,
    files: PeerFiles,
    *,
    says: Greeting | None = None,
    peers: Collection[str] = ("west",),
    bounds: LinkBounds = PATIENT,
) -> AsyncIterator[LinkServer]:
    says = says or greeting("east")
    server = LinkServer({says.zone: end}, says, peers, files, SystemClock(), bounds)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def linked(
    port: int, files: PeerFiles, *, says: Greeting | None = None, peer: str = "east", bounds: LinkBounds = PATIENT
) -> AsyncIterator[TlsLink]:
    link = TlsLink(peer, ("127.0.0.1", port), says or greeting("west"), files, bounds)
    try:
        yield link
    finally:
        await link.close()


# --- the network ------------------------------------------------------------------------------------------------------

#: Ends a connection with RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class FaultProxy:
    """``fault`` is what it does from now on, also to connections that are open: None, or one of `FAULTS` and `HOLDS`. ``after``:
    it begins when so many bytes of the answering end have passed. Both ways, what passes comes ``delay_s`` later, and up to
    ``jitter_s`` more, and no faster than ``bytes_per_s``, if that is set."""

    target: int
    fault: str | None = None
    after: int = 0
    passed: int = 0
    port: int = 0
    connections: int = 0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultProxy]:
        async with listening(self._connected) as server:
            self.port = port_of(server)
            yield self

    def begin(self, fault: str | None, after: int = 0) -> None:
        self.fault, self.after, self.passed = fault, after, 0
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def slow(self, delay_s: float = 0.0, jitter_s: float = 0.0, bytes_per_s: float | None = None) -> None:
        self.delay_s, self.jitter_s, self.bytes_per_s = delay_s, jitter_s, bytes_per_s

    def heal(self) -> None:
        """What was held goes on its way; connections that a fault has broken stay so."""
        self.slow()
        self.begin(None)

    @property
    def active(self) -> str | None:
        return self.fault if self.passed >= self.after else None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.active == "reset":
            _reset(writer)
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)  # as the target's machine does where nobody listens
            return
        try:
            await asyncio.gather(self._pump(reader, back, "asks"), self._pump(there, writer, "answers"))
        finally:
            back.transport.abort()
            writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str) -> None:
        while data := await _read(source):
            if way == "answers":
                left, self.passed = max(0, self.after - self.passed), self.passed + len(data)
                await self._pass(data[:left], sink, None, way)
                data = data[left:]
            await self._held(way)
            if data and not await self._pass(data, sink, self.active, way):
                break
        await self._held(way)  # nor is an end handed on
        with contextlib.suppress(OSError):
            if self.fault in ("half open", "blackhole"):
                await asyncio.Event().wait()  # the end is not handed on
            sink.transport.abort()

    async def _held(self, way: str) -> None:
        """Returns when the network lets through what goes this way."""
        while self.active in ("hold", f"hold {way}"):
            await self._changed.wait()

    async def _pass(self, data: bytes, sink: asyncio.StreamWriter, fault: str | None, way: str) -> bool:
        """False ends the connection."""
        if fault == "half open":
            if way == "asks":
                sink.transport.abort()  # the answering end is told that it is over; the other one never is
            return True
        if fault == "blackhole" or (fault == "one way" and way == "answers"):
            return True
        if fault == "cut":
            sink.write(data[: len(data) // 2])
            return False
        if fault == "reset":
            _reset(sink)
            return False
        if fault == "garbage":
            data = bytes(255 - byte for byte in data)
        if fault == "replay" and way == "answers":
            data = data + data
        wait_s = self.delay_s + self.jitter_s * self.chance.random()
        if self.bytes_per_s is not None:
            wait_s += len(data) / self.bytes_per_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        sink.write(data)
        with contextlib.suppress(OSError):
            await sink.drain()
        return True


#: What breaks a connection for good.
FAULTS = ("cut", "blackhole", "one way", "half open", "reset", "garbage", "replay")
#: What arrives when it is over, as after a partition in which both ends repeat what is lost: late, and whole.
HOLDS = ("hold", "hold asks", "hold answers")


async def _read(source: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(OSError):
        return await source.read(65_536)
    return b""


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
