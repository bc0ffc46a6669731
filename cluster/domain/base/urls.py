"""URLs as they may be shown."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"://.*@", re.DOTALL)


def without_userinfo(text: str) -> str:
    """A text with one URL in it, without the URL's user and password. They may hold any character, since a URL that is shown
    may be one that was refused."""
    return _USERINFO.sub("://***@", text)
