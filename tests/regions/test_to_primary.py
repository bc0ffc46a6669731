"""Calls that a region forwards to the zone's primary: what arrives there, what comes back, and what is said if nothing does."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aragora_sdk import AragoraClient
from starlette.requests import Request
from starlette.responses import Response

from cluster.domain.base.errors import InvalidRequest
from cluster.http import forwarding
from cluster.http.forwarding import regions_context
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.process import front
from serve_app.auth.clients import Clients
from tests.support.api import Api, in_thread
from tests.support.authorities import Issuer
from tests.support.fronted import PROOF
from tests.support.listening import Talk, listening, port_of
from tests.support.probes import eventually
from tests.support.secondaries import EAST, MAX_BODY_BYTES, WEST, Secondary, a_secondary
from tests.support.servers import serving_app
from tests.support.stores import StoreUrls, fresh_name


class Primary:
    """Answers what ``answer`` says, and remembers what came."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.answer = Response(b"{}", 200, media_type="application/json")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.bodies.append(await request.body())
        self.requests.append(request)
        await self.answer(scope, receive, send)


@pytest.fixture
def primary() -> Primary:
    return Primary()


@pytest.fixture
async def secondary(stores: Stores, primary: Primary) -> AsyncIterator[Secondary]:
    async with serving_app(primary, lifespan="off") as server, a_secondary(stores, {WEST: server.url + "/at"}) as found:
        yield found


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False, timeout=20) as client:
        yield client


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["code"], answer.headers.get("Retry-After")


LOST = (503, "not_replicated", "1")
ELSEWHERE = (503, "not_primary", "1")


async def test_what_is_not_replicated_is_read_at_the_primary(
    secondary: Secondary, primary: Primary, http: httpx.AsyncClient
) -> None:
    for path in ("/tasks/t/chunks", "/tasks/t/chunks/stream"):
        assert (await http.get(f"{secondary.url}{path}?after=1.2")).status_code == 200
    assert [request.url.path for request in primary.requests] == ["/at/tasks/t/chunks", "/at/tasks/t/chunks/stream"]


async def test_why_a_task_waits_the_primary_says_while_it_is_heard(
    secondary: Secondary, primary: Primary, http: httpx.AsyncClient
) -> None:
    path = f"{secondary.url}/tasks/t/explain"
    assert (await http.get(path)).json() == {}
    await secondary.region.tell(1, 0, primary=WEST, silent_s=3.0)
    assert secondary.region.gate.away() is not None
    assert (await http.get(path)).json() == {"by": EAST}
    await secondary.region.tell(1, 0, primary=WEST)
    assert (await http.get(path)).json() == {}
    assert len(primary.requests) == 2


# --- the whole call, and the whole answer -----------------------------------------------------------------------------


async def test_the_whole_call_arrives(secondary: Secondary, primary: Primary, http: httpx.AsyncClient) -> None:
    headers = {
        "Authorization": "Bearer secret",
        "Cookie": "a=b",
        "Idempotency-Key": "k1",
        "X-Request-ID": "trace-1",
        "X-Aragora-Workspace": "w1",
        "Content-Type": "application/json",
        "Origin": "https://page.example.com",
        "Connection": "keep-alive, X-Of-Connection",
        "X-Of-Connection": "1",
        "X-Forwarded-For": "192.0.2.9",
        "Accept-Encoding": "gzip",
        front.PROOF: "guessed",
        front.ADDRESS: "192.0.2.8",
    }
    await http.patch(secondary.url + "/tasks/a%2Fb%20c?x=1&x=%3D&y", content=b'{"a": 1}', headers=headers)
    (came,) = primary.requests
    assert (came.method, came.scope["raw_path"], came.scope["query_string"], primary.bodies) == (
        "PATCH",
        b"/at/tasks/a%2Fb%20c",
        b"x=1&x=%3D&y",
        [b'{"a": 1}'],
    )
    sent = dict(came.headers)
    assert sent.pop("host").startswith("127.0.0.1:")
    sent.pop("user-agent")
    assert sent == {
        "accept": "*/*",
        "authorization": "Bearer secret",
        "cookie": "a=b",
        "idempotency-key": "k1",
        "x-request-id": "trace-1",
        "x-aragora-workspace": "w1",
        "content-type": "application/json",
        "origin": "https://page.example.com",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-aragora-forwarded-by": EAST,
        "accept-encoding": "identity",
        "content-length": "8",
    }


