"""What the client makes of an answer of the API, or of something else in its place."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound, TryLater
from aragora_worker.errors import ApiError, OutcomeUnknown, Unavailable
from aragora_worker.repeating import Patience, RetryDelays
from tests.support.listening import listening, port_of
from tests.support.odd_proxy import ODDITIES, Odd, OddProxy, as_json, http, own

OUR_OWN = [odd for odd in ODDITIES if odd.name.startswith(("own", "reports"))]


@contextlib.asynccontextmanager
async def answered(content: bytes) -> AsyncIterator[ControlPlaneClient]:
    """A client of a server that answers everything with the same bytes."""
    odd = Odd("given", content)
    proxy = OddProxy("http://127.0.0.1:9", lambda call, number: odd)
    async with proxy.running(), ControlPlaneClient(proxy.url, timeout_s=5.0) as client:
        yield client


async def error_of(content: bytes, **options: Any) -> ControlPlaneError:
    async with answered(content) as client:
        with pytest.raises(ControlPlaneError) as raised:
            await client.request("POST", "/tasks", {}, **options)
    return raised.value


@pytest.mark.parametrize("odd", [odd for odd in ODDITIES if odd not in OUR_OWN], ids=str)
async def test_an_answer_not_of_the_api_leaves_the_outcome_unknown(odd: Odd) -> None:
    assert not callable(odd.content)
    error = await error_of(odd.content, has={"task_id": str})
    assert type(error) is OutcomeUnknown, error
    assert isinstance(error, TryLater)
    assert not isinstance(error, CallerError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ApiError),
        (401, ApiError),
        (403, ApiError),
        (404, NotFound),
        (405, ApiError),
        (409, ApiError),
        (413, ApiError),
        (422, ApiError),
        (429, Unavailable),
        (500, ControlPlaneError),
        (502, ControlPlaneError),
        (503, Unavailable),
        (504, ControlPlaneError),
    ],
)
async def test_an_error_in_the_apis_shape_is_raised_as_such(status: int, kind: type[ControlPlaneError]) -> None:
    error = await error_of(own(status, "a_code"))
    assert (type(error), str(error), error.code) == (kind, "Our own a_code.", "a_code")
    if isinstance(error, ApiError):
        assert error.status == status
    for missing in ("error", "code", "trace_id"):
        body = {"error": "e", "code": "c", "trace_id": "t"} | {missing: None}
        assert type(await error_of(as_json(status, body))) is OutcomeUnknown


async def test_an_error_body_under_a_success_status_is_no_answer() -> None:
    assert type(await error_of(own(302, "found"))) is OutcomeUnknown


async def test_an_answer_of_the_api_is_returned() -> None:
    async with answered(as_json(201, {"task_id": "t", "n": 1})) as client:
        assert await client.request("POST", "/tasks", {}, has={"task_id": str, "n": int}) == {"task_id": "t", "n": 1}


@pytest.mark.parametrize(
    ("value", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("999999999999999999999", 1e8, 1e9),
        ("soon", 0, 0),
        ("-3", 0, 0),
        ("1.5", 0, 0),
        ("²", 0, 0),
        ("", 0, 0),
        (timedelta(hours=1), 3000, 3700),
        (timedelta(hours=-1), 0, 0),
        ("Mon, 99 Foo 9999", 0, 0),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 2026 23:59:59 +99999999999999999999", 0, 0),
        ("Fri, 31 Dec 0001 23:59:59 +2359", 0, 0),
        (",", 0, 0),
        ("0 0 0 0 0 0 0", 0, 0),
    ],
)
async def test_retry_after_is_read_as_seconds_or_a_date(value: str | timedelta, least_s: float, most_s: float) -> None:
    if isinstance(value, timedelta):  # from now, and not from when the tests were collected
        value = format_datetime(datetime.now(timezone.utc) + value)
    for content in (own(503, "unavailable", Retry_After=value), http(502, "<html>", Retry_After=value)):
        error = await error_of(content)
        assert isinstance(error, Unavailable)
        assert least_s <= error.wait_s <= most_s


async def test_an_unreachable_api_leaves_the_outcome_unknown() -> None:
    async with ControlPlaneClient("http://127.0.0.1:1") as client:
        with pytest.raises(OutcomeUnknown, match="aragora-cp up"):
            await client.get("/tasks")


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8080", "ftp://127.0.0.1", "http://[::bad", "nothing", "", "http://", "http:login", "mailto:a@b"),
        *("http://xn--/", "http://a..b", f"http://{'a' * 64}", "http://a:99999", "http://a:b", "http://a\0b"),
    ],
)
def test_a_text_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="ARAGORA_API_URL"):
        ControlPlaneClient(url)


@pytest.mark.parametrize("character", "/#?")
def test_a_refused_url_quotes_nothing_of_its_password(character: str) -> None:
    with pytest.raises(InvalidRequest, match="%40 %3A %2F %23 %3F %25") as refused:
        ControlPlaneClient(f"http://bob:Sup3r{character}Secret@127.0.0.1:1")
    assert "Sup3r" not in refused.value.message
    assert "Secret" not in refused.value.message


@pytest.mark.parametrize("url", ["http://é.example", "https://[::1]:8443/below", "http://under_score.:80", "HTTP://A"])
def test_a_url_is_accepted(url: str) -> None:
    ControlPlaneClient(url)


def _locations() -> list[str]:
    """What nobody can follow: known ones, and any joining of what such addresses consist of."""
    pieces = [
        "http",
        "https",
        "mailto",
        ":",
        "//",
        "/",
        "xn--",
        "[",
        "]",
        "@",
        "..",
        "?",
        "#",
        "%",
        "login",
        "99999999",
        " ",
    ]
    chance = random.Random(7)
    known = [
        "mailto:a@example.org",
        "javascript:void(0)",
        "about:blank",
        "http:login",
        "http://xn--/",
        "//xn--/",
        "///",
    ]
    return known + ["".join(chance.choices(pieces, k=chance.randint(1, 6))) for _ in range(300)]


async def test_any_redirect_leaves_the_outcome_unknown_and_the_client_usable() -> None:
    locations = _locations()
    fine = Odd("fine", as_json(200, {"task_id": "t"}))
    odd = [Odd(location, http(302, "", Location=location)) for location in locations]
    proxy = OddProxy("http://127.0.0.1:9", lambda call, number: odd[number - 1] if number <= len(odd) else fine)
    async with proxy.running(), ControlPlaneClient(proxy.url) as client:
        for location in locations:
            with pytest.raises(ControlPlaneError) as raised:
                await client.request("POST", "/agents", {})
            assert type(raised.value) is OutcomeUnknown, location
        assert await client.request("POST", "/agents", {}) == {"task_id": "t"}


@pytest.mark.parametrize("cookie", ["name=Jürgen; Path=/", "é=1", "plain=1", "a=\x7f\xff"])
async def test_a_cookie_is_not_kept(cookie: str) -> None:
    answers = [Odd("cookie", http(200, "<html>", Set_Cookie=cookie)), Odd("fine", as_json(200, {"n": 1}))]
    proxy = OddProxy("http://127.0.0.1:9", lambda call, number: answers[min(number, 2) - 1])
    async with proxy.running(), ControlPlaneClient(proxy.url) as client:
        with pytest.raises(OutcomeUnknown):
            await client.request("POST", "/agents", {})
        assert await client.request("POST", "/agents", {}) == {"n": 1}
        assert not client._http.cookies


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "a\0"])
def test_a_key_that_no_header_may_have_is_refused_with_a_sentence(key: str) -> None:
    with pytest.raises(InvalidRequest, match="ARAGORA_API_KEY"):
        ControlPlaneClient("http://127.0.0.1:1", key)


async def test_an_answer_that_trickles_in_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the answer never does."""
    monkeypatch.setattr("aragora_worker.api.CONNECT_S", 0.2)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    async with listening(trickle) as server, ControlPlaneClient(f"http://127.0.0.1:{port_of(server)}") as client:
        with pytest.raises(OutcomeUnknown):
            await client.request("GET", "/tasks", timeout_s=0.3)


