"""The pool of connections to agents: what is kept, what is closed, and what a call finds at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.domain.base.errors import AgentMalformed, AgentTimeout, AgentUnavailable, EndpointForbidden
from cluster.http.addresses import MAX_ANSWER_BYTES, PinnedBackend, resolve
from cluster.http.connections import ConnectionPool
from cluster.http.sending import HttpAnswer, send
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import serving
from tests.support.listening import listening, port_of
from tests.support.loop_clock import pass_time
from tests.support.probes import eventually

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Counts connections; ``then`` says what follows an answer: the next request, or the end of the connection."""

    def __init__(self, then: str = "next") -> None:
        self.then = then
        self.opened = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.requests: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                writer.write(ANSWER)
                await writer.drain()
                if self.then == "close":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open.discard(writer)
            writer.close()


@contextlib.asynccontextmanager
async def url_of(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    scheme = "http" if tls is None else "https"
    async with listening(server.talk, tls) as listener:
        yield f"{scheme}://127.0.0.1:{port_of(listener)}/x"


def pool(size: int = 2, tls: ssl.SSLContext | None = None, kept: int = 500) -> ConnectionPool:
    backend = PinnedBackend(LOOPBACK, resolve)
    return ConnectionPool(size=size, tls=tls or ssl.create_default_context(), backend=backend, kept=kept)


async def get(connections: ConnectionPool, url: str) -> HttpAnswer:
    return await send(connections, 5.0, "GET", url, {}, None)


async def test_calls_that_follow_each_other_share_a_connection() -> None:
    server, ours = Server(), pool()
    async with url_of(server) as url:
        for _ in range(5):
            assert (await get(ours, url)).content == b"{}"
        assert server.opened == 1
        await ours.aclose()
        await eventually(lambda: not server.open)


async def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    server, ours = Server("close"), pool()
    async with url_of(server) as url:
        for number in range(1, 4):
            assert (await get(ours, url)).status == 200
            await eventually(lambda: not server.open)
            assert server.opened == number
        await ours.aclose()


async def test_a_connection_with_unrequested_bytes_is_not_used_again() -> None:
    server, other, ours, theirs = Server(), Server(), pool(), pool()
    async with url_of(server) as url, url_of(other) as elsewhere:
        await get(ours, url)
        (said,) = server.open
        said.write(b"?")
        await get(theirs, elsewhere)  # by now the byte has arrived, and been taken from the socket
        assert (await get(ours, url)).content == b"{}"
        assert server.opened == 2
        await ours.aclose()
        await theirs.aclose()


async def test_an_answer_behind_another_is_not_that_of_the_next_call() -> None:
    """It comes in one piece with the first, so the parser has it before the connection is idle."""
    answered = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                answered += 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % answered + ANSWER)
        writer.close()

    ours = pool()
    async with listening(talk) as server:
        url = f"http://127.0.0.1:{port_of(server)}/"
        assert [(await get(ours, url)).content for _ in range(3)] == [b"1", b"2", b"3"]
        await ours.aclose()


