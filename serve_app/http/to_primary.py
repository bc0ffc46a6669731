"""Calls that only the zone's primary can answer are forwarded to its API, so that clients need one address: any region's.

The primary alone decides about them, who calls included: nothing of the call is looked at or stored here. It learns of the
client's address as from a proxy, by X-Forwarded-For, which counts if its ARAGORA_TRUSTED_PROXIES names this region.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Set
from typing import Final
from urllib.parse import quote

import httpcore
from starlette.types import Receive, Scope, Send

from aragora_worker.reasons import reason
from cluster.domain.base.errors import AgentMalformed
from cluster.http.forwarding import ForwardedCall, Headers, RegionForwarding, outcome_unknown, regions_context
from cluster.http.sending import BROKEN, TIMED_OUT
from cluster.log.replication_gate import ReplicationGate
from cluster.process import front, spans
from cluster.process.waits import LONGEST_CALL_S
from cluster.settings import Settings
from serve_app.auth.clients import UNKNOWN, Clients
from serve_app.http.body_bounds import whole_body
from serve_app.http.hang_ups import hung_up

_logger = logging.getLogger(__name__)
#: Names the region that has forwarded a call. Whoever gets one forwards it no further: regions that take each other for the
#: primary would send it in circles.
FORWARDED_BY: Final = b"x-aragora-forwarded-by"
#: Of one connection (RFC 9110, 7.6.1), and what says how long the body is and how it comes, which is said anew.
_OF_CONNECTION: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade "
    b"content-length".split()
)
#: What this region says itself, and what asks for something that it does not do.
_NOT_SENT: Final = _OF_CONNECTION | frozenset(
    b"host expect accept-encoding forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-real-ip".split()
)
#: What this region's own layers and server add to each answer, and what is of the primary's address.
_NOT_ANSWERED: Final = _OF_CONNECTION - {b"content-length"} | frozenset(
    b"date server alt-svc x-trace-id x-aragora-primary x-aragora-staleness strict-transport-security".split()
)
_CORS: Final = b"access-control-"
_FRONT: Final = front.PREFIX.encode()
_CERTIFICATE: Final = front.CERTIFICATE.encode()


def to_primary(settings: Settings, clients: Clients) -> ToPrimary:
    """What forwards calls by the settings. Raises: `InvalidRequest` if a file that they name cannot be used."""
    tls = regions_context(settings.region_urls_ca_file)
    return ToPrimary(settings.region, RegionForwarding(tls, LONGEST_CALL_S), clients)


class ToPrimary:
    """``region``: the name of this one."""

    def __init__(self, region: str, forwarding: RegionForwarding, clients: Clients) -> None:
        self._region = region
        self._forwarding = forwarding
        self._clients = clients

    def address(self, scope: Scope, gate: ReplicationGate) -> tuple[str, str] | None:
        """To whom a call can be forwarded: the primary and its URL. None if another region has forwarded it already, the primary
        or its URL is not known, or the call shows an agent's certificate: only the agent itself can show it to the primary."""
        primary, url = gate.primary
        names = {name for name, _ in scope["headers"]}
        if primary is None or url is None or primary == self._region or names & {FORWARDED_BY, _CERTIFICATE}:
            return None
        return primary, url

    async def answer(
        self, to: tuple[str, str], scope: Scope, receive: Receive, send: Send, gate: ReplicationGate, more: Headers
    ) -> None:
        """Forwards a call and sends its answer, with ``more`` headers. A client that hangs up ends the call, as it would there.

        Raises: `TryLater` or `InvalidRequest` before anything was sent, as `RegionForwarding.send`, or if the zone has another
        primary meanwhile: the former one may never answer."""
        body = await whole_body(receive)
        if body is None:
            return
        begun = asyncio.Event()
        request = ForwardedCall(*to, scope["method"], _target(scope), self._headers(scope), body)
        call = asyncio.ensure_future(self._call(request, send, more, begun))
        hang_up = asyncio.ensure_future(hung_up(receive))
        replaced = asyncio.ensure_future(gate.names_another(to[0]))
        try:
            await asyncio.wait({call, hang_up, replaced}, return_when=asyncio.FIRST_COMPLETED)
            if begun.is_set():
                await asyncio.wait({call, hang_up}, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                call.result()
            elif not hang_up.done():
                raise outcome_unknown(to[0])
        finally:
            for task in (call, hang_up, replaced):
                task.cancel()
            await asyncio.gather(call, hang_up, replaced, return_exceptions=True)

    async def close(self) -> None:
        """Closes the connections."""
        await self._forwarding.close()

    async def _call(self, request: ForwardedCall, send: Send, more: Headers, begun: asyncio.Event) -> None:
        response = await self._forwarding.send(request)
        try:
            begun.set()
            await _pass_on(response, send, more)
        except (TIMED_OUT, *BROKEN, AgentMalformed) as error:
            # The answer ends without its end. So does the connection, by which the client knows it.
            _logger.warning("an answer of the primary, %s, broke off: %s", request.region, reason(error))
        finally:
            await self._forwarding.release(response)

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        headers = [each for each in _kept(scope["headers"], _NOT_SENT) if not each[0].startswith(_FRONT)]
        trace_id = scope["state"]["trace_id"].encode()
        if (b"x-request-id", trace_id) not in headers:
            # Not x-request-id, which is also the id of a deliberation.
            headers = [header for header in headers if header[0] != b"x-correlation-id"]
            headers.append((b"x-correlation-id", trace_id))
        if spans.tracer is not None and spans.header():
            headers = [header for header in headers if header[0] != b"traceparent"]
            headers.append((b"traceparent", spans.header().encode()))
        address = self._clients.address(scope)
        if address != UNKNOWN:
            headers.append((b"x-forwarded-for", address.encode()))
        scheme = b"https" if self._clients.uses_tls(scope) else b"http"
        return [
            *headers,
            (b"x-forwarded-proto", scheme),
            (b"accept-encoding", b"identity"),
            (FORWARDED_BY, self._region.encode()),
        ]


def _target(scope: Scope) -> bytes:
    """Path and query as the client sent them."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def _kept(headers: Iterable[tuple[bytes, bytes]], left_out: Set[bytes]) -> list[tuple[bytes, bytes]]:
    """Headers by their names in lower case, but for some and those that are of the connection alone."""
    found = [(name.lower(), value) for name, value in headers]
    named = {
        word.strip().lower() for name, value in found if name == b"connection" for word in value.split(b",")
    } | left_out
    return [each for each in found if each[0] not in named]


async def _pass_on(response: httpcore.Response, send: Send, more: Headers) -> None:
    headers = [each for each in _kept(response.headers, _NOT_ANSWERED) if not each[0].startswith(_CORS)]
    await send({"type": "http.response.start", "status": response.status, "headers": [*headers, *more]})
    async for part in response.aiter_stream():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
