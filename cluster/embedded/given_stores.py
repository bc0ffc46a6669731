"""Checks the stores whose URLs are set, before anything is started: whoever mistypes a URL is told at once, in a sentence.

Otherwise Ray would start first, and the actors would wait for a store that is never there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import re
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import redis.asyncio
from redis import exceptions

from cluster.embedded.layout import EmbeddedError
from cluster.settings import Settings

ANSWER_S = 1.5
#: How much longer the thread may take that asks them, whose wait for a name cannot be interrupted.
RESOLVE_S = 0.3

#: Returns what is wrong with the store at a URL, without the variable's name; None if it can be used.
Check = Callable[[str], Coroutine[Any, Any, str | None]]


def check_given_stores(settings: Settings, answer_s: float = ANSWER_S) -> None:
    """Connects to the stores for which a URL is set. Raises: `EmbeddedError` if one cannot be used, within 2 s."""
    checks: dict[str, tuple[Check, str]] = {}
    if settings.database_url is not None:
        checks["ARAGORA_DATABASE_URL"] = (_postgres(settings.database_schema), settings.database_url.get_secret_value())
    if settings.redis_url is not None:
        checks["ARAGORA_REDIS_URL"] = (_redis, settings.redis_url.get_secret_value())
    if not checks:
        return
    problems = _problems(checks, answer_s)
    if problems:
        raise EmbeddedError(" ".join(problems))


def _problems(checks: dict[str, tuple[Check, str]], answer_s: float) -> list[str]:
    """A sentence for each store that cannot be used. The checks run in a thread that is left behind if it is late, because a
    name that is being resolved cannot be interrupted."""
    found: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    async def bounded(name: str, check: Check, url: str) -> str:
        where = _where(url)
        try:
            async with asyncio.timeout(answer_s):
                problem = _missing_file(url) or await check(url)
        except TimeoutError:
            problem = f"did not answer within {answer_s:g} s; check that it runs there and speaks this protocol"
        return "" if problem is None else f"{name}: the server at {where} {problem}."

    async def every() -> list[str]:
        return await asyncio.gather(*(bounded(name, check, url) for name, (check, url) in checks.items()))

    threading.Thread(target=lambda: found.put(asyncio.run(every())), daemon=True).start()
    try:
        return [problem for problem in found.get(timeout=answer_s + RESOLVE_S) if problem]
    except queue.Empty:
        servers = ", ".join(f"{name} ({_where(url)})" for name, (_, url) in checks.items())
        return [f"The stores that are set did not answer within {answer_s:g} s: {servers}; check their host names."]


def _where(url: str) -> str:
    """Host and port, or the socket, without user and password."""
    parts = urlsplit(url)
    host = unquote(parts.netloc.rpartition("@")[2])
    if host or parts.scheme == "unix":
        return host or unquote(parts.path)
    return parse_qs(parts.query).get("host", ["the default address"])[0]


#: Options of a URL that name files. What connects says that one is missing, and not which.
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _missing_file(url: str) -> str | None:
    options = parse_qs(urlsplit(url).query)
    missing = [file for name in _FILES for file in options.get(name, ()) if file and not Path(file).exists()]
    return f"cannot be asked: its URL names {missing[0]}, which does not exist; correct the URL" if missing else None


def _why(error: asyncpg.InvalidAuthorizationSpecificationError) -> str:
    """The server's words, unless the password alone is wrong: a rule of pg_hba.conf may ask for TLS or for a certificate."""
    return "" if isinstance(error, asyncpg.InvalidPasswordError) else f" ({_plain(error)})"


def _postgres(schema: str) -> Check:
    async def check(url: str) -> str | None:
        try:
            connection = await asyncpg.connect(url)
        except asyncpg.InvalidCatalogNameError:
            return f"has no database {_database(url)}; create it, or correct the URL"
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            return f"refuses the user or the password{_why(error)}; correct the URL"
        except asyncpg.PostgresError as error:
            return f"refuses the connection: {_plain(error)}"
        except ssl.SSLError as error:  # one about a certificate is a ValueError too
            return _unreachable(error)
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, UnicodeError):
            return "cannot be asked with this URL, or is no PostgreSQL; correct the URL"
        except OSError as error:
            return _unreachable(error)
        try:
            is_standby, may_create = await connection.fetchrow(
                "select pg_is_in_recovery(), to_regnamespace($1) is not null"
                " or has_database_privilege(current_database(), 'create')",
                schema,
            )
        except asyncpg.PostgresError as error:
            return f"refuses a query: {_plain(error)}"
        finally:
            connection.terminate()
        if is_standby:
            return "is a standby, which can only be read; name the primary"
        return None if may_create else f"lets this user create no schema {schema}; grant create on the database"

    return check


def _database(url: str) -> str:
    return unquote(urlsplit(url).path.lstrip("/")) or "of the user's name"


async def _redis(url: str) -> str | None:
    try:
        client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=None, socket_timeout=None)
    except (ValueError, TypeError, exceptions.RedisError):
        return "cannot be asked with this URL; correct it"
    try:
        await client.ping()
    except TypeError:  # an option of the URL that no connection takes
        return "cannot be asked with this URL: it has an unknown option; correct it"
    except (exceptions.ConnectionError, exceptions.ResponseError) as error:
        return _redis_refusal(error)
    except (exceptions.RedisError, UnicodeError, ValueError):
        return "does not speak Redis; correct the URL"
    except OSError as error:
        return _unreachable(error)
    finally:
        await client.aclose()
    return None


def _redis_refusal(error: exceptions.RedisError) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ConnectionResetError):
        # So does a server end what is not TLS, or shows no certificate that it asks for: TLS 1.3 says neither in time.
        return (
            f"cannot be reached: {os.strerror(cause.errno or errno.ECONNRESET)}; use rediss:// if it speaks TLS, and "
            "ssl_certfile and ssl_keyfile if it asks for a client's certificate"
        )
    if isinstance(cause, OSError):
        return _unreachable(cause)
    # redis-py raises a plain ConnectionError for a refused HELLO, so the server's words decide.
    if isinstance(error, exceptions.AuthenticationError) or re.search("(?i)password|authenticat|noauth", str(error)):
        return "refuses the user or the password; correct the URL"
    if "closed by server" in str(error):
        return "does not speak Redis; correct the URL"
    return f"refuses the connection: {_plain(error)}"


def _unreachable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):  # its number is not one of the system's
        words = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
        reason = f"TLS fails ({_plain_text(words) or _plain(error)})"
    elif error.errno is not None and error.errno > 0:
        reason = os.strerror(error.errno)
    else:
        reason = error.strerror or _plain(error) or type(error).__name__
    return f"cannot be reached: {reason}; start it, or correct the URL"


def _plain(error: Exception) -> str:
    return _plain_text(str(error))


def _plain_text(text: str) -> str:
    return re.sub(r"[\s.]+$", "", " ".join(text.split()))[:200]
