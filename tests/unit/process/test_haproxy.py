"""The program that stands in for HAProxy, with the real HAProxy and the configuration that the pinned Ray writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.process import haproxy, stopgap
from cluster.process.front import SECURITY_HEADERS, FrontTls
from tests.support.authorities import Issuer
from tests.support.fronts import Front
from tests.support.listening import listening, port_of
from tests.support.probes import eventually
from tests.support.servers import serving_app

CONNECTION_ENDS = b""
PLAIN_500 = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nlost"
OURS_500 = b'HTTP/1.1 500 Bad\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{"error": "x"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def front() -> Iterator[Front]:
    with tempfile.TemporaryDirectory(prefix="hap-") as directory:
        found = Front(Path(directory))
        try:
            yield found
        finally:
            found.close()


def replica_that_answers(answer: bytes) -> contextlib.AbstractAsyncContextManager[asyncio.Server]:
    """A replica whose health checks succeed, and which gives ``answer`` to every other call and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(OK if b"/-/healthz" in head else answer)
        await writer.drain()
        writer.close()

    return listening(serve)


async def answered(url: str, *, verify: bool = True, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=10, verify=verify) as client:
        found: list[httpx.Response] = []

        async def up() -> bool:
            try:
                found.append(await client.get(url, **options))
            except httpx.ConnectError:
                return False
            return True

        await eventually(up, 20, what="HAProxy")
        return found[0]


def is_not_now(answer: httpx.Response, code: str) -> None:
    """503 in the shape of our errors."""
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    body = answer.json()
    assert set(body) == {"error", "code", "trace_id"}
    assert body["code"] == code
    assert body["trace_id"] == answer.headers["x-trace-id"] != ""
    assert not [name for name in answer.headers if name.startswith("x-aragora")]
    assert {name: answer.headers.get_list(name) for name in SECURITY_HEADERS} == {
        name: [value] for name, value in SECURITY_HEADERS.items()
    }
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize("answer", [CONNECTION_ENDS, PLAIN_500, PLAIN_500.replace(b"500", b"504")])
async def test_a_replica_that_ends_during_a_call_is_a_503(front: Front, answer: bytes) -> None:
    async with replica_that_answers(answer) as server:
        front.write(port_of(server))
        front.start()
        is_not_now(await answered(front.url + "/x"), "unavailable")
        chosen = await answered(front.url + "/x", headers={"x-request-id": "mine-1"})
    assert chosen.json()["trace_id"] == "mine-1"
    gone = await answered(front.url + "/x")  # the replica refuses connections now
    is_not_now(gone, "unavailable")


@dataclass
class MortalReplica:
    """Keeps its connections, and answers calls of ``/live``. Any other call ends all its connections, and it listens no more."""

    executed: list[bytes] = field(default_factory=list)
    open: list[asyncio.StreamWriter] = field(default_factory=list)
    server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b" /-/healthz " not in head:
                    self.executed.append(head.split(b" HTTP")[0])
                if b" /x " in head:
                    self.die()
                    return
                writer.write(OK)

    def die(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.open:
            writer.transport.abort()


@pytest.mark.parametrize(
    ("method", "same_connection", "earlier"), [("GET", True, 2), ("POST", True, 1), ("POST", False, 0)]
)
async def test_a_replica_that_dies_over_a_kept_connection_is_a_503(
    front: Front, method: str, same_connection: bool, earlier: int
) -> None:
    """HAProxy says nothing to a client whose call went over a connection that an earlier call had used."""
    replica = MortalReplica()
    async with contextlib.AsyncExitStack() as stack:
        replica.server = await stack.enter_async_context(listening(replica.serve))
        front.write(port_of(replica.server))
        front.start()
        await answered(front.url + "/live")
        before = len(replica.executed)
        clients = [await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=10)) for _ in range(2)]
        for _ in range(earlier):
            assert (await clients[0].get(front.url + "/live")).text == "ok"
        is_not_now(await clients[0 if same_connection else 1].request(method, front.url + "/x"), "unavailable")
        assert replica.executed[before + earlier :] == [f"{method} /x".encode()]
        is_not_now(await clients[0].get(front.url + "/live"), "unavailable")  # nobody listens


