"""TLS at the front, with the real HAProxy and the configuration that the pinned Ray writes."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import websockets

from cluster.process import front as fronts
from cluster.process import haproxy
from cluster.process.front import FrontTls
from tests.support.authorities import Issued, Issuer
from tests.support.fronts import PROOF, Front
from tests.support.listening import listening, port_of
from tests.support.probes import eventually

HEAD_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "


@dataclass
class Secure:
    """A front with certificates of the authority ``issuer``, which is also that of clients."""

    front: Front
    issuer: Issuer
    files: Path

    def trusting(self, own: Issued | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.issuer.own().der)
        if own is not None:
            context.load_cert_chain(*own.write(self.files, "client"))
        return context

    async def get(self, path: str = "/x", own: Issued | None = None, *headers: str) -> tuple[int, dict[str, str]]:
        """The status, and the headers that the replica got."""
        context = self.trusting(own)
        status, body = await asyncio.wait_for(_get(self.front.port, context, path, headers), 20)
        return status, json.loads(body)


async def _get(port: int, context: ssl.SSLContext, path: str, headers: tuple[str, ...]) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    lines = "".join(f"{header}\r\n" for header in headers)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{lines}\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A replica that answers with the headers that it got."""
    while head := (await reader.readuntil(b"\r\n\r\n")).decode():
        lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
        body = json.dumps({name: value.strip() for name, _, value in lines}).encode()
        writer.write(HEAD_OK + str(len(body)).encode() + b"\r\n\r\n" + body)
        if lines and "GET /-/" in head:
            break
    writer.close()


@pytest.fixture
async def secure() -> AsyncIterator[Secure]:
    with tempfile.TemporaryDirectory(prefix="hap-") as directory:
        files = Path(directory) / "files"
        issuer = Issuer()
        certificate, key = issuer.issue().write(files, "server")
        front = Front(Path(directory), tls=FrontTls(certificate, key, issuer.file(files)))
        async with listening(_tolerant) as replica:
            front.write(port_of(replica))
            front.start()
            found = Secure(front, issuer, files)
            try:
                await eventually(lambda: _serves(found), 20, what="HAProxy")
                yield found
            except AssertionError:
                print((front.directory / "words").read_text())
                raise
            finally:
                front.close()