@pytest.mark.parametrize("status", [200, 413])
async def test_an_answer_that_comes_before_the_request_was_read_is_read(status: int) -> None:
    """What the server leaves unread makes its end of the connection a reset, and the rest of the request fails."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d So\r\ncontent-length: 2\r\n\r\n{}" % status)
        writer.close()

    ours = pool()
    async with listening(talk) as server:
        url = f"http://127.0.0.1:{port_of(server)}/"
        answer = await send(ours, 5.0, "POST", url, {}, b"x" * 16_000_000)
        assert (answer.status, answer.content) == (status, b"{}")
        await ours.aclose()


async def test_a_pool_that_was_closed_keeps_no_connection_that_comes_back() -> None:
    server, ours = Server(), pool()
    async with url_of(server) as url:
        response = await ours.handle_async_request(httpcore.Request("GET", url, headers={"host": "agent"}))
        await ours.aclose()
        assert server.open
        assert await response.aread() == b"{}"
        await response.aclose()
        await eventually(lambda: not server.open)


async def test_the_connection_idle_for_longest_makes_room_for_another_server() -> None:
    servers, ours = [Server() for _ in range(3)], pool(kept=2)
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(url_of(server)) for server in servers]
        for url in (urls[0], urls[1], urls[0], urls[2]):
            await get(ours, url)
        await eventually(lambda: [len(server.open) for server in servers] == [1, 0, 1])
        await get(ours, urls[0])
        assert [server.opened for server in servers] == [1, 1, 1]
        await ours.aclose()


async def test_a_server_that_hangs_keeps_no_other_server_waiting() -> None:
    hangs, gate = Server(), asyncio.Event()

    async def wait(request: Any) -> httpx.Response:
        await gate.wait()
        return httpx.Response(200)

    async with serving(wait) as stuck, url_of(hangs) as url:
        ours = pool(size=2)
        calls = [asyncio.ensure_future(get(ours, stuck)) for _ in range(6)]
        await eventually(lambda: sum(room.calls for room in ours._rooms.values()) == 6)
        assert (await get(ours, url)).content == b"{}"
        assert not any(call.done() for call in calls)
        gate.set()
        assert [(await call).status for call in calls] == [200] * 6
        assert not ours._rooms, "a server that is not called any more is forgotten"
        await ours.aclose()


async def _dripping() -> AsyncIterator[bytes]:
    while True:
        yield b": still here\n\n"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("over_httpx", [False, True], ids=["ours", "httpx"])
async def test_an_answer_that_drips_ends_when_its_time_is_over(over_httpx: bool) -> None:
    async with serving(lambda request: _dripping()) as url:
        ours = transports(LOOPBACK, timeout_s=0.4)
        if over_httpx:
            with pytest.raises(httpx.ReadTimeout):
                await ours.client.get(url)
        else:
            with pytest.raises(AgentTimeout, match=r"0\.4 s"):
                await ours.ask(question(url, timeout_s=60.0))
        await ours.close()


async def test_a_call_that_waits_for_others_is_given_its_whole_time() -> None:
    gate, asked = asyncio.Event(), list[str]()

    async def answer(request: Any) -> httpx.Response:
        asked.append(request.url.path)
        await gate.wait()
        return httpx.Response(200, json={})

    async with serving(answer) as url:
        ours = pool(size=1)
        first = asyncio.ensure_future(send(ours, 60.0, "GET", f"{url}/1", {}, None))
        await eventually(lambda: asked == ["/1"])
        second = asyncio.ensure_future(send(ours, 30.0, "GET", f"{url}/2", {}, None))
        await eventually(lambda: len(next(iter(ours._rooms.values())).slots._waiters or ()) == 1)
        pass_time(40.0)
        for _ in range(20):  # turns of the loop, in which a time that is over ends its call
            await asyncio.sleep(0)
        assert not second.done()
        gate.set()
        assert [(await call).status for call in (first, second)] == [200, 200]
        await ours.aclose()


async def test_a_cancelled_call_frees_its_slot_and_closes_its_connection() -> None:
    gate, ours = asyncio.Event(), pool(size=1)

    async def answer(request: Any) -> httpx.Response:
        if request.url.path == "/slow":
            await gate.wait()
        return httpx.Response(200, json={"path": request.url.path})

    async with serving(answer) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await get(ours, f"{url}/slow")
        gate.set()
        assert (await get(ours, f"{url}/fast")).content == b'{"path":"/fast"}'
        await ours.aclose()


async def test_a_call_cancelled_while_waiting_takes_no_slot() -> None:
    gate, ours, asked = asyncio.Event(), pool(size=1), []

    async def answer(request: Any) -> httpx.Response:
        asked.append(request.url.path)
        await gate.wait()
        return httpx.Response(200, json={})

    async with serving(answer) as url:
        first = asyncio.ensure_future(get(ours, f"{url}/1"))
        await eventually(lambda: asked == ["/1"])
        waiting = [asyncio.ensure_future(get(ours, f"{url}/{number}")) for number in (2, 3)]
        await eventually(lambda: len(next(iter(ours._rooms.values())).slots._waiters or ()) == 2)
        waiting[0].cancel()
        gate.set()
        assert [(await call).status for call in (first, waiting[1])] == [200, 200]
        assert asked == ["/1", "/3"]
        await ours.aclose()


async def test_an_unreachable_server_frees_its_slot() -> None:
    ours = pool(size=1)
    for _ in range(3):
        with pytest.raises(httpcore.ConnectError):
            await get(ours, "http://127.0.0.1:1/")


async def test_credentials_in_a_url_are_sent_and_path_and_query_arrive() -> None:
    server, ours = Server(), pool()
    async with url_of(server) as url:
        await get(ours, url.replace("http://", "http://me:secret@").replace("/x", "/a%20b?c=d#e"))
        head = server.requests[0].decode().lower()
        assert head.startswith("get /a%20b?c=d http/1.1\r\n")
        assert "authorization: basic bwu6c2vjcmv0" in head
        assert f"host: {url.removeprefix('http://').removesuffix('/x')}\r\n" in head
        await ours.aclose()


async def test_an_answer_beyond_the_bound_ends_the_call_and_its_connection() -> None:
    async with serving(lambda request: httpx.Response(200, content=b"x" * (MAX_ANSWER_BYTES + 1))) as url:
        ours = transports(LOOPBACK)
        with pytest.raises(AgentMalformed, match="more than"):
            await ours.ask(question(url))
        await ours.close()


async def _endless() -> AsyncIterator[bytes]:
    yield b"data: 1\n\n"
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "answer",
    [_endless, lambda: httpx.Response(200, content=b"x" * (MAX_ANSWER_BYTES + 1))],
    ids=["without end", "beyond the bound"],
)
async def test_a_probe_reads_only_the_head_and_frees_its_slot(answer: Callable[[], Any]) -> None:
    async with serving(lambda request: answer()) as url:
        ours = transports(LOOPBACK, probe_connections=4)
        for _ in range(6):  # more than there are places
            await ours.probe(url)
        await ours.close()


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "nonsense", "http://[::1", "http://127.0.0.1:65536/"])
async def test_a_url_that_is_no_server_address_is_refused(url: str) -> None:
    with pytest.raises(EndpointForbidden):
        await get(pool(), url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "agent.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


async def test_over_tls_only_a_server_with_a_trusted_certificate_is_called(certificate: Path) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    server = Server()
    async with url_of(server, served) as url:
        ours = pool(tls=ssl.create_default_context(cafile=str(certificate)))
        for _ in range(3):
            assert (await get(ours, url)).content == b"{}"
        assert server.opened == 1
        await ours.aclose()
        with pytest.raises(httpcore.ConnectError):
            await get(pool(), url)
        with pytest.raises(AgentUnavailable, match="TLS fails"):
            await transports(LOOPBACK).ask(question(url))
        assert len(server.requests) == 3