async def test_a_client_keeps_its_connection(front: Front) -> None:
    """Only those to the replicas are new for each call."""
    async with replica_that_answers(OK) as server:
        front.write(port_of(server))
        front.start()
        await answered(front.url + "/x")
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        for _ in range(3):
            writer.write(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert (head.split(b" ")[1], await reader.readexactly(2)) == (b"200", b"ok")
        writer.close()


@pytest.mark.parametrize("answer", [OK, OURS_500, OURS_500.replace(b"500", b"502")])
async def test_an_answer_of_our_own_passes_unchanged(front: Front, answer: bytes) -> None:
    async with replica_that_answers(answer) as server:
        front.write(port_of(server))
        front.start()
        passed = await answered(front.url + "/x")
    assert str(passed.status_code).encode() in answer.split(b"\r\n")[0]
    assert answer.endswith(passed.content)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that no refused request reaches."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


_WEBSOCKET = "upgrade: websocket\r\nconnection: upgrade\r\n"


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("BREW /x", ""),  # httptools knows no such method
        ("GET http://", ""),
        ("GET /x", _WEBSOCKET + "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 7\r\n"),
    ],
)
async def test_what_uvicorn_refuses_has_the_shape_of_our_errors(front: Front, line: str, headers: str) -> None:
    request = f"{line} HTTP/1.1\r\nhost: a\r\nx-request-id: mine-1\r\nsec-test: 1\r\n{headers}\r\n".encode()
    async with serving_app(_nothing, lifespan="off") as server:
        front.write(server.port)
        front.start()
        assert (await answered(front.url + "/x")).status_code == 200
        refused, itself = [(await _exchange(at, request)) for at in (front.port, server.port)]
    assert b"text/plain" in itself, "uvicorn itself answers"
    head, _, body = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nx-trace-id: mine-1" in head.lower()
    found = json.loads(body)
    assert (found["code"], found["trace_id"], set(found)) == (
        "invalid_request",
        "mine-1",
        {"error", "code", "trace_id"},
    )


async def test_a_body_that_haproxy_refuses_has_the_shape_of_our_errors(front: Front) -> None:
    replica = WaitingReplica(b"")
    async with listening(replica.serve) as server:
        front.write(port_of(server))
        front.start()
        await answered(front.url + "/-/healthz")
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\nx-request-id: mine-1\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.wait_for(replica.called.wait(), 20)
        writer.write(b"ZZ\r\n")
        refused = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    head, _, body = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), refused
    assert b"\r\nx-trace-id: mine-1" in head.lower()
    assert (json.loads(body)["code"], json.loads(body)["trace_id"]) == ("invalid_request", "mine-1")


async def _exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None, head
    body = await asyncio.wait_for(reader.readexactly(int(found[1])), 10)
    writer.close()
    return head + body


@dataclass
class WaitingReplica:
    """Answers nothing, or the beginning of a stream, and notes when its caller has hung up."""

    begins: bytes
    called: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/-/healthz" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
        else:
            writer.write(self.begins)
            self.called.set()
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            self.hung_up.set()
        writer.close()