def _events(*seqs: int, end: str = "") -> Odd:
    text = "".join(f'id: {seq}\ndata: {{"type": "t", "timestamp": 1.0, "data": {{}}}}\n\n' for seq in seqs)
    return Odd("events", http(200, text + end, "text/event-stream", length=10_000))


async def test_events_continue_after_any_odd_answer_to_their_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once and in order: what was cut is asked for again, after the last that was whole."""
    monkeypatch.setattr("aragora_worker.api.RECONNECT_S", 0.001)
    stood_in = [*ODDITIES, *(Odd(location, http(302, "", Location=location)) for location in _locations()[:7])]
    answers = [_events(1, end='id: 2\ndata: {"type": "t", "ti'), *stood_in, _events(2, 3), _events(4)]
    proxy = OddProxy("http://127.0.0.1:9", lambda call, number: answers[min(number, len(answers)) - 1])
    seen: list[int] = []
    async with proxy.running(), ControlPlaneClient(proxy.url) as client:
        stream: Any = client.events(after=0)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                seen.append(event.seq)
                if event.seq == 4:
                    break
    assert seen == [1, 2, 3, 4]
    assert proxy.resumed == ["0"] + ["1"] * (len(stood_in) + 1) + ["3"]


async def test_a_stream_that_the_api_refuses_ends() -> None:
    async with answered(own(400, "invalid_cursor")) as client:
        with pytest.raises(ApiError):
            await anext(client.events(after=-1))


def test_waits_grow_to_a_bound_and_respect_retry_after() -> None:
    backoff = RetryDelays(Patience(first_s=1.0, most_s=4.0, asked_most_s=9.0))
    unknown = OutcomeUnknown("?")
    for most_s in (1.0, 2.0, 4.0, 4.0):
        assert most_s / 2 <= backoff.next_s(unknown) <= most_s
    assert backoff.next_s(Unavailable("later", None, 7.0)) == 7.0
    assert backoff.next_s(Unavailable("in maintenance", None, 3600.0)) == 9.0
    backoff.reset()
    assert backoff.next_s(unknown) <= 1.0


@pytest.mark.parametrize(
    "error", [ApiError("m", "c", 409), Unavailable("m", "c", 2.0), OutcomeUnknown("m", "c", 2.0, 502)]
)
def test_errors_pickle_unchanged(error: ControlPlaneError) -> None:
    same = pickle.loads(pickle.dumps(error))
    assert (type(same), vars(same), same.args) == (type(error), vars(error), error.args)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), "\ud800"], ids=["nan", "inf", "-inf", "half"]
)
async def test_what_json_does_not_have_is_refused_before_it_is_sent(value: Any) -> None:
    async with ControlPlaneClient("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidRequest, match="leave it out"):
            await client.post("/tasks", {"task_type": "t", "timeout_seconds": value})
