"""The link over TLS: what networks do to it, peers that are none, releases that differ, and certificates that change."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.replication.batch import START, Batch, Follower
from cluster.ports.replication import LinkLost, LinkRefused
from cluster.process.clock import ManualClock, SystemClock
from regions.links.frames import FramedConnection, LinkBounds
from regions.links.identity import PeerFiles
from regions.links.messages import MessageKind, packed, unpacked
from regions.links.server import LOOK_S, LinkServer
from tests.support.authorities import LOCAL
from tests.support.links import (
    FAULTS,
    HOLDS,
    PATIENT,
    SHORT,
    ZONE,
    FaultProxy,
    ListEnd,
    ListFollower,
    RegionIssuer,
    greeting,
    linked,
    log_row,
    serving,
)
from tests.support.listening import listening, port_of
from tests.support.probes import eventually

BEGINNING = Follower(position=START, is_whole=True)


@pytest.fixture
def issuer(tmp_path: Path) -> RegionIssuer:
    return RegionIssuer(tmp_path)


async def take_all(follower: ListFollower, link: Any, end: ListEnd) -> None:
    """As a receiver does: whatever is lost is asked for again, from where the follower is."""

    async def has_all() -> bool:
        try:
            await follower.advance(link)
        except LinkLost:
            return False
        return len(follower.rows) == len(end.rows)

    await eventually(has_all)


async def advance_forever(follower: ListFollower, link: Any) -> None:
    while True:
        await follower.advance(link)


@pytest.mark.parametrize(("fault", "after"), list(zip(FAULTS, (3_000, 0, 0, 3_000, 0, 3_000, 0), strict=True)))
async def test_a_fault_is_given_up_by_a_bound_and_rows_go_on(issuer: RegionIssuer, fault: str, after: int) -> None:
    end, follower = ListEnd(), ListFollower()
    end.add(7)
    async with (
        serving(end, issuer.files("east")) as server,
        FaultProxy(server.port).running() as proxy,
        linked(proxy.port, issuer.files("west"), bounds=SHORT) as link,
    ):
        await take_all(follower, link, end)
        end.add(90)
        proxy.begin(fault, after)
        with pytest.raises(LinkLost):
            await asyncio.wait_for(advance_forever(follower, link), 20.0)
        with pytest.raises(LinkLost):
            await asyncio.wait_for(link.report(), 20.0)
        proxy.begin(None)
        await take_all(follower, link, end)
        assert follower.rows == end.rows


async def test_latency_alone_loses_nothing(issuer: RegionIssuer) -> None:
    end, follower = ListEnd(), ListFollower()
    end.add(30)
    async with (
        serving(end, issuer.files("east")) as server,
        FaultProxy(server.port, delay_s=0.02, jitter_s=0.01, bytes_per_s=2e6).running() as proxy,
        linked(proxy.port, issuer.files("west")) as link,
    ):
        while await follower.advance(link):
            pass
        assert (follower.rows, proxy.connections) == (end.rows, 1)


@pytest.mark.parametrize("seed", range(2))
async def test_faults_one_after_the_other_lose_and_double_nothing(issuer: RegionIssuer, seed: int) -> None:
    chance, end, follower = random.Random(seed), ListEnd(), ListFollower()
    end.add(1)
    async with (
        serving(end, issuer.files("east")) as server,
        FaultProxy(server.port).running() as proxy,
        linked(proxy.port, issuer.files("west"), bounds=SHORT) as link,
    ):
        for _ in range(12):
            proxy.begin(chance.choice((*FAULTS, *HOLDS, None)), chance.randint(0, 6_000))
            proxy.slow(chance.choice((0.0, 0.02)))
            end.add(chance.randint(1, 20))
            try:
                await follower.advance(link)
            except LinkLost:
                proxy.begin(None)
        proxy.begin(None)
        await take_all(follower, link, end)
        assert follower.rows == end.rows


async def test_a_peer_that_reads_nothing_is_let_go(issuer: RegionIssuer) -> None:
    """Its socket takes no more, so the answering end waits, with one batch in memory, and then gives it up."""
    end = ListEnd(most=400)
    end.rows = [(*log_row(n)[:-1], os.urandom(2_000).hex()) for n in range(1, 401)]
    files = issuer.files("west")
    async with serving(
        end, issuer.files("east"), bounds=replace(PATIENT, stall_s=0.3, frame_bytes=2**24, body_bytes=2**25)
    ) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=files.connecting(), limit=1_000)
        connection = FramedConnection(reader, writer, PATIENT)
        await connection.send(MessageKind.GREETING, 0, greeting("west"))
        await connection.receive(PATIENT.connect_s)
        for number in range(1, 31):
            await connection.send(MessageKind.ASK_BATCH, number, BEGINNING)
        await eventually(lambda: end.asked)
        await eventually(lambda: not server.open_connections())
        assert len(end.asked) < 30
        await connection.closed()


# --- peers that are none ----------------------------------------------------------------------------------------------


def _expired(issuer: RegionIssuer, other: RegionIssuer) -> PeerFiles:
    return issuer.files("west", ends_in=timedelta(seconds=-5))


def _another_authority(issuer: RegionIssuer, other: RegionIssuer) -> PeerFiles:
    return replace(other.files("west"), authority=issuer.issuer.file(issuer.directory))


def _another_region(issuer: RegionIssuer, other: RegionIssuer) -> PeerFiles:
    return issuer.files("south", name="west")


def _agent(issuer: RegionIssuer, other: RegionIssuer) -> PeerFiles:
    return _with_names(issuer, "spiffe://aragora/agent/west")


def _another_domain(issuer: RegionIssuer, other: RegionIssuer) -> PeerFiles:
    return _with_names(issuer, "spiffe://example/region/west")


def _with_names(issuer: RegionIssuer, uri: str) -> PeerFiles:
    certificate, key = issuer.issued(uri).write(issuer.directory, "odd")
    return PeerFiles(certificate=certificate, key=key, authority=issuer.issuer.file(issuer.directory))


def _no_uri(issuer: RegionIssuer, other: RegionIssuer) -> PeerFiles:
    certificate, key = issuer.issuer.issue(LOCAL, common_name="west").write(issuer.directory, "plain")
    return PeerFiles(certificate=certificate, key=key, authority=issuer.issuer.file(issuer.directory))


ODD_CERTIFICATES = [_expired, _another_authority, _another_region, _agent, _another_domain, _no_uri]


@pytest.mark.parametrize("odd", ODD_CERTIFICATES, ids=lambda make: make.__name__.strip("_"))
async def test_a_peer_with_an_odd_certificate_is_told_nothing(
    issuer: RegionIssuer, tmp_path: Path, odd: Callable[[RegionIssuer, RegionIssuer], PeerFiles]
) -> None:
    end = ListEnd()
    end.add(3)
    other = RegionIssuer(tmp_path / "other")
    async with (
        serving(end, issuer.files("east")) as server,
        linked(server.port, odd(issuer, other)) as link,
    ):
        with pytest.raises((LinkLost, LinkRefused)) as refused:
            await link.batch(BEGINNING)
    assert end.asked == []
    named = refused.value.code == "wrong_region"
    assert named or (odd in (_expired, _another_authority) and "cannot be reached" in str(refused.value))


@pytest.mark.parametrize("odd", ODD_CERTIFICATES, ids=lambda make: make.__name__.strip("_"))
async def test_an_end_with_an_odd_certificate_is_asked_nothing(
    issuer: RegionIssuer, tmp_path: Path, odd: Callable[[RegionIssuer, RegionIssuer], PeerFiles]
) -> None:
    end = ListEnd()
    other = RegionIssuer(tmp_path / "other")
    async with (
        serving(end, odd(issuer, other), says=greeting("west"), peers=("east",)) as server,
        linked(server.port, issuer.files("east"), says=greeting("east"), peer="west") as link,
    ):
        with pytest.raises((LinkLost, LinkRefused)):
            await link.batch(BEGINNING)
    assert end.asked == []


@pytest.mark.parametrize(
    ("says", "peers", "code", "words"),
    [
        ({"region": "south"}, ("west", "south"), "wrong_region", "certificate of region west"),
        ({}, ("south",), "unknown_region", "name west"),
        ({"zone": "eu"}, ("west",), "wrong_zone", "zone test-region and not of eu"),
        ({"oldest": 2, "newest": 3, "release": "9.0"}, ("west",), "protocol_mismatch", "upgrade east"),
        ({"oldest": 0, "newest": 0, "release": "0.1"}, ("west",), "protocol_mismatch", "upgrade west"),
    ],
)
async def test_ends_that_must_not_talk_are_refused_by_name(
    issuer: RegionIssuer, says: dict[str, Any], peers: tuple[str, ...], code: str, words: str
) -> None:
    end = ListEnd()
    async with (
        serving(end, issuer.files("east"), peers=peers) as server,
        linked(server.port, issuer.files("west"), says=greeting("west", **says)) as link,
    ):
        with pytest.raises(LinkRefused, match=words) as refused:
            await link.batch(BEGINNING)
    assert (refused.value.code, end.asked) == (code, [])


@pytest.mark.parametrize(("oldest", "newest"), [(0, 1), (1, 1), (1, 2)])
async def test_releases_with_a_version_in_common_talk(issuer: RegionIssuer, oldest: int, newest: int) -> None:
    end = ListEnd()
    end.add(2)
    async with serving(end, issuer.files("east")) as server:
        says = greeting("west", oldest=oldest, newest=newest)
        async with linked(server.port, issuer.files("west"), says=says) as link:
            assert len((await link.batch(BEGINNING)).rows) == 2


def test_fields_of_a_later_release_are_left_out() -> None:
    body = zlib.compress(b'{"position":{"epoch":1,"seq":2,"digest":"d","new":1},"is_whole":true,"more":[]}')
    found = unpacked(MessageKind.ASK_BATCH, body, 1_000)
    assert (found.position.seq, found.is_whole) == (2, True)


# --- peers that have a certificate and misbehave ----------------------------------------------------------------------

_HEAD = struct.Struct("!BII")
_BATCH = packed(
    MessageKind.BATCH,
    Batch(zone="z", schema_version=1, epoch=1, after=START, rows=(), images=(), images_at=0),
)
#: A whole batch, with blanks after it.
_BOMB = zlib.compress(zlib.decompress(_BATCH) + b" " * 2**23)
#: What an end sends instead of the answer to question 1.
ODD_ANSWERS = {
    "another question's": _HEAD.pack(MessageKind.BATCH, 2, len(_BATCH)) + _BATCH,
    "a replayed one": _HEAD.pack(MessageKind.BATCH, 0, len(_BATCH)) + _BATCH,
    "of another kind": _HEAD.pack(MessageKind.REPORT, 1, len(_BATCH)) + _BATCH,
    "an unknown kind": _HEAD.pack(99, 1, len(_BATCH)) + _BATCH,
    "too long": _HEAD.pack(MessageKind.BATCH, 1, 2**31) + _BATCH,
    "cut": _HEAD.pack(MessageKind.BATCH, 1, len(_BATCH)) + _BATCH[:-4],
    "half a head": _HEAD.pack(MessageKind.BATCH, 1, len(_BATCH))[:4],
    "not compressed": _HEAD.pack(MessageKind.BATCH, 1, 9) + b"x" * 9,
    "more than was packed": _HEAD.pack(MessageKind.BATCH, 1, len(_BATCH) + 3) + _BATCH + b"xyz",
    "a bomb": _HEAD.pack(MessageKind.BATCH, 1, len(_BOMB)) + _BOMB,
    "no JSON": _HEAD.pack(MessageKind.BATCH, 1, len(zlib.compress(b"{"))) + zlib.compress(b"{"),
    "a list": _HEAD.pack(MessageKind.BATCH, 1, len(zlib.compress(b"[]"))) + zlib.compress(b"[]"),
    "another's fields": _HEAD.pack(MessageKind.BATCH, 1, len(zlib.compress(b'{"zone":1}')))
    + zlib.compress(b'{"zone":1}'),
    "nothing": b"",
}
#: These are given up when their time is over, the others for what they are.
NEVER_WHOLE = ("cut", "half a head", "nothing")


@pytest.mark.parametrize("odd", ODD_ANSWERS, ids=lambda name: name.replace(" ", "_"))
async def test_an_answer_that_is_none_ends_the_connection(issuer: RegionIssuer, odd: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = FramedConnection(reader, writer, PATIENT)
        await connection.receive(5.0)
        await connection.send(MessageKind.GREETING, 0, greeting("east"))
        await connection.receive(5.0)
        writer.write(ODD_ANSWERS[odd])
        await writer.drain()
        await reader.read()

    async with listening(talk, issuer.files("east").accepting()) as server:
        bounds = replace(PATIENT, stall_s=0.1, answer_s=0.2) if odd in NEVER_WHOLE else PATIENT
        async with linked(port_of(server), issuer.files("west"), bounds=bounds) as link:
            with pytest.raises(
                LinkLost, match="longer than frames" if odd == "too long" else "cannot be reached|answered"
            ):
                await link.batch(BEGINNING)
            assert not link.is_connected


async def test_an_end_outlives_what_a_peer_sends_and_answers_the_next(issuer: RegionIssuer) -> None:
    end, files = ListEnd(), issuer.files("west")
    end.add(1)
    async with serving(end, issuer.files("east")) as server:
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", *ODD_ANSWERS.values()):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=files.connecting())
            connection = FramedConnection(reader, writer, PATIENT)
            await connection.send(MessageKind.GREETING, 0, greeting("west"))
            await connection.receive(5.0)
            writer.write(rubbish)
            writer.write_eof() if writer.can_write_eof() else None
            await connection.closed()
        await eventually(lambda: not server.open_connections())
        async with linked(server.port, files) as link:
            assert len((await link.batch(BEGINNING)).rows) == 1


async def test_a_listener_answers_for_each_zone_that_it_keeps(issuer: RegionIssuer) -> None:
    ours, theirs = ListEnd([log_row(1)]), ListEnd([log_row(1), log_row(2)])
    server = LinkServer(
        {ZONE: ours, "eu": theirs}, greeting("east"), ("west",), issuer.files("east"), SystemClock(), PATIENT
    )
    await server.start("127.0.0.1", 0)
    files = issuer.files("west")
    try:
        async with (
            linked(server.port, files) as link,
            linked(server.port, files, says=greeting("west", zone="eu")) as other,
        ):
            assert len((await link.batch(BEGINNING)).rows) == 1
            assert len((await other.batch(BEGINNING)).rows) == 2
            assert len((await link.batch(BEGINNING)).rows) == 1
        async with linked(server.port, files, says=greeting("west", zone="us")) as neither:
            with pytest.raises(LinkRefused) as refused:
                await neither.batch(BEGINNING)
        assert "zone test-region, eu and not of us" in refused.value.message
    finally:
        await server.stop()


async def test_the_oldest_of_too_many_connections_of_a_peer_is_closed(issuer: RegionIssuer) -> None:
    end, files = ListEnd(), issuer.files("west")
    end.add(1)
    async with serving(end, issuer.files("east")) as server:
        opened = []
        for _ in range(PATIENT.connections + 2):
            link = linked(server.port, files)
            entered = await link.__aenter__()
            await entered.batch(BEGINNING)
            opened.append((link, entered))
        await eventually(lambda: server.open_connections() == PATIENT.connections)
        with pytest.raises(LinkLost):
            await opened[0][1].batch(BEGINNING)
        assert len((await opened[-1][1].batch(BEGINNING)).rows) == 1
        for link, _ in opened:
            await link.__aexit__(None, None, None)


async def test_no_frame_waits_until_an_earlier_one_is_acknowledged(issuer: RegionIssuer) -> None:
    """With Nagle's algorithm a small frame waits for 40 ms, which in sync mode each answer would."""
    end, files = ListEnd(), issuer.files("west")
    end.add(1)
    async with serving(end, issuer.files("east")) as server, linked(server.port, files) as link:
        await link.batch(BEGINNING)
        kept, opened = link._kept, [connection for found in server._open.values() for connection in found]
        assert kept is not None
        assert len(opened) == 1
        for connection in (kept, *opened):
            sock = connection._writer.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- certificates that change -----------------------------------------------------------------------------------------


