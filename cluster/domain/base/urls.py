"""URLs as they may be shown: their secrets are masked, and a masked URL is told from a whole one."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

#: What stands for a secret.
MASK: Final = "***"
#: What to do about a URL that cannot be parsed: most often a password is in it as it is.
PASSWORD_FORM: Final = "write @ : / # ? % in a user or password as %40 %3A %2F %23 %3F %25"
#: The user and password of a URL: all up to the last @ before its path, as httpx reads it.
_USER: Final = re.compile(r"^(\s*[A-Za-z][A-Za-z0-9+.\-]*://)[^/?#]*@")
#: The same in a text around a URL that need not be one.
_USERINFO: Final = re.compile(r"://.*@", re.DOTALL)
_PARAMETERS: Final = re.compile(r"[^&;]+")
#: Names of parameters whose values are secrets, by their ends (``api-key``, ``access_token``, ``X-Amz-Signature``).
_SECRET: Final = re.compile(
    r"(key|token|secret|password|passwd|passphrase|pwd|pass|sig|signature|auth|authorization|credentials?|code|jwt|sas)$",
    re.IGNORECASE,
)


def shown_url(url: str) -> str:
    """The URL with ``***`` for its user and password and for the values of parameters whose names look like a secret's, and
    without its fragment, which no call sends. A URL without secrets is unchanged but for that."""
    address, asks, query = url.partition("#")[0].partition("?")
    return _USER.sub(rf"\g<1>{MASK}@", address) + asks + _PARAMETERS.sub(lambda found: _masked(found[0]), query)


def _masked(parameter: str) -> str:
    name, _, value = parameter.partition("=")
    return f"{name}={MASK}" if value and _SECRET.search(unquote(name)) else parameter


def is_masked(url: str) -> bool:
    """Whether ``***`` stands for a secret in the URL, as in one that `shown_url` has made."""
    address, _, query = url.partition("#")[0].partition("?")
    user = _USER.match(address)
    return (user is not None and MASK in user[0]) or any(
        parameter.endswith(f"={MASK}") and _SECRET.search(unquote(parameter.partition("=")[0]))
        for parameter in _PARAMETERS.findall(query)
    )


def without_userinfo(text: str) -> str:
    """A text with one URL in it, without the URL's user and password. They may hold any character, since a URL that is shown
    may be one that was refused."""
    return _USERINFO.sub(f"://{MASK}@", text)
