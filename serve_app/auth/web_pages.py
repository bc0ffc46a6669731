"""Web pages: who may call a system that asks nobody for a key.

A browser runs the pages of strangers on the user's machine, where they can reach what listens on loopback. So while every
caller is the local administrator, a call that a page of another origin makes is refused. A page can neither leave out nor
forge the two headers that this is decided by, except that a GET whose answer the page cannot read (an image, a script) comes
without ``Origin``: it passes, and changes nothing. Whatever is no browser (curl, the SDK, workers) sends no ``Origin``.

A check of ``Origin`` alone was rejected: a page whose name its owner points at 127.0.0.1 (DNS rebinding) has the origin that
it calls. Its ``Host`` gives it away, since addresses cannot be rebound.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from starlette.requests import HTTPConnection

from cluster.domain.base.errors import Forbidden

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
#: More than any name of a host and its port.
_MAX_SHOWN = 300


class WebPages:
    """``cors_origins`` are the origins that the operator named; the ``*`` among them, which is the default, names nobody.
    ``on_loopback``: the system can be reached from its own machine only, so its callers use an address or ``localhost``."""

    def __init__(self, cors_origins: Iterable[str], *, on_loopback: bool) -> None:
        named = [_parts(origin) for origin in cors_origins if origin != "*"]
        self._origins = {_origin_of(parts) for parts in named if parts is not None}
        self._hosts = {parts.hostname for parts in named if parts is not None}
        self._on_loopback = on_loopback

    def check(self, connection: HTTPConnection) -> None:
        """Returns if the call is not made by a page of another origin.

        Raises: `Forbidden` if it is, or may be."""
        hosts = connection.headers.getlist("host")
        host = _parts(f"//{hosts[0]}") if len(hosts) == 1 else None
        if hosts and self._on_loopback and not self._is_own(host):
            raise Forbidden(
                f"This system is called by the name {_shown(hosts[0])}, but it listens on loopback without authentication; call "
                "it by 127.0.0.1 or localhost, or name an origin with that host in ARAGORA_CORS_ORIGINS."
            )
        for origin in connection.headers.getlist("origin"):
            if not self._is_admitted(origin, host):
                raise Forbidden(
                    f"A web page of {_shown(origin)} made this call, and authentication is off; name that origin in "
                    "ARAGORA_CORS_ORIGINS if its pages may do everything here."
                )

    def _is_own(self, host: SplitResult | None) -> bool:
        name = None if host is None or host.hostname is None else host.hostname.removesuffix(".")
        return name is not None and (
            name == "localhost" or name.endswith(".localhost") or name in self._hosts or _is_address(name)
        )

    def _is_admitted(self, origin: str, host: SplitResult | None) -> bool:
        parts = _parts(origin)
        if parts is None or not parts.scheme:  # "null", the origin of a file or of a frame in a sandbox, among others
            return False
        if _origin_of(parts) in self._origins:
            return True
        # A proxy in front may end TLS, so the scheme that the page used is not known; a port that is left out is its own.
        return host is not None and (parts.hostname, _port(parts)) == (
            host.hostname,
            host.port or _DEFAULT_PORTS.get(parts.scheme),
        )


def _parts(text: str) -> SplitResult | None:
    """The parts of an origin or a host; None if it is neither."""
    try:
        parts = urlsplit(text)
        # ``port`` raises for what is no number.
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _origin_of(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, _port(parts)


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
