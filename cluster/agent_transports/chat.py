"""Asks agents over HTTP: with one bounded pool per provider, and retries within the deadline that respect Retry-After."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from cluster.agent_transports.wire_formats import FORMATS, WireFormat, sse_events
from cluster.domain.base.errors import AgentLimited, AgentRefused, AgentTimeout, AgentUnavailable
from cluster.domain.base.json_values import parse_json
from cluster.http.addresses import PinnedBackend, PinnedTransport, Resolve, resolve, safe_url
from cluster.http.connections import ConnectionPool
from cluster.http.sending import BROKEN, CONNECT_TIMEOUT_S, MAX_URLS, TIMED_OUT, HttpAnswer, send
from cluster.ports.agent_transport import THE_ANSWER, Ask, Reply, judged

_RETRIES = 2
_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 60.0
_PROBE_TIMEOUT_S = 10.0
#: Providers beyond this many share one pool.
MAX_POOLS = 64
#: How many endpoints without structured output are remembered.
MAX_UNSTRUCTURED = 1000
#: A Retry-After that is longer counts as this.
_MAX_WAIT_S = 366 * 86_400.0
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_NO_STRUCTURED_OUTPUT = (400, 404, 415, 422, 501)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of models. Its headers, which hold the key, are sent to its own base URL and nowhere else."""

    base_url: str
    headers: Mapping[str, str]

    def owns(self, endpoint: str) -> bool:
        """Whether the endpoint is on the provider's own server."""
        return _server(self.base_url) == _server(endpoint)

    def __repr__(self) -> str:
        return f"Provider(base_url={self.base_url!r}, headers=***)"


@dataclass(frozen=True, slots=True)
class _Answer:
    content: bytes
    streamed: bool


@dataclass(frozen=True, slots=True)
class _Pool:
    """``client`` uses the same connections; it is for libraries that need an httpx client."""

    connections: ConnectionPool
    client: httpx.AsyncClient


class _Refused(AgentRefused):
    """A refusal with its HTTP status, which tells whether to ask again without structured output."""

    def __init__(self, message: str, code: str | None = None, http_status: int = 400) -> None:
        super().__init__(message, code)
        self.args = (message, code, http_status)
        self.http_status = http_status


@functools.lru_cache(maxsize=MAX_URLS)
def _server(url: str) -> tuple[str, str, int | None] | None:
    """(scheme, host, port) of a URL; None if the text is no URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    return parsed.scheme, parsed.host, parsed.port


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The certificates that the machine trusts. Read once per process, since it takes tens of milliseconds."""
    return ssl.create_default_context()


