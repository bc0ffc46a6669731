"""Asks agents over HTTP: over a pool that bounds the connections to each server, and without parameters that it refuses."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from aragora_worker.reasons import reason
from cluster.agent_transports.credentials import (
    UNAUTHENTICATED,
    AgentCredentials,
    Proof,
    ProvingTransport,
    client_context,
    told_by,
)
from cluster.agent_transports.failures import (
    body_words,
    is_unknown,
    refused_by_status,
    refused_parameter,
    told,
    wait_of,
)
from cluster.agent_transports.hiding import HiddenPieces, hidden, hidden_bytes
from cluster.agent_transports.pieces import Pieces
from cluster.agent_transports.server_events import is_stream, sse_events
from cluster.agent_transports.wire_formats import FORMATS, WireFormat
from cluster.domain.agents.calls import Reply
from cluster.domain.agents.credential_use import CredentialUse, Sending
from cluster.domain.base.errors import AgentFailed, AgentRefused, AgentTimeout, AgentUnavailable, PeerError
from cluster.domain.base.json_values import parse_json
from cluster.domain.base.urls import safe_url
from cluster.domain.deliberation.numbers import exact_float
from cluster.http.addresses import PinnedBackend, PinnedTransport, Resolve, resolve
from cluster.http.connections import ConnectionPool
from cluster.http.sending import BROKEN, CONNECT_TIMEOUT_S, MAX_URLS, TIMED_OUT, HttpAnswer, send
from cluster.ports.agent_transport import THE_ANSWER, Ask, judged
from cluster.process import spans
from cluster.process.large import in_thread_if_large

_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 60.0
_PROBE_TIMEOUT_S = 10.0
#: How many refused parameters are remembered, and for how long: servers and the models behind a name change.
MAX_REFUSED = 1000
REFUSED_S = 3600.0
#: Client certificates whose connections are kept at a time.
MAX_CERTIFICATES = 100
#: Parameters that hold a schema of the caller's, about which a server may complain. The others are ours alone.
_OF_CALLER = frozenset({"response_format", "tools", "tool_choice"})


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


class _RefusedParameters:
    """The parameters that servers refuse, by endpoint and model. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: When each is forgotten. The oldest is first.
        self._until: dict[tuple[str, str, str], float] = {}

    def of(self, ask: Ask, optional: Sequence[str]) -> set[str]:
        now = self._clock()
        return {name for name in optional if self._until.get((ask.endpoint, ask.model, name), now) > now}

    def remember(self, ask: Ask, refused: Collection[str]) -> None:
        for name in refused:
            key = (ask.endpoint, ask.model, name)
            self._until.pop(key, None)
            if len(self._until) >= MAX_REFUSED:
                del self._until[next(iter(self._until))]
            self._until[key] = self._clock() + REFUSED_S


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
    """Has a pool for calls, which bounds the connections to each server by ``pool_size``, and one for probes.
    ``probe_connections`` has to be the number of probes that are made at once, so that no probe waits for an endpoint that
    hangs. ``timeout_s`` bounds a whole call; ``providers`` say which key belongs to which URL. ``credentials`` are those that
    agents registered with: such an agent gets its own, and no provider's."""

    def __init__(
        self,
        *,
        allowed_networks: Sequence[str],
        pool_size: int,
        timeout_s: float,
        providers: Sequence[Provider] = (),
        resolver: Resolve = resolve,
        probe_connections: int = 1,
        credentials: AgentCredentials | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        backend = self._backend = PinnedBackend(allowed_networks, resolver)
        self._providers = providers
        self._credentials = credentials
        self._pool_size = pool_size
        #: Connections that show a client certificate, by its digest: they are nobody else's. The oldest is first.
        self._certified: dict[bytes, ConnectionPool] = {}
        self._timeout_s = timeout_s
        self._calls = ConnectionPool(size=pool_size, tls=_trusted(), backend=backend)
        self._probes = ConnectionPool(size=probe_connections, tls=_trusted(), backend=backend)
        #: An httpx client over the connections of calls, for libraries that need one.
        self.client = self._client(PinnedTransport(self._calls, timeout_s))
        self._clock = clock
        self._refused = _RefusedParameters(clock)

    async def close(self) -> None:
        """Closes all connections."""
        await self.client.aclose()
        await self._probes.aclose()
        for pool in self._certified.values():
            await pool.aclose()

    async def ask(self, ask: Ask) -> Reply:
        """Returns the agent's answer. Asks an agent that is unavailable up to ``ask.tries`` times within the time.

        Raises: `AgentTimeout` if the time is over; `AgentUnavailable` if the last try failed too; `AgentFailed` if the agent
        answers by an error; another `PeerError` if it refuses, its answer does not fit, or its address is forbidden."""
        try:
            async with asyncio.timeout(ask.timeout_s):
                return await self._with_retries(ask, self._clock() + ask.timeout_s)
        except TimeoutError:
            raise AgentTimeout(f"{safe_url(ask.endpoint)} did not answer within {ask.timeout_s:.1f} s.") from None

    async def probe(self, endpoint: str, credential: CredentialUse | None = None) -> None:
        """Returns if the endpoint answers with a status below 500; the body need not end.

        Raises: `AgentTimeout` if it does not answer in time; `AgentUnavailable` if it cannot be reached or answers 5xx;
        `AgentMalformed` if its answer is not HTTP; `EndpointForbidden` if its address is forbidden; `AgentRefused` if there is no
        such credential."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                headers, pool = self._headers(endpoint), self._probes
                if credential is not None:
                    proof = (await self._proofs(credential))[0]
                    headers = proof.headers("GET", endpoint, None, {}, self._now())
                    pool = await self._pool_of(proof, self._probes)
                answer = await send(pool, self._timeout_s, "GET", endpoint, headers, None, only_head=True)
        except (TIMED_OUT, TimeoutError):
            raise AgentTimeout(f"{safe_url(endpoint)} did not answer the probe.") from None
        except BROKEN as error:
            raise AgentUnavailable(f"{safe_url(endpoint)} cannot be reached: {reason(error)}.") from error
        if answer.status >= 500:
            raise AgentUnavailable(f"{safe_url(endpoint)} answers {answer.status}.")

    async def _with_retries(self, ask: Ask, deadline: float) -> Reply:
        """Waits between tries for as long as the server asks for. If that is past the deadline, fails at once."""
        for attempt in range(1, ask.tries + 1):
            try:
                return await self._once(ask, deadline)
            except AgentUnavailable as error:
                wait_s = error.retry_after_s if error.retry_after_s is not None else _BACKOFF_S * 2 ** (attempt - 1)
                too_late = wait_s > _MAX_RETRY_AFTER_S or self._clock() + wait_s >= deadline
                if attempt == ask.tries or too_late:
                    raise
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _once(self, ask: Ask, deadline: float) -> Reply:
        """Asks once. If the server refuses a parameter, asks without it. It does so from then on for an hour if the server does
        not know the parameter; otherwise the complaint is about this question, and stands in its error if it fails."""
        wire = FORMATS[ask.transport]
        without = self._refused.of(ask, wire.optional)
        unknown: set[str] = set()
        complaint = ""
        while True:
            url, body, headers = wire.request(ask, max(0.0, deadline - self._clock()), without)
            sent = tuple(name for name in wire.optional if name in body)
            try:
                answer, secrets = await self._post(ask, url, body, headers, wire.piece if "stream" in sent else None)
                size = len(answer.content)
                if 200 <= answer.status < 300:
                    self._refused.remember(ask, unknown)
                    reply = await in_thread_if_large(size, _read, wire, ask, answer, secrets)
                    return replace(reply, complaint=complaint)
                odd = await in_thread_if_large(size, refused_parameter, answer.status, answer.content, sent)
                if odd is None:
                    told_by = (safe_url(url), answer.status, answer.texts(), answer.content, self._now())
                    raise await in_thread_if_large(size, refused_by_status, *told_by)
            except PeerError as error:
                raise _with(error, complaint) from error.__cause__
            if odd not in _OF_CALLER or await in_thread_if_large(size, is_unknown, answer.content):
                unknown.add(odd)
            else:
                complaint = complaint or await in_thread_if_large(size, _complaint, odd, answer)
            without = without | {odd}

    def _now(self) -> float:
        return time.time() if self._credentials is None else self._credentials.now()

    async def _proofs(self, use: CredentialUse) -> list[Proof]:
        """Raises: `AgentRefused`, `AgentNotCalled` as `AgentCredentials.proofs`; here also if there is nothing to read from."""
        if self._credentials is None:
            raise AgentRefused(f"The credential {use.name} cannot be read here.", "credential_missing")
        return await self._credentials.proofs(use)

    async def _pool_of(self, proof: Proof, shared: ConnectionPool) -> ConnectionPool:
        """The connections that calls with this secret use: ``shared``, unless they show a certificate.

        Raises: `AgentRefused` if it is none."""
        if proof.use.send is not Sending.CERTIFICATE:
            return shared
        digest = hashlib.sha256(proof.secret.encode()).digest()
        pool = self._certified.pop(digest, None)
        if pool is None:
            try:
                context = await asyncio.to_thread(client_context, proof.secret)
            except ssl.SSLError:
                raise AgentRefused(
                    f"The certificate and the key of the credential {proof.use.name} do not belong together; set it anew.",
                    "invalid_credential",
                ) from None
            pool = ConnectionPool(size=self._pool_size, tls=context, backend=self._backend)
        replaced = self._certified.pop(digest, None)  # by a call that came meanwhile
        self._certified[digest] = pool = replaced or pool
        if len(self._certified) > MAX_CERTIFICATES:
            await self._certified.pop(next(iter(self._certified))).aclose()
        return pool

    async def client_for(self, use: CredentialUse) -> httpx.AsyncClient:
        """An httpx client of one question to an agent with a credential; it need not be closed, for the connections are kept.

        Raises: `AgentRefused`, `AgentNotCalled` as `AgentCredentials.proofs`."""
        proofs = await self._proofs(use)
        inner = PinnedTransport(await self._pool_of(proofs[0], self._calls), self._timeout_s)
        return self._client(ProvingTransport(inner, proofs, self._now))

    def _client(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
            follow_redirects=False,
            trust_env=False,
            event_hooks={} if spans.tracer is None else {"request": [_traced]},
        )

    def _headers(self, endpoint: str) -> Mapping[str, str]:
        return next((provider.headers for provider in self._providers if provider.owns(endpoint)), {})

    async def _post(
        self,
        ask: Ask,
        url: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        piece: Callable[[Any], Any] | None,
    ) -> tuple[HttpAnswer, tuple[str, ...]]:
        """The answer, and the secrets that it is without. A secret that is not known yet is followed by the one before.
        ``piece``: of a stream's events, for those who follow it."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        given = {"content-type": "application/json", **headers}
        if spans.tracer is not None and spans.header():
            given["traceparent"] = spans.header()
        if ask.credential is None:
            received = None if ask.told is None or piece is None else Pieces(ask.told, piece).feed
            known = given | dict(self._headers(ask.endpoint))
            return await self._sent(self._calls, ask, url, known, content, received), ()
        proofs = await self._proofs(ask.credential)
        secrets = told_by(proofs)
        pieces = None if ask.told is None or piece is None else HiddenPieces(ask.told, secrets)
        for proof in proofs:
            proven = given | proof.headers("POST", url, content, given, self._now())
            pool = await self._pool_of(proof, self._calls)
            received = None if pieces is None or piece is None else Pieces(pieces.take, piece).feed
            answer = await self._sent(pool, ask, url, proven, content, received)
            if answer.status != UNAUTHENTICATED or proof is proofs[-1]:
                break
        if pieces is not None:
            pieces.end()
        content = await in_thread_if_large(len(answer.content), hidden_bytes, answer.content, secrets)
        return replace(answer, content=content), secrets

    async def _sent(
        self,
        pool: ConnectionPool,
        ask: Ask,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        received: Callable[[bytes], None] | None,
    ) -> HttpAnswer:
        try:
            return await send(pool, self._timeout_s, "POST", url, headers, content, received=received)
        except TIMED_OUT:
            raise AgentTimeout(f"{safe_url(ask.endpoint)} did not answer within {self._timeout_s:g} s.") from None
        except BROKEN as error:
            message = f"{safe_url(ask.endpoint)} cannot be reached: {reason(error)}."
            raise AgentUnavailable(message) from error


async def _traced(request: httpx.Request) -> None:
    if spans.header():
        request.headers["traceparent"] = spans.header()


def _read(wire: WireFormat, ask: Ask, answer: HttpAnswer, secrets: Collection[str]) -> Reply:
    """Reads an answer. Its parts are without the ``secrets`` already; its text is joined of them, so it is searched again."""
    try:
        reply = _whole(wire, ask, answer)
    except PeerError as error:
        raise _saying(error, hidden(error.message, secrets)) from None
    return replace(reply, text=hidden(reply.text, secrets))


def _whole(wire: WireFormat, ask: Ask, answer: HttpAnswer) -> Reply:
    received = len(answer.content)
    try:
        with judged():
            if wire.stream is not None and is_stream(answer.header("content-type"), answer.content):
                return wire.stream(ask, sse_events(answer.content), received)
            return wire.reply(ask, parse_json(answer.content, THE_ANSWER, exact_float), received)
    except AgentFailed as failed:  # an error in a 200 may say in the headers when to come back
        raise AgentFailed(failed.message, failed.code, wait_of(answer.texts(), time.time())) from None


def _complaint(parameter: str, answer: HttpAnswer) -> str:
    return told(f"The server had refused its {parameter} with {answer.status}", body_words(answer.content))


def _with(error: PeerError, complaint: str) -> PeerError:
    """The same error; its message ends with the complaint."""
    return _saying(error, f"{error.message} {complaint}") if complaint else error


def _saying(error: PeerError, message: str) -> PeerError:
    """The same error with another message."""
    if isinstance(error, AgentFailed | AgentUnavailable):
        return type(error)(message, error.code, error.retry_after_s)
    return type(error)(message, error.code)
