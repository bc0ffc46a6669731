"""Asking an agent over HTTP: one bounded pool per provider, retries within the deadline, Retry-After honoured."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from cluster.domain.errors import AgentMalformed, AgentRefused, AgentTimeout, AgentUnavailable, EndpointForbidden
from cluster.transports.asking import Ask, Reply
from cluster.transports.net import MAX_ANSWER_BYTES, PinnedTransport, Resolve, resolve, safe_url
from cluster.transports.wire_formats import FORMATS, WireFormat, sse_events

__all__ = ["Ask", "HttpTransports", "Provider", "Reply"]

_RETRIES = 2
_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 60.0
_CONNECT_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 10.0
#: Providers beyond this many share one pool.
MAX_POOLS = 64
#: Endpoints whose addresses are remembered as parsed.
MAX_URLS = 10_000
#: Endpoints that are remembered to know no structured output.
MAX_UNSTRUCTURED = 1000
_HEADERS = {"accept": "*/*", "user-agent": "aragora-control-plane"}
_NO_STRUCTURED_OUTPUT = (400, 404, 415, 422, 501)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A key is sent to its provider's own base URL and nowhere else."""

    base_url: str
    headers: Mapping[str, str]

    def owns(self, endpoint: str) -> bool:
        own, other = _parsed(self.base_url), _parsed(endpoint)
        return (own.scheme, own.host, own.port) == (other.scheme, other.host, other.port)

    def __repr__(self) -> str:
        return f"Provider(base_url={self.base_url!r}, headers=***)"


@dataclass(frozen=True, slots=True)
class _Answer:
    content: bytes
    streamed: bool


@dataclass(frozen=True, slots=True)
class _Pool:
    """The client is for whoever needs one; it sends through the same transport."""

    transport: PinnedTransport
    client: httpx.AsyncClient


class _Refused(AgentRefused):
    """Carries the status for whoever can ask in another way."""

    def __init__(self, message: str, code: str | None = None, http_status: int = 400) -> None:
        super().__init__(message, code)
        self.args = (message, code, http_status)
        self.http_status = http_status


