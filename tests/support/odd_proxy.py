"""A proxy in front of a real API that answers some calls in ways that are not the API's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import httpx

from tests.support.listening import listening, port_of

#: What a worker calls.
REGISTER, CLAIM, HEARTBEAT, REPORT = CALLS = ("register", "claim", "heartbeat", "report")
STREAM = "stream"
_HOP = {"content-length", "transfer-encoding", "connection", "host"}


@dataclass(frozen=True, slots=True)
class Odd:
    """``handled``: the API has done what was asked before this is answered. ``content`` goes out as it is, then the
    connection breaks; of a cut answer it is only the beginning."""

    name: str
    content: bytes | Callable[[bytes], bytes]
    handled: bool = False

    def __str__(self) -> str:
        return self.name


def http(status: int, body: bytes | str, kind: str = "text/html", length: int | None = None, **headers: str) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(data) if length is None else length}",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def as_json(status: int, value: object, **headers: str) -> bytes:
    return http(status, json.dumps(value), "application/json", **headers)


def own(status: int, code: str, **headers: str) -> bytes:
    """An error in the API's shape."""
    return as_json(status, {"error": f"Our own {code}.", "code": code, "trace_id": "t"}, **headers)


def _all_later(request: bytes) -> bytes:
    """The whole call is answered, and no report is taken; of other calls any wrong answer."""
    reports = json.loads(request or b"{}").get("reports", ())
    results = [
        {"task_id": report["task_id"], "ok": False, "error": "Later.", "code": "actor_unavailable"}
        for report in reports
    ]
    return as_json(200, {"results": results, "total": len(results)})


HTML = "<html><body>Bad Gateway</body></html>"
ODDITIES = (
    Odd("text 500", http(500, "Internal Server Error", "text/plain")),
    Odd("html 502", http(502, HTML)),
    Odd("html 502, handled", http(502, HTML), handled=True),
    Odd("html 503, in maintenance for an hour", http(503, HTML, Retry_After="3600")),
    Odd("html 504, handled", http(504, HTML), handled=True),
    Odd("json 500 of somebody else", as_json(500, {"error": "upstream", "message": "no healthy upstream"})),
    Odd("json 400 of somebody else", as_json(400, {"error": {"message": "bad"}, "code": 17})),
    Odd("json 404 of somebody else", as_json(404, {"detail": "Not Found"})),
    Odd("html 400", http(400, HTML)),
    Odd("html 401", http(401, HTML)),
    Odd("html 403", http(403, HTML)),
    Odd("html 404", http(404, HTML)),
    Odd("html 405", http(405, HTML)),
    Odd("html 409", http(409, HTML)),
    Odd("html 413", http(413, HTML)),
    Odd("html 429", http(429, HTML, Retry_After="0")),
    Odd("unknown status 599", http(599, "")),
    Odd("redirect", http(302, "", Location="/login")),
    Odd("redirect to nowhere", http(308, "", Location="http://[::bad")),
    Odd("not modified", http(304, "")),
    Odd("login page", http(200, "<html>Please log in</html>")),
    Odd("empty 200", http(200, "")),
    Odd("empty 204, handled", http(204, ""), handled=True),
    Odd("json 200, a list", as_json(200, [])),
    Odd("json 200, null", as_json(200, None)),
    Odd("json 200 of somebody else", as_json(200, {"status": "ok"})),
    Odd("json 200, wrong types", as_json(200, {"agent_id": 1, "tasks": [{}], "cancelling": {}, "results": ["x"]})),
    Odd("json 200, too deep", http(200, "[" * 200_000, "application/json")),
    Odd("json in a broken encoding", http(200, b'{"tasks": "\xff\xfe', "application/json; charset=utf-8")),
    Odd("json in an unknown encoding", http(200, "{}", "application/json; charset=none-such")),
    Odd("gzip that is none", http(200, "plain", "application/json", Content_Encoding="gzip"), handled=True),
    Odd("cut body", http(200, '{"tasks": [', "application/json", length=5000)),
    Odd("cut body, handled", http(200, '{"tasks": [', "application/json", length=5000), handled=True),
    Odd("cut head, handled", b"HTTP/1.1 200 OK\r\nContent-", handled=True),
    Odd("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n"),
    Odd("reset before", b""),
    Odd("reset after", b"", handled=True),
    Odd("own 500", own(500, "internal_error")),
    Odd("own 500, handled", own(500, "internal_error"), handled=True),
    Odd("own 503", own(503, "store_unavailable", Retry_After="1")),
    Odd("own 429", own(429, "overloaded", Retry_After="now")),
    Odd("reports for later", _all_later),
)


def call_of(method: str, path: str) -> str:
    if method != "POST":
        return STREAM if path.partition("?")[0].endswith("/stream") else "other"
    ends = {"/agents": REGISTER, "/tasks/claim": CLAIM, "/heartbeat": HEARTBEAT, "/tasks/complete": REPORT}
    return next((call for end, call in ends.items() if path.endswith(end)), "other")


#: (the call, its number among those of its kind) → what is answered instead; None lets it through.
Script = Callable[[str, int], Odd | None]
#: Answers nothing more, and does not end either.
HANGS = "hangs"


class OddProxy:
    """``counts``: calls of each kind; ``odd``: those that were answered oddly; ``resumed``: Last-Event-ID of streams."""

    def __init__(self, target: str, script: Script, most_bytes: int | None = None) -> None:
        self.script = script
        self._most_bytes = most_bytes
        self.counts: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.resumed: list[str | None] = []
        self.url = ""
        self._target = target
        self._http: httpx.AsyncClient

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[OddProxy]:
        async with (
            httpx.AsyncClient(base_url=self._target, timeout=60) as self._http,
            listening(self._connected) as server,
        ):
            self.url = f"http://127.0.0.1:{port_of(server)}"
            yield self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._answered(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    def _too_large(self, body: bytes) -> Odd | None:
        fits = self._most_bytes is None or len(body) <= self._most_bytes
        return None if fits else Odd("too large", http(413, HTML))

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection lives on."""
        method, path, headers = await _head(reader)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        call = call_of(method, path)
        self.counts[call] += 1
        if call == STREAM:
            self.resumed.append(headers.get("last-event-id"))
        odd = self.script(call, self.counts[call]) or self._too_large(body)
        if odd is None or odd.handled:
            kept = {name: value for name, value in headers.items() if name not in _HOP}
            asked = asyncio.ensure_future(self._http.request(method, path, content=body, headers=kept))
            answer = await _unless_hung_up(asked, reader)
            if odd is None:
                writer.write(http(answer.status_code, answer.content, answer.headers.get("content-type", "")))
                await writer.drain()
                return True
        self.odd[call] += 1
        content = odd.content(body) if callable(odd.content) else odd.content
        writer.write(content)
        await writer.drain()
        if content:
            if odd.name != HANGS:
                writer.write_eof()
            await reader.read()  # until the client has gone, or a reset would overtake what was written
        return False


async def _unless_hung_up(asked: asyncio.Future[httpx.Response], reader: asyncio.StreamReader) -> httpx.Response:
    """Passes the client's hanging up on, as proxies do. (A client that waits for an answer sends nothing.)"""
    hung_up = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({asked, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ConnectionResetError
        return asked.result()
    except httpx.TransportError as error:
        raise ConnectionResetError from error
    finally:
        for task in (hung_up, asked):
            task.cancel()
        await asyncio.gather(hung_up, asked, return_exceptions=True)


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, Mapping[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    pairs = (line.partition(":") for line in lines[1:] if line)
    return method, path, {name.lower(): value.strip() for name, _, value in pairs}
