"""From where a call comes, and whether it came encrypted.

Who calls a replica is HAProxy, which says the address of its own caller and proves that it is HAProxy (`cluster.process.front`).
That is a client, or a proxy of ARAGORA_TRUSTED_PROXIES which says more (`cluster.domain.access.client_address`).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any, Final

from cluster.domain.access.client_address import (
    Address,
    client_address,
    forwarded_as_https,
    group_of,
    parsed_address,
)
from cluster.process import front

_PROOF: Final = front.PROOF.encode()
_ADDRESS: Final = front.ADDRESS.encode()
#: A caller of whom nothing is known, as over a Unix socket.
UNKNOWN: Final = "unknown"

Headers = Iterable[tuple[bytes, bytes]]


class Clients:
    """``trusted_proxies`` are networks. ``proof`` is what the front shows; None: what it says counts for nothing. ``serves_tls``:
    whoever calls the front does so encrypted."""

    def __init__(self, trusted_proxies: Iterable[str] = (), proof: str | None = None, serves_tls: bool = False) -> None:
        self._trusted = [ip_network(network) for network in trusted_proxies]
        self._proof = None if proof is None else proof.encode()
        self._serves_tls = serves_tls

    def address(self, scope: Mapping[str, Any]) -> str:
        """The client's address; ``unknown`` if there is none."""
        found = self._client(scope)
        return UNKNOWN if found is None else str(found)

    def group(self, scope: Mapping[str, Any]) -> str:
        """What is held to be one client (`group_of`)."""
        found = self._client(scope)
        return UNKNOWN if found is None else group_of(found)

    def uses_tls(self, scope: Mapping[str, Any]) -> bool:
        """Whether the client's call was encrypted on its way to us or to a proxy that we trust."""
        if self._serves_tls or not self._trusted:
            return self._serves_tls
        caller = self._caller(scope)
        protocols = _values(scope["headers"], b"x-forwarded-proto")
        return caller is not None and forwarded_as_https(caller, protocols, self._trusted)

    def _client(self, scope: Mapping[str, Any]) -> Address | None:
        caller = self._caller(scope)
        if caller is None or not self._trusted:
            return caller
        return client_address(caller, _values(scope["headers"], b"x-forwarded-for"), self._trusted)

    def _caller(self, scope: Mapping[str, Any]) -> Address | None:
        if self._proof is not None:
            headers = dict(scope["headers"])
            if hmac.compare_digest(headers.get(_PROOF, b""), self._proof):
                return parsed_address(headers.get(_ADDRESS, b"").decode("latin-1"))
        peer = scope.get("client")
        return None if not peer else parsed_address(str(peer[0]))


def _values(headers: Headers, sought: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == sought]
