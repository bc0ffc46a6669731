"""Origins: the scheme, host and port that a call goes to, read as the client that makes the call reads them."""

from __future__ import annotations

import functools
from typing import Final

import httpx

MAX_URLS: Final = 10_000
_PORTS: Final = {"http": 80, "https": 443}


@functools.lru_cache(maxsize=MAX_URLS)
def origin_of(url: str) -> str | None:
    """``https://host:443`` of an http or https URL; None if the text is none, or has a port that there is not."""
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError):
        return None
    port = _PORTS.get(parsed.scheme, 0) if parsed.port is None else parsed.port
    if not host or not 1 <= port <= 65_535 or parsed.scheme not in _PORTS:
        return None
    shown = f"[{host}]" if ":" in host else host
    return f"{parsed.scheme}://{shown}:{port}"