class HttpTransports:
    """One bounded pool per provider of a process. ``providers`` say which keys go where."""

    def __init__(
        self,
        *,
        allowed_networks: Sequence[str],
        pool_size: int,
        timeout_s: float,
        providers: Sequence[Provider] = (),
        resolver: Resolve = resolve,
    ) -> None:
        self._allowed = tuple(allowed_networks)
        self._pool_size = pool_size
        self._providers = providers
        self._timeout = httpx.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None)
        self._resolver = resolver
        self._tls = ssl.create_default_context()
        self._pools: dict[str, _Pool] = {}
        self._unstructured: dict[tuple[str, str], None] = {}

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.client.aclose()

    async def ask(self, ask: Ask) -> Reply:
        """The agent's text. Raises PeerError; connect errors, 429 and 5xx are tried again within the time."""
        try:
            async with asyncio.timeout(ask.timeout_s):
                return await self._with_retries(ask, time.monotonic() + ask.timeout_s)
        except TimeoutError:
            raise AgentTimeout(f"{safe_url(ask.endpoint)} did not answer within {ask.timeout_s:.1f} s.") from None

    async def probe(self, endpoint: str, provider: str = "unknown") -> None:
        """Any answer below 500 shows that somebody is there. Raises PeerError."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                response = await self._send(provider, "GET", endpoint, self._headers(endpoint), None)
                await response.aclose()
        except (httpx.TimeoutException, TimeoutError):
            raise AgentTimeout(f"{safe_url(endpoint)} did not answer the probe.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AgentUnavailable(f"{safe_url(endpoint)} cannot be reached: {type(error).__name__}.") from error
        if response.status_code >= 500:
            raise AgentUnavailable(f"{safe_url(endpoint)} answers {response.status_code}.")

    async def _send(
        self, provider: str, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Straight to the pool: what a client adds (cookies, redirects, authentication) is not wanted here, and costs as
        much as the request. Whoever asked closes the answer."""
        request = httpx.Request(
            method,
            _parsed(url),
            headers={**_HEADERS, **headers},
            content=content,
            extensions={"timeout": self._timeout.as_dict()},
        )
        return await self._pool(provider).transport.handle_async_request(request)

    def pool(self, provider: str) -> httpx.AsyncClient:
        return self._pool(provider).client

    def _pool(self, provider: str) -> _Pool:
        name = provider if provider in self._pools or len(self._pools) < MAX_POOLS else ""
        pool = self._pools.get(name)
        if pool is None:
            transport = PinnedTransport(
                allowed=self._allowed, pool_size=self._pool_size, resolver=self._resolver, tls=self._tls
            )
            client = httpx.AsyncClient(
                transport=transport, timeout=self._timeout, follow_redirects=False, trust_env=False
            )
            pool = self._pools[name] = _Pool(transport, client)
        return pool

    async def _with_retries(self, ask: Ask, deadline: float) -> Reply:
        """Waits as long as the server asks for; when that is later than the deadline, there is no point in waiting."""
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
        """Without structured output where the server has refused it before, or does so now."""
        wire, place = FORMATS[ask.transport], (ask.endpoint, ask.model)
        if place in self._unstructured:
            return await self._exchange(wire, ask, deadline, structured=False)
        try:
            return await self._exchange(wire, ask, deadline, structured=True)
        except _Refused as error:
            if error.http_status not in _NO_STRUCTURED_OUTPUT or not ask.schema:
                raise
            reply = await self._exchange(wire, ask, deadline, structured=False)
            if len(self._unstructured) < MAX_UNSTRUCTURED:
                self._unstructured[place] = None
            return reply

    async def _exchange(self, wire: WireFormat, ask: Ask, deadline: float, *, structured: bool) -> Reply:
        url, body, headers = wire.request(ask, max(0.0, deadline - time.monotonic()), structured)
        try:
            answer = await self._post(ask.provider, url, body, {**headers, **self._headers(ask.endpoint)})
        except httpx.TimeoutException:
            raise AgentUnavailable(f"{safe_url(ask.endpoint)} did not answer in time.") from None
        except httpx.InvalidURL:
            raise EndpointForbidden(f"{safe_url(ask.endpoint)} is not a URL.") from None
        except httpx.HTTPError as error:
            message = f"{safe_url(ask.endpoint)} cannot be reached: {type(error).__name__}."
            raise AgentUnavailable(message) from error
        if answer.streamed and wire.stream is not None:
            return wire.stream(ask, sse_events(answer.content))
        try:
            value = json.loads(answer.content)
        except ValueError:
            raise AgentMalformed(f"{safe_url(ask.endpoint)} did not answer JSON.") from None
        return wire.reply(ask, value)

    def _headers(self, endpoint: str) -> Mapping[str, str]:
        return next((provider.headers for provider in self._providers if provider.owns(endpoint)), {})

    async def _post(self, provider: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> _Answer:
        content_type = {"content-type": "application/json"}
        sent = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        response = await self._send(provider, "POST", url, {**content_type, **headers}, sent)
        try:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:  # of what was packed into fewer
                    raise AgentMalformed(f"{safe_url(url)} sent more than {MAX_ANSWER_BYTES} bytes.")
        finally:
            await response.aclose()
        status = response.status_code
        if status == 429 or status >= 500:
            wait_s = retry_after(response.headers.get("retry-after"))
            raise AgentUnavailable(f"{safe_url(url)} answers {status}.", None, wait_s)
        if status >= 300:
            raise _Refused(f"{safe_url(url)} refuses with {status}: {bytes(content[:200])!r}.", None, status)
        return _Answer(bytes(content), response.headers.get("content-type", "").startswith("text/event-stream"))


@functools.lru_cache(maxsize=MAX_URLS)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def retry_after(value: str | None) -> float | None:
    """Seconds, from a number or an HTTP date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
