"""Origins: the scheme, host and port that a call goes to, read as the client that makes the call reads them."""

from __future__ import annotations

import functools
from typing import Final

import httpx

MAX_URLS: Final = 10_000
_PORTS: Final = {"http": 80, "https": 443}


@functools.lru_cache(maxsize=MAX_URLS)
def origin_of(url: str) -> str | None:
    """``https://host:443`` of an http or https URL; None if the text is none."""
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError):
        return None
    if parsed.scheme not in _PORTS or not host:
        return None
    shown = f"[{host}]" if ":" in host else host
    return f"{parsed.scheme}://{shown}:{parsed.port or _PORTS[parsed.scheme]}"
