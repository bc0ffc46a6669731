"""Asking an agent over HTTP: OpenAI-compatible chat completions, Anthropic messages, and the plain agent contract."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from cluster.domain.agents import TransportKind
from cluster.domain.errors import AgentMalformed, AgentRefused, AgentTimeout, AgentUnavailable
from cluster.transports.net import MAX_ANSWER_BYTES, PinnedTransport

_RETRIES = 2
_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to one agent. ``timeout_s`` covers retries too; ``key`` is the same whenever the call is repeated."""

    transport: TransportKind
    endpoint: str
    model: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """``tokens`` in and out, as the server counted them (0 where it does not say)."""

    text: str
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A key is sent to its provider's own base URL and nowhere else."""

    base_url: str
    headers: Mapping[str, str]

    def owns(self, endpoint: str) -> bool:
        own, other = httpx.URL(self.base_url), httpx.URL(endpoint)
        return (own.scheme, own.host, own.port) == (other.scheme, other.host, other.port)


class HttpTransports:
    """One bounded pool for all providers of a process. ``providers`` say which keys go where."""

    def __init__(
        self, *, allowed_networks: Sequence[str], pool_size: int, timeout_s: float, providers: Sequence[Provider] = ()
    ) -> None:
        self._providers = providers
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            transport=PinnedTransport(allowed=allowed_networks, pool_size=pool_size),
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, ask: Ask) -> Reply:
        """The agent's text. Raises PeerError; connect errors, 429 and 5xx are tried again within the time."""
        try:
            async with asyncio.timeout(min(ask.timeout_s, self._timeout_s * (_RETRIES + 1))):
                return await self._with_retries(ask)
        except TimeoutError:
            raise AgentTimeout(f"{ask.endpoint} did not answer within {ask.timeout_s:.1f} s.") from None

    async def probe(self, endpoint: str) -> None:
        """Any answer below 500 shows that somebody is there. Raises PeerError."""
        try:
            response = await self._http.get(endpoint, headers=self._headers(endpoint), timeout=10.0)
        except httpx.TimeoutException:
            raise AgentTimeout(f"{endpoint} did not answer the probe.") from None
        except httpx.HTTPError as error:
            raise AgentUnavailable(f"{endpoint} cannot be reached: {type(error).__name__}.") from error
        if response.status_code >= 500:
            raise AgentUnavailable(f"{endpoint} answers {response.status_code}.")

    async def _with_retries(self, ask: Ask) -> Reply:
        for attempt in range(_RETRIES + 1):
            try:
                return await self._once(ask)
            except AgentUnavailable as error:
                if attempt == _RETRIES:
                    raise
                wait_s = error.retry_after_s if error.retry_after_s is not None else _BACKOFF_S * 2**attempt
                await asyncio.sleep(min(wait_s, _MAX_RETRY_AFTER_S))
        raise AssertionError("unreachable")

    async def _once(self, ask: Ask) -> Reply:
        url, body, headers = _REQUESTS[ask.transport](ask)
        try:
            response = await self._post(url, body, {**headers, **self._headers(ask.endpoint)})
        except httpx.TimeoutException:
            raise AgentUnavailable(f"{ask.endpoint} did not answer in time.") from None
        except httpx.HTTPError as error:
            raise AgentUnavailable(f"{ask.endpoint} cannot be reached: {type(error).__name__}.") from error
        return _REPLIES[ask.transport](response)

    def _headers(self, endpoint: str) -> Mapping[str, str]:
        return next((provider.headers for provider in self._providers if provider.owns(endpoint)), {})

    async def _post(self, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        async with self._http.stream("POST", url, json=body, headers=headers) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise AgentMalformed(f"{url} sent more than {MAX_ANSWER_BYTES} bytes.")
        if response.status_code == 429 or response.status_code >= 500:
            after = response.headers.get("retry-after", "")
            raise AgentUnavailable(
                f"{url} answers {response.status_code}.", None, float(after) if after.isdigit() else None
            )
        if response.status_code >= 300:
            raise AgentRefused(f"{url} refuses with {response.status_code}: {bytes(content[:200])!r}.")
        try:
            return json.loads(content)
        except ValueError:
            raise AgentMalformed(f"{url} did not answer JSON.") from None


def _openai_request(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    body = {
        "model": ask.model,
        "messages": list(ask.messages),
        "max_tokens": ask.max_tokens,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": dict(ask.schema)},
        },
    }
    return ask.endpoint.rstrip("/") + "/chat/completions", body, {"Idempotency-Key": ask.key}


def _openai_reply(value: Any) -> Reply:
    try:
        message = value["choices"][0]["message"]
        usage = value.get("usage") or {}
        if message.get("refusal"):
            raise AgentRefused(str(message["refusal"])[:200])
        return Reply(text=str(message["content"] or ""), tokens=int(usage.get("total_tokens") or 0))
    except (KeyError, IndexError, TypeError, ValueError):
        raise AgentMalformed("The answer is not a chat completion.") from None


def _anthropic_request(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    system = "\n".join(m["content"] for m in ask.messages if m["role"] == "system")
    body = {
        "model": ask.model,
        "system": system,
        "max_tokens": ask.max_tokens,
        "messages": [dict(m) for m in ask.messages if m["role"] != "system"],
    }
    return ask.endpoint.rstrip("/") + "/v1/messages", body, {"anthropic-version": "2023-06-01"}


def _anthropic_reply(value: Any) -> Reply:
    try:
        text = "".join(block["text"] for block in value["content"] if block["type"] == "text")
        usage = value.get("usage") or {}
        return Reply(text=text, tokens=int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0))
    except (KeyError, TypeError, ValueError):
        raise AgentMalformed("The answer is not an Anthropic message.") from None


def _contract_request(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    """docs/agent-contract.md"""
    body = {
        "messages": list(ask.messages),
        "schema": dict(ask.schema),
        "max_tokens": ask.max_tokens,
        "timeout_seconds": ask.timeout_s,
        "idempotency_key": ask.key,
    }
    return ask.endpoint, body, {"Idempotency-Key": ask.key}


def _contract_reply(value: Any) -> Reply:
    """The typed answer itself, or ``{"text": ..., "tokens": n}``."""
    if not isinstance(value, dict):
        raise AgentMalformed("The answer is not a JSON object.")
    if isinstance(value.get("text"), str):
        tokens = value.get("tokens")
        return Reply(text=value["text"], tokens=tokens if isinstance(tokens, int) else 0)
    return Reply(text=json.dumps(value, ensure_ascii=False))


_REQUESTS = {
    TransportKind.OPENAI: _openai_request,
    TransportKind.ANTHROPIC: _anthropic_request,
    TransportKind.HTTP: _contract_request,
}
_REPLIES = {
    TransportKind.OPENAI: _openai_reply,
    TransportKind.ANTHROPIC: _anthropic_reply,
    TransportKind.HTTP: _contract_reply,
}
