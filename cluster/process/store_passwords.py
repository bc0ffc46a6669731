"""The passwords inside the URLs of the stores. A weak one is said when a process starts and by the doctor, and stops nothing: the
stores of a development stack have such passwords, and refusing them would not make them better."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import SecretStr

from cluster.domain.access.secret_quality import password_weakness
from cluster.process.store_hosts import is_remote
from cluster.settings import Settings


def weak_store_passwords(settings: Settings) -> Iterator[tuple[str, str]]:
    """(what is wrong, what to do) for each URL of a store whose password can be guessed, or that has none where it is needed."""
    database, redis = _parts(settings.database_url), _parts(settings.redis_url)
    if database is not None:
        # Without one, PostgreSQL may know its client by a certificate, a socket or a password file.
        yield from _weak("ARAGORA_DATABASE_URL", "PostgreSQL", *_credentials(database))
    if redis is not None:
        user, password = _credentials(redis)
        if password or not is_remote(redis):
            yield from _weak("ARAGORA_REDIS_URL", "Redis", user, password)
        else:
            detail = "ARAGORA_REDIS_URL has no password, so whoever reaches Redis can read and change what is in it"
            yield detail, "Set one in Redis (requirepass) and in the URL."


def _weak(variable: str, store: str, user: str, password: str) -> Iterator[tuple[str, str]]:
    problem = password_weakness(password, user) if password else None
    if problem is not None:
        yield f"the password in {variable} is weak: {problem}", f"Give {store} a random one of 20 characters or more."


def _parts(url: SecretStr | None) -> SplitResult | None:
    try:
        return None if url is None else urlsplit(url.get_secret_value())
    except ValueError:
        return None


def _credentials(parts: SplitResult) -> tuple[str, str]:
    """(user, password); each is empty if it is not there. Drivers read both from the query too."""
    query = parse_qs(parts.query)
    user = unquote(parts.username or "") or query.get("user", query.get("username", [""]))[-1]
    return user, unquote(parts.password or "") or query.get("password", [""])[-1]
