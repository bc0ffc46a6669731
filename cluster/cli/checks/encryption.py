"""Whether what goes to stores on other machines is encrypted, the server's certificate checked, and their passwords good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from cluster.cli.checks.findings import WARNING, Finding, fine, problem
from cluster.process.store_hosts import is_remote
from cluster.process.store_passwords import weak_store_passwords
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


async def check_passwords(ours: Settings) -> list[Finding]:
    """A warning for each store whose password can be guessed."""
    weak = [problem("passwords", detail, advice, WARNING) for detail, advice in weak_store_passwords(ours)]
    return weak or [fine("passwords", "none in the URLs of the stores is known to be weak")]


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
    return parts if is_remote(parts) else None
