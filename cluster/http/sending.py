"""Sends one HTTP request over the pool itself, and reads the whole answer.

A client library would add cookies, redirects, retries and negotiated encodings. Calls to agents need none of these, and
they cost as much as the request.
"""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpcore
import httpx

from cluster.domain.base.errors import AgentMalformed, EndpointForbidden
from cluster.domain.base.urls import safe_url
from cluster.http.addresses import MAX_ANSWER_BYTES, check_length
from cluster.http.connections import ConnectionPool
from cluster.http.encodings import as_meant

CONNECT_TIMEOUT_S = 10.0
#: How many parsed URLs are remembered.
MAX_URLS = 10_000
#: A body of up to this many bytes is read even if only the head is wanted, because the connection can then be kept.
SHORT_BYTES = 100_000
_ALWAYS = (
    (b"accept", b"*/*"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"aragora-control-plane"),
)
#: What ``send`` raises beside a PeerError: the time was over; the other side could not be reached or broke off.
TIMED_OUT = httpcore.TimeoutException
BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, read to its end. ``headers`` by their names in lower case."""

    status: int
    headers: Mapping[bytes, bytes]
    content: bytes

    def header(self, name: str) -> str:
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def texts(self) -> dict[str, str]:
        """The headers as texts."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()}


@dataclass(frozen=True, slots=True)
class _Target:
    url: httpcore.URL
    headers: tuple[tuple[bytes, bytes], ...]


async def send(
    pool: ConnectionPool,
    timeout_s: float,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes | None,
    *,
    only_head: bool = False,
    received: Callable[[bytes], None] | None = None,
) -> HttpAnswer:
    """Sends a request and returns its answer. ``timeout_s`` bounds the whole call from when it has its slot in the pool, so that
    a server cannot hold it by sending a byte now and then. With ``only_head``, a body is read only if it is known to be short.
    ``received`` gets the body's parts as they come.

    Raises: `EndpointForbidden` if the URL is no http or https URL or its address is forbidden; `AgentUnavailable` if its
    host has no address; `AgentMalformed` if the answer has, or promises, more than MAX_ANSWER_BYTES or is not HTTP;
    ``TIMED_OUT`` and ``BROKEN``."""
    target = _target(url)
    length = () if content is None else ((b"content-length", str(len(content)).encode()),)
    given = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items())
    # An Authorization header that was given (a provider's key) replaces the one that a user in the URL makes.
    own = target.headers[:1] if any(name.lower() == "authorization" for name in headers) else target.headers
    request = httpcore.Request(
        method,
        target.url,
        headers=(*own, *_ALWAYS, *given, *length),
        content=content,
        extensions={"timeout": {"connect": CONNECT_TIMEOUT_S, "read": timeout_s, "write": timeout_s}},
    )
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:
            return await _exchanged(
                pool, request, only_head, lambda: limit.reschedule(loop.time() + timeout_s), received
            )
    except TimeoutError:
        if limit.expired():
            raise httpcore.ReadTimeout from None
        raise


async def _exchanged(
    pool: ConnectionPool,
    request: httpcore.Request,
    only_head: bool,
    begins: Callable[[], None],
    received: Callable[[bytes], None] | None,
) -> HttpAnswer:
    response = await pool.handle_async_request(request, begins)
    answered = {name.lower(): value for name, value in response.headers}
    whole = bytearray()
    try:
        if not only_head or _is_short(answered):
            host = request.url.host.decode("ascii", "replace")
            check_length(answered.get(b"content-length"), host)
            encoding = None if only_head else answered.get(b"content-encoding", b"").decode("latin-1")
            async for chunk in as_meant(response.aiter_stream(), encoding, host):
                whole += chunk
                if len(whole) > MAX_ANSWER_BYTES:
                    raise AgentMalformed(f"{host} sent more than {MAX_ANSWER_BYTES} bytes.")
                if received is not None:
                    received(chunk)
    finally:
        await response.aclose()
    return HttpAnswer(response.status, answered, bytes(whole))


def _is_short(headers: Mapping[bytes, bytes]) -> bool:
    """Whether an answer's body is known to be short. That the length is a number was checked by the HTTP/1.1 parser."""
    return int(headers.get(b"content-length", SHORT_BYTES + 1)) <= SHORT_BYTES


@functools.lru_cache(maxsize=MAX_URLS)
def _target(url: str) -> _Target:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise EndpointForbidden(f"{safe_url(url)} is not a URL.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise EndpointForbidden("An endpoint must be an http or https URL.", "endpoint_forbidden")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise EndpointForbidden("An endpoint's port must be between 1 and 65535.", "endpoint_forbidden")
    headers = [(b"host", parsed.netloc)]
    if parsed.userinfo:
        pair = f"{parsed.username}:{parsed.password}".encode()
        headers.append((b"authorization", b"Basic " + base64.b64encode(pair)))
    at = httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
    return _Target(at, tuple(headers))