async def _tolerant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await echo(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serves(secure: Secure) -> bool:
    try:
        return (await secure.get())[0] == 200
    except OSError:
        return False


async def test_the_replica_learns_whose_call_it_is(secure: Secure) -> None:
    _, without = await secure.get()
    assert (without[fronts.PROOF], without[fronts.ADDRESS]) == (PROOF, "127.0.0.1")
    assert fronts.CERTIFICATE not in without
    own = secure.issuer.agent("a-1")
    _, with_it = await secure.get("/x", own)
    assert base64.b64decode(with_it[fronts.CERTIFICATE]) == own.der


async def test_a_resumed_session_still_shows_its_certificate(secure: Secure) -> None:
    own = secure.issuer.agent("a-1")
    context = secure.trusting(own)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # its tickets come with the handshake
    seen = await asyncio.to_thread(_twice, secure.front.port, context)
    assert [base64.b64decode(certificate) for certificate in seen] == [own.der] * 2


def _twice(port: int, context: ssl.SSLContext) -> list[str]:
    import socket

    found, session = [], None
    for again in (False, True):
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
        ):
            assert connection.session_reused is again
            connection.sendall(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
            session = connection.session
            found.append(json.loads(answer.partition(b"\r\n\r\n")[2])[fronts.CERTIFICATE])
    return found


@pytest.mark.parametrize(
    "name", [fronts.PROOF, fronts.ADDRESS, fronts.CERTIFICATE, "X-Aragora-Front-Certificate", "x-aragora-front-other"]
)
async def test_what_a_caller_forges_does_not_come_through(secure: Secure, name: str) -> None:
    _, heard = await secure.get("/x", None, f"{name}: forged", f"{name}: again", "X-Aragora-Workspace: w")
    assert "forged" not in json.dumps(heard)
    assert "again" not in json.dumps(heard)
    assert heard["x-aragora-workspace"] == "w"
    assert heard[fronts.PROOF] == PROOF


@pytest.mark.parametrize(
    "path", ["/-/healthz", "/-/routes", "/-/", "/%2d/healthz", "/-%2Fhealthz", "/%2D%2fhealthz", "/-/HEALTHZ"]
)
async def test_paths_of_serve_itself_are_not_for_callers(secure: Secure, path: str) -> None:
    status, body = await secure.get(path)
    assert (status, body["code"]) == (404, "not_found")


async def test_http2_is_offered_and_websockets_come_through(secure: Secure) -> None:
    context = secure.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", secure.front.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.close()

    async def repeat(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    def is_well(connection: websockets.ServerConnection, request: websockets.Request) -> websockets.Response | None:
        return connection.respond(200, "well") if request.path == "/-/healthz" else None

    async with websockets.serve(repeat, "127.0.0.1", 0, process_request=is_well) as replica:
        secure.front.write(replica.sockets[0].getsockname()[1])
        secure.front.start("-sf", str(secure.front.processes[-1].pid))
        await asyncio.to_thread(secure.front.processes[0].wait, 20)
        url = f"wss://127.0.0.1:{secure.front.port}/ws"
        async with websockets.connect(url, ssl=secure.trusting(), proxy=None) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"


@pytest.mark.parametrize(
    ("version", "is_served"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tls_older_than_1_2_is_refused(secure: Secure, version: ssl.TLSVersion, is_served: bool) -> None:
    context = secure.trusting()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this client offers no 1.1 at all
    context.minimum_version = context.maximum_version = version
    if is_served:
        assert (await _get(secure.front.port, context, "/x", ()))[0] == 200
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
            await _get(secure.front.port, context, "/x", ())


@pytest.mark.parametrize("odd", ["of another authority", "expired"])
async def test_a_bad_client_certificate_is_refused_at_the_handshake(secure: Secure, odd: str) -> None:
    expired = secure.issuer.issue(ends_in=timedelta(hours=-1))
    own = Issuer("Another authority").agent("a-1") if odd != "expired" else expired
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)alert|reset"):
        await _get(secure.front.port, secure.trusting(own), "/x", ())


async def test_a_renewed_certificate_is_served_and_an_open_stream_stays(secure: Secure) -> None:
    front, tls = secure.front, secure.front.tls
    assert tls is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=secure.trusting())
    first = await _shown(secure)
    renewed = secure.issuer.issue()
    renewed.write(secure.files, "server")

    async def is_served() -> bool:
        return await _shown(secure) == renewed.der

    await eventually(is_served, 20, what="the renewed certificate")
    assert first != renewed.der
    writer.write(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_pair_that_does_not_fit_keeps_the_old_one(secure: Secure) -> None:
    first = await _shown(secure)
    foreign = secure.issuer.issue()
    foreign.write(secure.files, "other")
    (secure.files / "server.key").write_bytes((secure.files / "other.key").read_bytes())
    problem = secure.front.directory / fronts.PROBLEM
    await eventually(problem.exists, 20, what="the sentence")
    assert await _shown(secure) == first
    assert "keeps its certificates" in (secure.front.directory / "words").read_text()
    # The next HAProxy keeps it too.
    secure.front.start("-sf", str(secure.front.processes[-1].pid))
    await asyncio.to_thread(secure.front.processes[0].wait, 20)
    assert await _shown(secure) == first
    foreign.write(secure.files, "server")
    await eventually(lambda: not problem.exists(), 20, what="the end of the problem")
    assert await _shown(secure) == foreign.der


async def test_an_authority_that_was_taken_away_is_trusted_no_longer(secure: Secure) -> None:
    own = secure.issuer.agent("a-1")
    assert (await secure.get("/x", own))[0] == 200
    another = Issuer("Another authority")
    server_authority = secure.trusting()
    another.file(secure.files)  # where the front's setting points
    server_authority.load_cert_chain(*own.write(secure.files, "client"))

    async def is_refused() -> bool:
        try:
            await _get(secure.front.port, server_authority, "/x", ())
        except (ssl.SSLError, ConnectionError):
            return True
        return False

    await eventually(is_refused, 20, what="a refusal")


async def _shown(secure: Secure) -> bytes:
    """The certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", secure.front.port, ssl=secure.trusting())
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(shown, bytes)
    return shown


@pytest.fixture
def written() -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(prefix="hap-") as directory:
        front = Front(Path(directory))
        front.write(1)
        yield (front.directory / "haproxy.cfg").read_text(), front.directory


@pytest.mark.parametrize("part", ["frontend http_frontend", "stats socket", "listen stats"])
def test_a_template_of_another_form_is_not_started_with(written: tuple[str, Path], part: str) -> None:
    text, directory = written
    tls = FrontTls("/c", "/k", "/a")
    found = haproxy.corrected(text, directory, "127.0.0.1", 1, tls)
    assert len(re.findall(r"(?m)^ *bind \S+ ssl crt \S+ ca-file \S+ verify optional alpn", found)) == 1
    with pytest.raises(haproxy.OtherTemplate):
        haproxy.corrected(text.replace(part, part + " renamed"), directory, "127.0.0.1", 1, tls)
