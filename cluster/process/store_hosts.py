"""Whether a store is on another machine, by its URL."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, parse_qs


def is_remote(parts: SplitResult) -> bool:
    """Whether one of the hosts that a URL names is another machine."""
    named = parts.netloc.rpartition("@")[2].split(",") + parse_qs(parts.query).get("host", [])
    return any(_is_remote(_name(host)) for host in named)


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_remote(host: str) -> bool:
    if not host or host.startswith("/") or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
