"""Where a call goes instead when the region that was called is not in its workspace's zone (421 ``wrong_zone``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import httpx

WRONG_ZONE: Final = "wrong_zone"
_STATUS: Final = 421


class KnownRegions:
    """``urls``: the only addresses that credentials are sent to, whatever an answer says."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._known = {_comparable(url): url.rstrip("/") for url in urls}

    def instead(self, asked: str, answer: httpx.Response) -> str | None:
        """The address that an answer of ``asked`` names instead, as it was given to us; None if it names none, the same, or one
        that is not known. The body has been read."""
        if answer.status_code != _STATUS:
            return None
        try:
            body = answer.json()
            named = body.get("url") if body.get("code") == WRONG_ZONE else None
            found = self._known.get(_comparable(named)) if isinstance(named, str) else None
        except (ValueError, LookupError, RecursionError, AttributeError, httpx.InvalidURL):
            return None
        return None if found is None or _comparable(found) == _comparable(asked) else found


def _comparable(url: str) -> tuple[str, str, int | None, str]:
    """Raises: `httpx.InvalidURL`."""
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port, parsed.path.rstrip("/")