#: A client that sends its body in a packet of its own, as httpx and most others do, and one that sends chunks.
_LENGTH = (b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n", b'{"a":1}')
_CHUNKS = (b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b'7\r\n{"a":1}\r\n', b"0\r\n\r\n")
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\n: ping\r\n"


@pytest.mark.parametrize("begins", [b"", _STREAM], ids=["no answer yet", "a stream"])
@pytest.mark.parametrize(
    "packets",
    [(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n",), (b"".join(_LENGTH),), _LENGTH, _CHUNKS],
    ids=["no body", "one packet", "two packets", "chunks"],
)
async def test_a_replica_learns_that_its_client_has_hung_up(
    front: Front, packets: tuple[bytes, ...], begins: bytes
) -> None:
    """Else a claim is answered to nobody, and HAProxy spins until it is."""
    replica = WaitingReplica(begins)
    async with listening(replica.serve) as server:
        front.write(port_of(server))
        front.start()
        await answered(front.url + "/-/healthz")
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        for number, packet in enumerate(packets):
            if number:
                await asyncio.wait_for(replica.called.wait(), 20)  # the head has come through before the body is sent
            writer.write(packet)
            await writer.drain()
        await asyncio.wait_for(replica.called.wait(), 20)
        writer.close()
        await asyncio.wait_for(replica.hung_up.wait(), 20)


async def _dripped(front: Front, begin: bytes, drop: bytes) -> bytes:
    """What HAProxy sends before it ends the connection, while ``drop`` is sent again and again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)

    async def drip() -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.02)

    writer.write(begin)
    dripping = asyncio.ensure_future(drip())
    try:
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(20):
                return await reader.read()
        return b""
    finally:
        dripping.cancel()
        writer.close()


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_slow_heads_are_given_up_and_others_are_served(front: Front, tmp_path: Path, secure: bool) -> None:
    front.head_s = front.silent_s = 1
    if secure:
        certificate, key = Issuer().issue().write(tmp_path, "server")
        front.tls = FrontTls(str(certificate), str(key))
    async with replica_that_answers(OK) as replica:
        front.write(port_of(replica))
        front.start()
        await eventually(lambda: _accepts(front), 20, what="HAProxy")
        hello = b"\x16\x03\x01\x40\x00"  # the beginning of a long record
        slow = [(hello, b"\x01"), (b"", b"")] if secure else [(b"GET / HTTP/1.1\r\nA: ", b"a"), (b"G", b""), (b"", b"")]
        many = asyncio.gather(*(_dripped(front, *each) for each in slow * 20))
        await eventually(lambda: _serves(front), 20, what="an answer beside them")
        assert {answer[:13] for answer in await many} <= {b"HTTP/1.1 408 ", b""}


async def _serves(front: Front) -> bool:
    """Whether a call is answered. Its own head may come too late, if this process was not run for so long."""
    try:
        return (await answered(front.url, verify=False)).status_code == 200
    except httpx.TransportError:
        return False


UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(("asks", "begins"), [("", EVENTS), (UPGRADE, UPGRADED)], ids=["stream", "socket"])
async def test_who_takes_nothing_is_given_up_and_who_waits_is_not(front: Front, asks: str, begins: bytes) -> None:
    front.silent_s = 1
    ended: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/stream" in head:
            writer.write(begins)
            with contextlib.suppress(OSError):
                while True:
                    writer.write(bytes(100_000))
                    await writer.drain()
            ended.append(head)
        elif b"/late" in head:
            await eventually(lambda: bool(ended), 20, what="the end of the stream that nobody reads")
            writer.write(OK)
        else:
            writer.write(OK)
        writer.close()

    async with listening(serve) as replica:
        front.write(port_of(replica))
        front.start()
        assert (await answered(front.url)).status_code == 200
        late = asyncio.ensure_future(answered(front.url + "/late"))
        _, writer = await asyncio.open_connection("127.0.0.1", front.port, limit=1000)
        writer.write(f"GET /stream HTTP/1.1\r\nHost: a\r\n{asks}\r\n".encode())
        assert (await late).status_code == 200, "it waits as long as the other one takes nothing"
        writer.close()


async def _accepts(front: Front) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
    except OSError:
        return False
    writer.close()
    return True


async def test_without_any_replica_the_api_is_said_to_start(front: Front) -> None:
    front.write(None)
    front.start()
    is_not_now(await answered(front.url + "/api/control-plane/agents"), "starting")


@pytest.mark.parametrize(
    ("origins", "page", "told"),
    [
        (("*",), "https://a.example", {"access-control-allow-origin": "*"}),
        (("*",), None, {}),
        (
            ("https://a.example", "http://b.example:3000"),
            "http://b.example:3000",
            {"access-control-allow-origin": "http://b.example:3000", "access-control-allow-credentials": "true"},
        ),
        (("https://a.example",), "https://a.example.evil", {}),
        ((), "https://a.example", {}),
    ],
)
async def test_a_page_may_read_haproxys_own_answers(
    front: Front, origins: tuple[str, ...], page: str | None, told: dict[str, str]
) -> None:
    front.origins = origins
    front.write(None)
    front.start()
    headers = {} if page is None else {"Origin": page}
    for path, status in (("/api/control-plane/agents", 503), ("/-/routes", 404)):
        answer = await answered(front.url + path, headers=headers)
        assert answer.status_code == status, answer.text
        found = {name: text for name, text in answer.headers.items() if name.startswith("access-control-")}
        exposed = {"access-control-expose-headers": "X-Trace-Id, Location, Retry-After"} if told else {}
        assert found == told | exposed
        assert answer.headers.get("vary") == ("Origin" if "access-control-allow-credentials" in told else None)


async def test_a_call_of_the_server_itself_is_not_found(front: Front) -> None:
    """Load balancers send OPTIONS of no path. It belongs to no application, and the API was said to start, for good."""
    async with replica_that_answers(OK) as server:
        front.write(port_of(server))
        front.start()
        assert (await answered(front.url + "/x")).text == "ok"
        answer = await _exchange(front.port, b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "not_found"


async def test_the_log_of_haproxy_has_no_query(front: Front) -> None:
    """It may hold the token of a WebSocket. Ray lets HAProxy send its log to port 514 of the machine."""
    lines: list[bytes] = []

    class Log(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            lines.append(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Log, ("127.0.0.1", 0))
    async with replica_that_answers(OK) as server:
        front.write(port_of(server), log=f"127.0.0.1:{transport.get_extra_info('sockname')[1]}")
        front.start()
        await answered(f"{front.url}/ws/control-plane?token=ara_secret")
        await eventually(lambda: any(b"/ws/control-plane" in line for line in lines), what="a line of the log")
    transport.close()
    assert not any(b"token" in line or b"ara_secret" in line for line in lines), lines


async def test_only_the_given_address_is_listened_on(front: Front) -> None:
    front.write(None)
    front.start()
    await answered(front.url)
    binds = re.findall(r"(?m)^ *bind (\S+)", (front.directory / "haproxy.cfg").read_text())
    assert binds == [f"{front.directory}/p.sock", f"127.0.0.1:{front.port}", f"{front.directory}/s.sock"]
    for name in ("a.sock", "p.sock", "s.sock"):
        assert (front.directory / name).stat().st_mode & 0o777 == 0o600


async def test_a_killed_haproxy_is_stood_in_for_until_rays_next(front: Front) -> None:
    async with replica_that_answers(OK) as server:
        front.write(port_of(server))
        first = front.start()
        await answered(front.url)
        for _ in range(2):  # a stopgap that is killed is replaced as well
            before = front.pids()
            last = stopgap.pid_in(front.directory / stopgap.STOPGAP) or first.pid
            os.kill(last, signal.SIGKILL)
            await eventually(lambda: stopgap.pid_in(front.directory / stopgap.STOPGAP) not in (None, last), 20)  # noqa: B023
            assert (await answered(front.url + "/x")).text == "ok", before
        first.wait(10)
        assert not (front.directory / haproxy.REPLACED).exists()
        stand_in = stopgap.pid_in(front.directory / stopgap.STOPGAP)
        front.write(port_of(server))
        following = front.start()
        await eventually(lambda: front.pids() == {following.pid, *guards(front, following.pid)}, 20, what="its end")
        assert stand_in not in front.pids()
        assert (await answered(front.url + "/x")).text == "ok"


def guards(front: Front, pid: int) -> set[int]:
    return {found for found in front.pids() if f"PPid:\t{pid}\n" in _status(found)}


def _status(pid: int) -> str:
    """Empty of a process that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def test_a_replaced_haproxy_leaves_a_mark_and_no_stopgap(front: Front) -> None:
    async with replica_that_answers(OK) as server:
        front.write(port_of(server))
        first = front.start()
        await answered(front.url)
        front.write(port_of(server))
        second = front.start("-sf", str(first.pid))
        await asyncio.to_thread(first.wait, 20)
        await eventually(lambda: front.pids() == {second.pid, *guards(front, second.pid)}, 20, what="no stopgap")
        assert (front.directory / haproxy.REPLACED).read_text() == str(second.pid)
        assert not (front.directory / stopgap.STOPGAP).exists()


async def test_an_haproxy_that_was_stopped_is_killed_and_stood_in_for(front: Front) -> None:
    async with replica_that_answers(OK) as server:
        front.write(port_of(server))
        first = front.start()
        await answered(front.url + "/x")
        os.kill(first.pid, signal.SIGSTOP)
        await asyncio.to_thread(first.wait, 20)
        assert (await answered(front.url + "/x")).text == "ok"
        stand_in = stopgap.pid_in(front.directory / stopgap.STOPGAP) or 0
        os.kill(stand_in, signal.SIGSTOP)  # nor does the stopgap take the API away for longer
        await eventually(lambda: stopgap.pid_in(front.directory / stopgap.STOPGAP) not in (None, stand_in), 20)
        assert (await answered(front.url + "/x")).text == "ok"


async def test_an_haproxy_that_was_stopped_and_replaced_lets_go_of_the_port(front: Front) -> None:
    async with replica_that_answers(OK) as server:
        front.write(port_of(server))
        first = front.start()
        await answered(front.url)
        os.kill(first.pid, signal.SIGSTOP)
        second = front.start("-sf", str(first.pid))
        await asyncio.to_thread(first.wait, 20)
        await eventually(lambda: front.pids() == {second.pid, *guards(front, second.pid)}, 20, what="no stopgap")
        for _ in range(5):
            assert (await answered(front.url + "/x")).text == "ok"


@dataclass
class AdminSocket:
    """What answers there, of a process that sleeps or runs."""

    answer: bytes | None
    busy: bool = False

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[stopgap.Looks]:
        work = "while True: pass" if self.busy else "import threading; threading.Event().wait()"
        with (
            tempfile.TemporaryDirectory(prefix="adm-") as directory,
            socket.socket(socket.AF_UNIX) as listener,
            subprocess.Popen([sys.executable, "-SI", "-c", "print(flush=True)\n" + work], stdout=-1) as process,
        ):
            assert process.stdout is not None
            process.stdout.readline()
            listener.bind(f"{directory}/a.sock")
            listener.listen()
            threading.Thread(target=self._serve, args=(listener, process.pid), daemon=True).start()
            try:
                yield stopgap.Looks(process.pid, Path(f"{directory}/a.sock"))
            finally:
                process.kill()
                listener.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket, pid: int) -> None:
        kept = []  # those who get no answer
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                if self.answer is not None:
                    connection.recv(100)
                    connection.sendall(self.answer % pid)
                    connection.close()


ITS_OWN = b"Name: HAProxy\nPid: %d\nUptime: 1\n\n"
OF_ANOTHER = b"Name: HAProxy\nPid: 1%d\nUptime: 1\n\n"


def test_a_process_hangs_if_it_sleeps_and_no_longer_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopgap, "ANSWER_S", 30.0)
    admin = AdminSocket(ITS_OWN)
    with admin.looked_at() as looks:
        assert not any(looks.hangs() for _ in range(5))
        admin.answer = None
        monkeypatch.setattr(stopgap, "ANSWER_S", 0.05)
        assert [looks.hangs() for _ in range(stopgap.BAD_LOOKS)] == [False] * (stopgap.BAD_LOOKS - 1) + [True]
        admin.answer = ITS_OWN
        monkeypatch.setattr(stopgap, "ANSWER_S", 30.0)
        assert not looks.hangs()


@pytest.mark.parametrize(
    ("first", "busy"), [(ITS_OWN, True), (OF_ANOTHER, False), (None, False)], ids=["busy", "replaced", "starting"]
)
def test_silence_of_a_process_that_is_excused_is_no_hang(
    monkeypatch: pytest.MonkeyPatch, first: bytes | None, busy: bool
) -> None:
    monkeypatch.setattr(stopgap, "ANSWER_S", 0.05 if first is None else 30.0)
    admin = AdminSocket(first, busy)
    with admin.looked_at() as looks:
        looks.hangs()
        admin.answer = None
        monkeypatch.setattr(stopgap, "ANSWER_S", 0.05)
        assert not any(looks.hangs() for _ in range(stopgap.BAD_LOOKS * 2))
