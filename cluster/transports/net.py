"""The one way out: an HTTP transport that resolves once, checks every address, and connects to the one it checked.

Checking a name and letting the HTTP library resolve it again is broken by DNS rebinding, so the connection is made to
the checked address, with the original name in Host and SNI. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx

from cluster.domain.errors import AgentUnavailable, EndpointForbidden

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
_TEREDO = ipaddress.ip_network("2001::/32")
_CGNAT = ipaddress.ip_network("100.64.0.0/10")
MAX_ANSWER_BYTES = 4_000_000


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
    """Whether agents may not be called there. ``allowed`` networks are exempt."""
    if any(address in network for network in allowed):
        return False
    return any(
        not one.is_global or one.is_multicast or one.is_unspecified or one in _CGNAT or one in _SIX_TO_FOUR
        for one in embedded_addresses(address)
    )


class PinnedTransport(httpx.AsyncBaseTransport):
    def __init__(self, *, allowed: Sequence[str], pool_size: int) -> None:
        self._allowed = tuple(ipaddress.ip_network(network) for network in allowed)
        limits = httpx.Limits(max_connections=pool_size, max_keepalive_connections=pool_size)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, retries=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in ("http", "https"):
            raise EndpointForbidden("An endpoint must be an http or https URL.", "endpoint_forbidden")
        host = request.url.host
        address = await self._checked_address(host, request.url.port or (443 if request.url.scheme == "https" else 80))
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=str(address))
        return await self._inner.handle_async_request(request)

    async def _checked_address(self, host: str, port: int) -> Address:
        """All addresses of a name must be allowed, not just the one that is used."""
        addresses = await _resolve(host, port)
        for address in addresses:
            if forbidden(address, self._allowed):
                raise EndpointForbidden(
                    f"{host} is at {address}, where agents may not be; allow its network with ARAGORA_ALLOWED_NETWORKS.",
                    "endpoint_forbidden",
                )
        return addresses[0]

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AgentUnavailable(f"{host} has no address: {error}.") from error
    return [ipaddress.ip_address(entry[4][0]) for entry in found]
