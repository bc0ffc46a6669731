"""URLs as they may be shown: their secrets are masked, and a masked URL is told from a whole one.

One rule says where a user and password end, for a URL alone and for URLs in texts: at the last @ before the path, as clients
read it. If a user or a port seems to stand before the path, and an @ behind it, they end at the last @ of all: that is how a
password reads in which ``/ ? #`` is not percent-encoded. What is before that would pass for a port or for another host.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from aragora_worker.base.urls import MASK, PASSWORD_FORM, without_userinfo

__all__ = ["MASK", "PASSWORD_FORM", "without_userinfo"]

_SCHEME: Final = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.\-]*://")
_AUTHORITY: Final = re.compile(r"[^/?#]*")
#: What follows ``://`` of a URL in a text that other words follow.
_IN_TEXT: Final = re.compile(r"(?<=://)[^\s\"'<>]+")
_PARAMETERS: Final = re.compile(r"[^&;]+")
#: Names of parameters whose values are secrets, by their ends (``api-key``, ``access_token``, ``X-Amz-Signature``).
_SECRET: Final = re.compile(
    r"(key|token|secret|password|passwd|passphrase|pwd|pass|sig|signature|auth|authorization|credentials?|code|jwt|sas)$",
    re.IGNORECASE,
)
#: Hosts to which what is not encrypted leaves no machine.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def _cut_password(rest: str) -> bool:
    """Whether what follows ``://`` seems to have a user or a port, and an @ behind them."""
    authority = _authority(rest)
    return ("@" in authority or ":" in authority.rpartition("]")[2]) and "@" in rest[len(authority) :]


def _authority(rest: str) -> str:
    found = _AUTHORITY.match(rest)
    assert found is not None, "it matches the empty text"
    return found[0]


def _user_end(rest: str) -> int:
    """Where the user and password end in what follows ``://``, behind their @; 0 if there are none."""
    return (rest if _cut_password(rest) else _authority(rest)).rfind("@") + 1


def _split(url: str) -> tuple[str, str, str]:
    """The scheme with its ``://``, the user and password with their @, and the rest. A text without a scheme has only a rest."""
    scheme = _SCHEME.match(url)
    begin = scheme.end() if scheme is not None else 0
    end = begin + (_user_end(url[begin:]) if scheme is not None else 0)
    return url[:begin], url[begin:end], url[end:]


def may_have_cut_password(url: str) -> bool:
    """Whether an @ stands behind what seems to be the user or the port of a URL: it may end a password that is not
    percent-encoded."""
    scheme, user, rest = _split(url)
    return bool(scheme) and _cut_password(user + rest)


def shown_url(url: str) -> str:
    """The URL with ``***`` for its user and password and for the values of parameters whose names look like a secret's, and
    without its fragment, which no call sends. A URL without secrets is unchanged but for that."""
    scheme, user, rest = _split(url)
    address, asks, query = rest.partition("#")[0].partition("?")
    masked = f"{MASK}@" if user else ""
    return scheme + masked + address + asks + _PARAMETERS.sub(lambda found: _masked(found[0]), query)


def safe_url(url: str) -> str:
    """A URL as errors and logs name it: without user, password, query and fragment."""
    scheme, _, rest = _split(url)
    return scheme + rest.partition("#")[0].partition("?")[0]


def _masked(parameter: str) -> str:
    name, _, value = parameter.partition("=")
    return f"{name}={MASK}" if value and _SECRET.search(unquote(name)) else parameter


def is_masked(url: str) -> bool:
    """Whether ``***`` stands for a secret in the URL, as in one that `shown_url` has made."""
    _, user, rest = _split(url)
    query = rest.partition("#")[0].partition("?")[2]
    return MASK in user or any(
        parameter.endswith(f"={MASK}") and _SECRET.search(unquote(parameter.partition("=")[0]))
        for parameter in _PARAMETERS.findall(query)
    )


def without_userinfos(text: str) -> str:
    """A text with any number of URLs in it, without their users and passwords. A URL ends at white space, a quote or an angle
    bracket."""
    return _IN_TEXT.sub(lambda found: _without_user(found[0]), text) if "@" in text else text


def _without_user(rest: str) -> str:
    end = _user_end(rest)
    return f"{MASK}@{rest[end:]}" if end else rest