class HttpTransports:
    """Has one bounded pool for each provider, and one for probes. ``probe_connections`` has to be the number of probes that
    are made at once, so that no probe waits for an endpoint that hangs. ``providers`` say which key belongs to which URL."""

    def __init__(
        self,
        *,
        allowed_networks: Sequence[str],
        pool_size: int,
        timeout_s: float,
        providers: Sequence[Provider] = (),
        resolver: Resolve = resolve,
        probe_connections: int = 1,
    ) -> None:
        self._backend = PinnedBackend(allowed_networks, resolver)
        self._pool_size = pool_size
        self._providers = providers
        self._timeout_s = timeout_s
        self._tls = _trusted()
        self._pools: dict[str, _Pool] = {}
        self._probes = ConnectionPool(size=probe_connections, tls=self._tls, backend=self._backend)
        self._unstructured: dict[tuple[str, str], None] = {}

    async def close(self) -> None:
        """Closes all connections."""
        for pool in self._pools.values():
            await pool.client.aclose()
        await self._probes.aclose()

    async def ask(self, ask: Ask) -> Reply:
        """Returns the agent's answer. Tries again within the time after connection errors, 429 and 5xx.

        Raises: `AgentTimeout` if the time is over; `AgentUnavailable` if the last try failed too; another `PeerError` if the
        agent refuses, its answer does not fit, or its address is forbidden."""
        try:
            async with asyncio.timeout(ask.timeout_s):
                return await self._with_retries(ask, time.monotonic() + ask.timeout_s)
        except TimeoutError:
            raise AgentTimeout(f"{safe_url(ask.endpoint)} did not answer within {ask.timeout_s:.1f} s.") from None

    async def probe(self, endpoint: str) -> None:
        """Returns if the endpoint answers with a status below 500; the body need not end.

        Raises: `AgentTimeout` if it does not answer in time; `AgentUnavailable` if it cannot be reached or answers 5xx;
        `EndpointForbidden` if its address is forbidden."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                headers = self._headers(endpoint)
                answer = await send(self._probes, self._timeout_s, "GET", endpoint, headers, None, only_head=True)
        except (TIMED_OUT, TimeoutError):
            raise AgentTimeout(f"{safe_url(endpoint)} did not answer the probe.") from None
        except BROKEN as error:
            raise AgentUnavailable(f"{safe_url(endpoint)} cannot be reached: {type(error).__name__}.") from error
        if answer.status >= 500:
            raise AgentUnavailable(f"{safe_url(endpoint)} answers {answer.status}.")

    async def _send(
        self, provider: str, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> HttpAnswer:
        return await send(self._pool(provider).connections, self._timeout_s, method, url, headers, content)

    def pool(self, provider: str) -> httpx.AsyncClient:
        """An httpx client that uses the provider's pool."""
        return self._pool(provider).client

    def _pool(self, provider: str) -> _Pool:
        name = provider if provider in self._pools or len(self._pools) < MAX_POOLS else ""
        pool = self._pools.get(name)
        if pool is None:
            connections = ConnectionPool(size=self._pool_size, tls=self._tls, backend=self._backend)
            client = httpx.AsyncClient(
                transport=PinnedTransport(connections),
                timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
                follow_redirects=False,
                trust_env=False,
            )
            pool = self._pools[name] = _Pool(connections, client)
        return pool

    async def _with_retries(self, ask: Ask, deadline: float) -> Reply:
        """Waits between tries for as long as the server asks for. If that is past the deadline, fails at once."""
        for attempt in range(_RETRIES + 1):
            try:
                return await self._once(ask, deadline)
            except AgentUnavailable as error:
                wait_s = error.retry_after_s if error.retry_after_s is not None else _BACKOFF_S * 2**attempt
                too_late = wait_s > _MAX_RETRY_AFTER_S or time.monotonic() + wait_s >= deadline
                if attempt == _RETRIES or too_late:
                    raise
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _once(self, ask: Ask, deadline: float) -> Reply:
        """Asks for structured output. If the server has refused that before, or refuses now, asks for plain text."""
        wire, endpoint = FORMATS[ask.transport], (ask.endpoint, ask.model)
        if endpoint in self._unstructured:
            return await self._exchange(wire, ask, deadline, structured=False)
        try:
            return await self._exchange(wire, ask, deadline, structured=True)
        except _Refused as error:
            if error.http_status not in _NO_STRUCTURED_OUTPUT or not ask.schema:
                raise
            reply = await self._exchange(wire, ask, deadline, structured=False)
            if len(self._unstructured) < MAX_UNSTRUCTURED:
                self._unstructured[endpoint] = None
            return reply

    async def _exchange(self, wire: WireFormat, ask: Ask, deadline: float, *, structured: bool) -> Reply:
        url, body, headers = wire.request(ask, max(0.0, deadline - time.monotonic()), structured)
        try:
            answer = await self._post(ask.provider, url, body, {**headers, **self._headers(ask.endpoint)})
        except TIMED_OUT:
            raise AgentUnavailable(f"{safe_url(ask.endpoint)} did not answer in time.") from None
        except BROKEN as error:
            message = f"{safe_url(ask.endpoint)} cannot be reached: {type(error).__name__}."
            raise AgentUnavailable(message) from error
        received = len(answer.content)
        with judged():
            if answer.streamed and wire.stream is not None:
                return wire.stream(ask, sse_events(answer.content), received)
            return wire.reply(ask, parse_json(answer.content, THE_ANSWER), received)

    def _headers(self, endpoint: str) -> Mapping[str, str]:
        return next((provider.headers for provider in self._providers if provider.owns(endpoint)), {})

    async def _post(self, provider: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> _Answer:
        sent = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        answer = await self._send(provider, "POST", url, {"content-type": "application/json", **headers}, sent)
        status = answer.status
        if status == 429 or status >= 500:
            wait_s = retry_after(answer.header("retry-after") or None)
            error = AgentLimited if status == 429 else AgentUnavailable
            raise error(f"{safe_url(url)} answers {status}.", None, wait_s)
        if status >= 300:
            raise _Refused(f"{safe_url(url)} refuses with {status}: {answer.content[:200]!r}.", None, status)
        return _Answer(answer.content, answer.header("content-type").startswith("text/event-stream"))


def retry_after(value: str | None) -> float | None:
    """Reads a Retry-After: seconds from a number or an HTTP date, at most a year; None for anything else."""
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _MAX_WAIT_S)
    try:
        at = parsedate_to_datetime(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), _MAX_WAIT_S)
    except (ValueError, TypeError, IndexError, OverflowError):  # the standard library's reader raises all of them
        return None
