"""Whether what goes to stores on other machines is encrypted, and the server's certificate checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from cluster.cli.checks.findings import WARNING, Finding, fine, problem
from cluster.settings import Settings

#: Modes of PostgreSQL in which a connection is encrypted or fails. ``prefer``, which is asyncpg's default, falls back to none.
_ENCRYPTED: Final = ("require", "verify-ca", "verify-full")
_CHECKED: Final = ("verify-ca", "verify-full")


async def check_encryption(ours: Settings) -> list[Finding]:
    """A warning for each store on another machine whose URL admits a connection that others can read or answer."""
    database = None if ours.database_url is None else ours.database_url.get_secret_value()
    redis = None if ours.redis_url is None else ours.redis_url.get_secret_value()
    problems = [*_of_database(database), *_of_redis(redis)]
    return problems or [fine("encryption", "no store on another machine is used without TLS")]


def _of_database(url: str | None) -> Sequence[Finding]:
    parts = _remote(url)
    if parts is None:
        return []
    mode = parse_qs(parts.query).get("sslmode", ["prefer"])[-1]
    if mode in _CHECKED:
        return []
    how = "is encrypted, but the server's certificate is not checked" if mode in _ENCRYPTED else "may not be encrypted"
    advice = "Add sslmode=verify-full and sslrootcert=FILE to ARAGORA_DATABASE_URL (docs/deploy.md)."
    return [
        problem("encryption", f"what goes to PostgreSQL on another machine {how} (sslmode={mode})", advice, WARNING)
    ]


def _of_redis(url: str | None) -> Sequence[Finding]:
    parts = _remote(url)
    if parts is None:
        return []
    checks = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1]
    if parts.scheme == "rediss" and checks == "required":
        return []
    how = "is not encrypted"
    if parts.scheme == "rediss":
        how = f"is encrypted, but the server's certificate is not checked (ssl_cert_reqs={checks})"
    advice = "Use rediss:// and ssl_ca_certs=FILE in ARAGORA_REDIS_URL (docs/deploy.md)."
    return [problem("encryption", f"what goes to Redis on another machine {how}", advice, WARNING)]


def _remote(url: str | None) -> SplitResult | None:
    """The URL's parts, if one of its hosts is another machine."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    named = parts.netloc.rpartition("@")[2].split(",") + parse_qs(parts.query).get("host", [])
    return parts if any(_is_remote(_name(host)) for host in named) else None


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
