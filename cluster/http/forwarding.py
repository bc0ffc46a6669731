"""Forwards a whole call to the API of another region, and gives its answer back as it comes.

The pool is that of calls to agents, without what guards against them: an operator has named the addresses, and an answer of ours
may be longer than an agent's.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpcore
import httpx

from aragora_worker.reasons import reason
from cluster.domain.base.errors import AgentUnavailable, InvalidRequest, Overloaded, PeerError, TryLater
from cluster.http.addresses import PinnedBackend, resolve
from cluster.http.connections import ConnectionPool
from cluster.http.sending import BROKEN, TIMED_OUT

Headers = Sequence[tuple[bytes, bytes]]
#: A packet that was lost on the way to another region is sent again after a second.
CONNECT_S: Final = 2.0
#: Calls of one process that are forwarded at the same time; each has a connection.
MAX_FORWARDED: Final = 2000
_EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
#: What servers let through in a path, and no request may have.
_UNPRINTABLE: Final = re.compile(rb"[^!-~]")


def outcome_unknown(region: str) -> TryLater:
    """The error of a call that was sent, and whose answer nobody has."""
    return TryLater(
        f"The zone's primary, {region}, has not answered, so the outcome of this call is not known; repeat it with the same "
        "idempotency key.",
        "not_replicated",
    )


def regions_context(authority: Path | None) -> ssl.SSLContext:
    """What is trusted of other regions' APIs. Raises: `InvalidRequest` if the file cannot be used."""
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidRequest(
            f"ARAGORA_REGION_URLS_CA_FILE cannot be used ({error.strerror or error}); mend the file."
        ) from error


@dataclass(frozen=True, slots=True)
class ForwardedCall:
    """``region``: who gets it, at ``url``. ``target``: path and query, as the client sent them."""

    region: str
    url: str
    method: str
    target: bytes
    headers: Headers
    body: bytes

    def request(self, answer_s: float) -> httpcore.Request:
        """What is sent."""
        base = httpx.URL(self.url)
        path = base.raw_path.rstrip(b"/") + _UNPRINTABLE.sub(lambda found: b"%%%02X" % found[0][0], self.target)
        has_body = self.body or self.method not in ("GET", "HEAD", "OPTIONS")
        length = [(b"content-length", str(len(self.body)).encode())] if has_body else []
        return httpcore.Request(
            self.method,
            httpcore.URL(scheme=base.raw_scheme, host=base.raw_host, port=base.port, target=path),
            headers=[(b"host", base.netloc), *self.headers, *length],
            content=self.body,
            extensions={"timeout": {"connect": CONNECT_S, "read": answer_s, "write": answer_s}},
        )


class RegionForwarding:
    """The connections of one process to other regions' APIs. ``answer_s``: how long an answer may take to begin, and then each of
    its parts."""

    def __init__(self, tls: ssl.SSLContext, answer_s: float) -> None:
        backend = PinnedBackend(_EVERYWHERE, resolve, most_answer_bytes=None)
        self._pool = ConnectionPool(size=MAX_FORWARDED, kept=MAX_FORWARDED, tls=tls, backend=backend)
        self._answer_s = answer_s
        self._open = 0

    async def send(self, call: ForwardedCall) -> httpcore.Response:
        """The head of the answer; whoever gets it calls ``release`` when it has read the rest.

        Raises: `TryLater` with ``not_primary`` if nothing was sent, else with ``not_replicated``; `Overloaded` if too many calls
        are under way; `InvalidRequest` if no server may be sent the call."""
        if self._open >= MAX_FORWARDED:
            raise Overloaded(
                f"{MAX_FORWARDED} calls wait here for the zone's primary, {call.region}; ask it directly, or try again later."
            )
        self._open += 1
        response: httpcore.Response | None = None
        try:
            async with asyncio.timeout(self._answer_s):
                response = await self._pool.handle_async_request(call.request(self._answer_s))
        except (TimeoutError, TIMED_OUT, PeerError, *BROKEN) as error:
            raise _meant(error, call.region) from error
        finally:
            if response is None:
                self._open -= 1
        return response

    async def release(self, response: httpcore.Response) -> None:
        """Gives the connection of an answer back."""
        self._open -= 1
        await response.aclose()

    async def close(self) -> None:
        """Closes the idle connections."""
        await self._pool.aclose()


def _meant(error: Exception, region: str) -> TryLater | InvalidRequest:
    """What an error of the pool says of the call."""
    if isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout, AgentUnavailable)):
        why = error.message.rstrip(".") if isinstance(error, AgentUnavailable) else reason(error)
        return TryLater(
            f"The zone's primary, {region}, cannot be reached from this region ({why}); try again in a moment.",
            "not_primary",
        )
    if isinstance(error, httpcore.LocalProtocolError):
        return InvalidRequest("This call has a method or header that HTTP does not allow; send it without.")
    return outcome_unknown(region)