async def test_the_whole_answer_comes_back(secondary: Secondary, primary: Primary, http: httpx.AsyncClient) -> None:
    primary.answer = Response(gzip.compress(b'{"n": 1}'), 202, media_type="application/json")
    given = {
        "Content-Encoding": "gzip",
        "Location": "/tasks/1",
        "Retry-After": "7",
        "X-Trace-Id": "of the primary",
        "Strict-Transport-Security": "max-age=1",
        "Access-Control-Allow-Origin": "*",
        "Alt-Svc": 'h3=":443"',
        "X-Aragora-Primary": "http://elsewhere.example.com",
    }
    primary.answer.headers.update(given)
    primary.answer.set_cookie("a", "1")
    primary.answer.set_cookie("b", "2")
    answer = await http.post(secondary.url + "/tasks", headers={"X-Correlation-ID": "trace-1"})
    assert (answer.status_code, answer.json()) == (202, {"n": 1})
    assert [name for name, _ in answer.headers.multi_items()].count("set-cookie") == 2
    kept = {name.lower(): answer.headers.get(name) for name in given}
    assert kept == {
        "content-encoding": "gzip",
        "location": "/tasks/1",
        "retry-after": "7",
        "x-trace-id": "trace-1",
        "strict-transport-security": None,
        "access-control-allow-origin": None,
        "alt-svc": None,
        "x-aragora-primary": str(secondary.region.gate.primary[1]),
    }
    assert (primary.requests[0].headers["x-correlation-id"], "x-request-id" in primary.requests[0].headers) == (
        "trace-1",
        False,
    )


async def test_the_front_and_trusted_proxies_say_who_the_client_is(
    stores: Stores, primary: Primary, http: httpx.AsyncClient
) -> None:
    clients = Clients(["10.0.0.0/8"], PROOF)
    async with (
        serving_app(primary, lifespan="off") as server,
        a_secondary(stores, {WEST: server.url}, clients=clients) as secondary,
    ):
        for headers in (
            {front.PROOF: PROOF, front.ADDRESS: "10.0.0.1", "X-Forwarded-For": "1.1.1.1, 192.0.2.9"},
            {
                front.PROOF: PROOF,
                front.ADDRESS: "10.0.0.1",
                "X-Forwarded-For": "2001:db8::1",
                "X-Forwarded-Proto": "https",
            },
        ):
            await http.post(secondary.url, headers=headers)
        found = [(came.headers["x-forwarded-for"], came.headers["x-forwarded-proto"]) for came in primary.requests]
    assert found == [("192.0.2.9", "http"), ("2001:db8::1", "https")]
    assert not any(front.PREFIX in name for came in primary.requests for name in came.headers)


async def _chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"a" * 65_536