async def test_changed_files_are_used_for_new_connections(issuer: RegionIssuer, tmp_path: Path) -> None:
    """Also an authority that is taken away: whom it issued is not let in any more."""
    end, clock = ListEnd(), ManualClock()
    end.add(1)
    east = issuer.files("east")
    server = LinkServer({ZONE: end}, greeting("east"), ("west",), east, clock, PATIENT)
    await server.start("127.0.0.1", 0)
    old = issuer.files("west")
    async with linked(server.port, old) as link:
        await link.batch(BEGINNING)
        other = RegionIssuer(tmp_path / "new")
        renewed = other.files("east")
        for before, after in ((east.authority, renewed.authority), (east.key, renewed.key)):
            os.replace(after, before)
        await clock.advance(LOOK_S)  # key and certificate do not fit: nothing changes
        async with linked(server.port, replace(old, authority=issuer.issuer.file(tmp_path / "kept"))) as again:
            await again.batch(BEGINNING)
        os.replace(renewed.certificate, east.certificate)
        await clock.advance(LOOK_S)
        await link.batch(BEGINNING)  # a connection lives on
        async with linked(server.port, other.files("west")) as known:
            assert len((await known.batch(BEGINNING)).rows) == 1
        async with linked(server.port, replace(old, authority=other.issuer.file(tmp_path / "new"))) as unknown:
            with pytest.raises(LinkLost, match="may not take this region's certificate"):
                await unknown.batch(BEGINNING)
    await server.stop()


async def test_a_connection_is_made_anew_at_the_end_of_its_life(issuer: RegionIssuer) -> None:
    end = ListEnd()
    end.add(1)
    files = issuer.files("west")
    async with (
        serving(end, issuer.files("east")) as server,
        FaultProxy(server.port).running() as proxy,
        linked(proxy.port, files, bounds=replace(PATIENT, life_s=0.0)) as link,
    ):
        for _ in range(3):
            await link.batch(BEGINNING)
    assert proxy.connections == 3


def test_older_tls_is_not_spoken(issuer: RegionIssuer) -> None:
    files = issuer.files("east")
    assert files.accepting().minimum_version is ssl.TLSVersion.TLSv1_3
    assert files.connecting().verify_mode is files.accepting().verify_mode is ssl.CERT_REQUIRED


def test_the_default_bounds_fit_together() -> None:
    bounds = LinkBounds()
    assert bounds.connect_s < bounds.answer_s < bounds.quiet_s < bounds.life_s
    assert bounds.frame_bytes < bounds.body_bytes
