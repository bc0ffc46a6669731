"""The address of the client whose call proxies have handed on.

Each proxy appends the address from which it was called to X-Forwarded-For, so an entry is worth as much as whoever wrote it:
from the right, entries count as long as a proxy that we trust has written them. The first address from the right that is not
such a proxy's is the client's; what stands before it, the client may have written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORT = re.compile(r":[0-9]{1,5}")
#: No form of an address with a port is longer.
_MAX_CHARS = 60
#: The smallest network that one household or server gets.
_HOME_BITS = 64


def parsed_address(text: str) -> Address | None:
    """An address, with or without a port; None if it is something else, such as ``unknown``."""
    text = text.strip(" \t")
    if len(text) > _MAX_CHARS:
        return None
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        version = 6 if bracket else -1
    elif text.count(":") == 1:
        text, colon, port = text.partition(":")
        port, version = colon + port, 4
    else:
        port, version = "", 0
    if port and not _PORT.fullmatch(port):
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if version not in (0, address.version) or "%" in text:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def client_address(caller: Address, forwarded: Sequence[str], trusted: Sequence[Network]) -> Address:
    """The client's address, where ``caller`` is who called us and ``forwarded`` are the values of X-Forwarded-For in their order.

    An entry that is no address ends the way back: then the proxy that wrote it is all that is known."""
    rest = ",".join(forwarded)
    while rest and is_in(caller, trusted):
        rest, _, entry = rest.rpartition(",")
        found = parsed_address(entry)
        if found is None:
            return caller
        caller = found
    return caller


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    return any(address in network for network in networks)


def forwarded_as_https(caller: Address, protocols: Sequence[str], trusted: Sequence[Network]) -> bool:
    """Whether a proxy that we trust says that the client used HTTPS (X-Forwarded-Proto). Of several values each has to say so,
    since nobody knows which proxy wrote which."""
    values = [value.strip(" \t").lower() for value in ",".join(protocols).split(",")]
    return is_in(caller, trusted) and all(value in ("https", "wss") for value in values)


def group_of(address: Address) -> str:
    """What one client is held to be: an address, and of IPv6 the network of a household, which has 2**64 of them."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((address, _HOME_BITS), strict=False))