async def test_bodies_of_every_kind(secondary: Secondary, primary: Primary, http: httpx.AsyncClient) -> None:
    primary.answer = Response(b"x" * 20_000_000)  # a claim of many tasks
    answer = await http.post(secondary.url, content=_chunks(40))
    assert (len(primary.bodies[0]), len(answer.content)) == (40 * 65_536, 20_000_000)
    assert [primary.requests[0].headers.get(name) for name in ("content-length", "transfer-encoding")] == [
        str(40 * 65_536),
        None,
    ]
    primary.answer = Response(status_code=204)
    assert (await http.delete(secondary.url)).status_code == 204
    for content in (_chunks(MAX_BODY_BYTES // 65_536 + 1), b"a" * (MAX_BODY_BYTES + 1)):
        answer = await http.post(secondary.url, content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert len(primary.requests) == 2


async def test_reads_and_tickets_stay(secondary: Secondary, primary: Primary, http: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (await http.request(method, secondary.url)).status_code == 200
    assert (await http.post(secondary.url + "/api/control-plane/auth/ticket")).json() == {"by": EAST}
    assert primary.requests == []


async def test_linearizable_reads_are_the_primarys(
    secondary: Secondary, primary: Primary, http: httpx.AsyncClient
) -> None:
    asks = {"X-Aragora-Consistency": "linearizable"}
    await secondary.region.tell(1, 0, primary=WEST, silent_s=None)  # its own copy is too old for any read
    assert (await http.get(secondary.url)).status_code == 503
    for method in ("GET", "HEAD"):
        answer = await http.request(method, secondary.url + "/tasks?limit=1", headers=asks)
        assert (answer.status_code, "x-aragora-staleness" in answer.headers) == (200, False)
    assert [came.method for came in primary.requests] == ["GET", "HEAD"]
    assert {came.headers["x-aragora-consistency"] for came in primary.requests} == {"linearizable"}
    assert not any("content-length" in came.headers for came in primary.requests)
    twice = await http.get(secondary.url, headers=asks | {"X-Aragora-Forwarded-By": "north"})
    assert refusal(twice) == ELSEWHERE


async def test_the_released_client_needs_one_address(api: Api, store_urls: StoreUrls) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema)
    stores = await open_stores(store_urls.database, schema, "test-region", max_connections=4)
    async with a_secondary(stores, {WEST: api.url}) as secondary:
        with AragoraClient(base_url=secondary.url, max_retries=1) as client:
            plane = client.control_plane
            await in_thread(plane.register_agent, agent_id="a1", capabilities=["echo"])
            task = await in_thread(plane.create_task, task_type="echo", payload={"n": 1})
            claimed = await in_thread(plane.claim_task, agent_id="a1", capabilities=["echo"])
            await in_thread(plane.complete_task, task["task_id"])
    assert claimed["task"]["id"] == task["task_id"]
    assert (await api.get(f"/tasks/{task['task_id']}"))["status"] == "completed"
    await stores.close()


# --- what is not forwarded ---------------------------------------------------------------------------------------------


async def test_nothing_is_forwarded_twice(stores: Stores, primary: Primary, http: httpx.AsyncClient) -> None:
    """Nor by a region whose own URL is given as the primary's, nor by two that take each other for it."""
    urls: dict[str, str] = {}
    async with serving_app(primary, lifespan="off") as server, a_secondary(stores, urls) as secondary:
        urls[WEST] = secondary.url
        circle = await http.post(secondary.url)
        assert refusal(circle) == ELSEWHERE
        urls |= {WEST: server.url, EAST: server.url}
        for headers in (
            {"X-Aragora-Forwarded-By": "north"},
            {front.CERTIFICATE: "AAAA", front.PROOF: PROOF},  # an agent's, whose key the primary cannot ask for
        ):
            assert refusal(await http.post(secondary.url, headers=headers)) == ELSEWHERE
        await secondary.names(EAST)
        assert refusal(await http.post(secondary.url)) == ELSEWHERE
        await secondary.names("north")  # whose URL nobody knows
        assert refusal(await http.post(secondary.url)) == ELSEWHERE
    assert primary.requests == []


async def test_forwarded_calls_are_bounded(
    secondary: Secondary, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):  # each gives its place back
        monkeypatch.setattr(forwarding, "MAX_FORWARDED", 1)
        assert (await http.post(secondary.url)).status_code == 200
        monkeypatch.setattr(forwarding, "MAX_FORWARDED", 0)
        answer = await http.post(secondary.url)
        assert refusal(answer) == (429, "overloaded", "1")


# --- what is said if there is no answer -------------------------------------------------------------------------------


ODD = (
    b"",  # it ends
    b"HTTP/1.1 200 OK\r\nX: 1\r\n",  # it ends in its head
    b"what?\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
)


async def test_an_answer_that_is_lost_leaves_the_outcome_open(stores: Stores, http: httpx.AsyncClient) -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ODD[len(asked) - 1])
        await writer.drain()
        writer.close()

    async with beside(stores, talk) as secondary:
        for count in range(1, len(ODD) + 1):
            refused = await http.post(secondary.url, content=b"{}")
            assert (refusal(refused), "same idempotency key" in refused.json()["error"]) == (LOST, True)
            assert len(asked) == count, "nothing is repeated"


@asynccontextmanager
async def beside(stores: Stores, talk: Talk, **options: Any) -> AsyncIterator[Secondary]:
    """A secondary whose primary talks so."""
    async with (
        listening(talk) as server,
        a_secondary(stores, {WEST: f"http://127.0.0.1:{port_of(server)}"}, **options) as secondary,
    ):
        yield secondary


async def test_an_answer_that_breaks_off_is_not_whole_for_the_client(stores: Stores, http: httpx.AsyncClient) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        writer.close()

    async with beside(stores, talk) as secondary:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(secondary.url)


async def test_a_primary_that_cannot_be_reached_has_done_nothing(stores: Stores, http: httpx.AsyncClient) -> None:
    urls: dict[str, str] = {}
    async with a_secondary(stores, urls) as secondary:
        for urls[WEST], why in (
            ("http://127.0.0.1:9", "connection refused"),
            ("http://no-such-name.invalid", "no address"),
        ):
            refused = await http.post(secondary.url)
            assert (refusal(refused), why in refused.json()["error"].lower()) == (ELSEWHERE, True)


class Hanging:
    """A primary that takes calls and answers none."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await reader.read()
        self.ended += 1


async def test_nobody_waits_for_a_replaced_primary_or_a_client_that_left(
    stores: Stores, http: httpx.AsyncClient
) -> None:
    """The call ends there too: else a claim that waits would get a task that nobody takes."""
    hanging = Hanging()
    async with beside(stores, hanging.talk) as secondary:
        call = asyncio.create_task(http.post(secondary.url))
        await eventually(lambda: hanging.asked == 1)
        await secondary.names("north")
        assert refusal(await call) == LOST
        await eventually(lambda: hanging.ended == 1)
        await secondary.names(WEST)
        call = asyncio.create_task(http.post(secondary.url))
        await eventually(lambda: hanging.asked == 2)
        call.cancel()
        await eventually(lambda: hanging.ended == 2)


async def test_a_slow_primary_is_waited_for_as_long_as_its_longest_call(
    stores: Stores, http: httpx.AsyncClient
) -> None:
    hanging = Hanging()
    async with beside(stores, hanging.talk, answer_s=0.2) as secondary:
        assert refusal(await http.post(secondary.url)) == LOST
        await eventually(lambda: hanging.ended == 1)


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_the_primary_is_known_by_the_authority_of_the_settings(
    stores: Stores, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    issuer, stranger = Issuer(), Issuer("A stranger's authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issuer.issue().write(tmp_path, "server"))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    trusted = regions_context(Path(issuer.file(tmp_path, "own")))
    other = regions_context(Path(stranger.file(tmp_path, "other")))
    async with listening(talk, context) as server:
        urls = {WEST: f"https://127.0.0.1:{port_of(server)}"}
        async with a_secondary(stores, urls, tls=trusted) as secondary:
            assert (await http.post(secondary.url)).status_code == 200
        async with a_secondary(stores, urls, tls=other) as secondary:
            refused = await http.post(secondary.url)
            assert (refusal(refused), "TLS fails" in refused.json()["error"]) == (ELSEWHERE, True)
    with pytest.raises(InvalidRequest, match="ARAGORA_REGION_URLS_CA_FILE"):
        regions_context(tmp_path / "missing.pem")
