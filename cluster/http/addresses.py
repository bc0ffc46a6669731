"""The only way out: an HTTP transport that resolves a name once, checks every address, and connects to one that it checked.

If the name were checked first and the HTTP library then resolved it again, DNS rebinding would defeat the check. So the
check is made where the connection is opened, to the very address that was checked. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence

import httpcore
import httpx

from aragora_worker.reasons import reason
from cluster.domain.base.errors import AgentMalformed, AgentUnavailable, EndpointForbidden, InvalidRequest
from cluster.domain.base.json_values import MAX_BYTES
from cluster.domain.base.urls import PASSWORD_FORM, may_have_cut_password
from cluster.http.connections import ConnectionPool
from cluster.http.encodings import as_meant
from cluster.http.sockets import MAX_WIRE_BYTES, connect

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: All that IANA has given out of IPv6 as global unicast (RFC 3513). ``ipaddress`` takes what is elsewhere for global too, such as
#: the site-local fec0::/10, which some networks still route, and ::ffff:0:0:0/96, which translators make IPv4 of.
_GLOBAL = ipaddress.ip_network("2000::/3")
#: Networks in which no agent can be, even if ``ipaddress`` takes their addresses for global ones: CGNAT, anycast of 6to4 relays,
#: 6to4, Teredo, documentation.
_NOWHERE = tuple(
    ipaddress.ip_network(network)
    for network in ("100.64.0.0/10", "192.88.99.0/24", "2002::/16", "2001::/32", "3fff::/20")
)
MAX_ANSWER_BYTES = MAX_BYTES
#: Names as the system's resolver takes them. Underscores are in the names of Compose services.
_FORM = "write it as http://host:port/path"
_HOST = re.compile(r"[A-Za-z0-9_.\-]+")


def embedded_addresses(address: Address) -> list[Address]:
    """The address itself and every IPv4 address that it carries inside (mapped, NAT64, 6to4, Teredo)."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            found.append(address.ipv4_mapped)
        if address.sixtofour is not None:
            found.append(address.sixtofour)
        if address.teredo is not None:
            found.extend(address.teredo)
        if address in _NAT64:
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def forbidden(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether no agent may be called at the address. ``allowed`` networks are exempt."""
    if any(address in network for network in allowed):
        return False
    if address.version == 6 and address not in _GLOBAL and address not in _NAT64:
        return True
    return any(
        not embedded_address.is_global
        or embedded_address.is_multicast
        or embedded_address.is_unspecified
        or any(embedded_address in nowhere for nowhere in _NOWHERE)
        for embedded_address in embedded_addresses(address)
    )


def _refused(host: str, address: Address) -> EndpointForbidden:
    return EndpointForbidden(
        f"{host} is at {address}, where agents may not be; allow its network with ARAGORA_ALLOWED_NETWORKS.",
        "endpoint_forbidden",
    )


def check_endpoint(endpoint: str, allowed: Sequence[str]) -> None:
    """Refuses what no call could ever reach: a URL that is none, or an address that is forbidden however it is written.

    Other names than localhost are not resolved: they may lead elsewhere tomorrow, so only a call can check them.

    Raises: `InvalidRequest` if it is no http or https URL with a host, or a password may be cut in it; `EndpointForbidden` if
    its address is forbidden."""
    if may_have_cut_password(endpoint):
        raise InvalidRequest(
            f"endpoint has an @ behind its host: {PASSWORD_FORM}, and an @ in a path or query as %40.",
            "invalid_endpoint",
        )
    try:
        url = httpx.URL(endpoint)
    except (httpx.InvalidURL, ValueError):  # its words may quote a password that is not percent-encoded
        raise InvalidRequest(f"endpoint is not a URL; {_FORM}; {PASSWORD_FORM}.", "invalid_endpoint") from None
    if url.scheme not in ("http", "https"):
        raise InvalidRequest("endpoint must be an http or https URL.", "invalid_endpoint")
    host = url.raw_host.decode("ascii").rstrip(".")
    if not host or (":" not in host and not _HOST.fullmatch(host)):
        raise InvalidRequest(f"endpoint names no host; {_FORM}.", "invalid_endpoint")
    if url.port is not None and not 1 <= url.port <= 65_535:
        raise InvalidRequest(f"endpoint has no port from 1 to 65535; {PASSWORD_FORM}.", "invalid_endpoint")
    networks = tuple(ipaddress.ip_network(network) for network in allowed)
    written = _written_addresses(host)
    for address in written:
        if forbidden(address, networks):
            raise _refused(host, address)


def _written_addresses(host: str) -> list[Address]:
    """The addresses that a host stands for without any resolver: an address in any notation that the system's resolver
    understands (``127.1``, ``2130706433``, ``0x7f000001``, ``0177.0.0.1``), or localhost (RFC 6761)."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return [ipaddress.ip_address("127.0.0.1")]
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        return [ipaddress.IPv4Address(socket.inet_aton(host))]
    except OSError:
        return []


async def resolve(host: str, port: int) -> list[Address]:
    """Resolves a name by the system's resolver. Raises: `OSError` if it has no address."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


#: Every address of a name; raises OSError when it has none.
Resolve = Callable[[str, int], Awaitable[list[Address]]]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections: resolves a name once, checks all of its addresses, and connects to one of them.

    It is below the connection pool, so that a pooled connection stays bound to the name for which it was checked, opened
    and, over TLS, verified. ``most_answer_bytes``: of an answer with its framing; None: any number.
    """

    def __init__(
        self, allowed: Sequence[str], resolver: Resolve, most_answer_bytes: int | None = MAX_WIRE_BYTES
    ) -> None:
        self._most_answer_bytes = most_answer_bytes
        self._allowed = tuple(ipaddress.ip_network(network) for network in allowed)
        self._resolver = resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to the first address that answers.

        Raises: `EndpointForbidden` if an address of the host is forbidden; `AgentUnavailable` if it has none; httpcore's
        ConnectError or ConnectTimeout if none can be reached."""
        addresses = await self.checked(host, port)
        for index, address in enumerate(addresses):
            try:
                return await connect(str(address), port, timeout, self._most_answer_bytes)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if index == len(addresses) - 1:
                    raise
        raise AssertionError("unreachable")

    async def checked(self, host: str, port: int) -> list[Address]:
        """All addresses of a name must be allowed, not just the one that is used."""
        addresses = await self._addresses(host, port)
        for address in addresses:
            if forbidden(address, self._allowed):
                raise _refused(host, address)
        return addresses

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        try:
            found = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            why = f"has no address: {reason(error)}" if isinstance(error, OSError) else "is no name"
            raise AgentUnavailable(f"{host} {why}.") from error
        if not found:
            raise AgentUnavailable(f"{host} has no address.")
        return list(dict.fromkeys(found))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class PinnedTransport(httpx.AsyncHTTPTransport):
    """httpx over a pool of checked connections. Redirects are the client's matter, and it does not follow them. ``timeout_s``
    bounds a whole call, head and body."""

    def __init__(self, connections: ConnectionPool, timeout_s: float) -> None:
        self._pool = connections  # type: ignore[assignment]
        self._timeout_s = timeout_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request. Raises: `EndpointForbidden` if the URL is neither http nor https, or its address is forbidden;
        `httpx.ReadTimeout` if the head takes longer than ``timeout_s``."""
        if request.url.scheme not in ("http", "https"):
            raise EndpointForbidden("An endpoint must be an http or https URL.", "endpoint_forbidden")
        until = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(until):
                response = await super().handle_async_request(request)
        except TimeoutError:
            raise httpx.ReadTimeout(_TOO_SLOW) from None
        assert isinstance(response.stream, httpx.AsyncByteStream)
        length = response.headers.get("content-length")
        body = as_meant(response.stream, response.headers.get("content-encoding"), request.url.host)
        response.stream = _Bounded(response.stream, body, request.url.host, until, length)
        # httpx would decompress without a bound, and parse where a redirect leads although it does not follow it.
        for name in ("content-encoding", "location"):
            response.headers.pop(name, None)
        return response


_TOO_SLOW = "The answer was not there in time."


def check_length(length: bytes | str | None, host: str) -> None:
    """Checks the Content-Length of an answer, which the parser has found to be a number, before any of its body is awaited.

    Raises: `AgentMalformed` if the body would be longer than an answer may be."""
    if length is not None and int(length) > MAX_ANSWER_BYTES:
        raise AgentMalformed(f"{host} wants to send more than {MAX_ANSWER_BYTES} bytes.")


class _Bounded(httpx.AsyncByteStream):
    """Breaks off a body that is longer than an answer may be or does not end in time, whoever reads it. ``body`` is what
    ``inner`` becomes."""

    def __init__(
        self,
        inner: httpx.AsyncByteStream,
        body: AsyncIterable[bytes],
        host: str,
        until: float,
        length: str | None,
    ) -> None:
        self._length = length
        self._inner = inner
        self._body = body
        self._host = host
        self._until = until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        check_length(self._length, self._host)
        size = 0
        chunks = aiter(self._body)
        while True:
            try:
                async with asyncio.timeout_at(self._until):  # not around the yield: the reader's time is its own
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise httpx.ReadTimeout(_TOO_SLOW) from None
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise AgentMalformed(f"{self._host} sent more than {MAX_ANSWER_BYTES} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
