"""The API as a port with an HTTP adapter: the command line, the worker kit and batch jobs use nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from cluster.domain.errors import CallerError, ControlPlaneError, NotFound, TryLater

API = "/api/control-plane"
RECONNECT_S = 0.5


class ApiError(CallerError):
    """The API refused; ``status`` is the HTTP status, the sentence is the server's."""

    def __init__(self, message: str, code: str | None = None, status: int = 400) -> None:
        super().__init__(message, code)
        self.args = (message, code, status)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    seq: int
    type: str
    at: float
    data: Mapping[str, Any]


class ControlPlaneClient:
    """One base URL, one pool. Methods answer the wire's JSON objects and raise errors of ``cluster.domain.errors``."""

    def __init__(self, base_url: str, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        headers = {"Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.base_url, headers=headers, timeout=httpx.Timeout(timeout_s, connect=5.0)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """``path`` below the API's prefix, or from the root if it starts with ``//``."""
        url = path[1:] if path.startswith("//") else API + path
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        try:
            response = await self._http.request(
                method,
                url,
                json=body,
                params={k: v for k, v in (params or {}).items() if v is not None},
                headers=headers,
                timeout=timeout_s if timeout_s is not None else httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.TransportError as error:
            raise TryLater(
                f"The control plane at {self.base_url} does not answer ({type(error).__name__}); "
                "start it with `aragora-cp up` or set ARAGORA_API_URL."
            ) from error
        return _unwrap(response)

    async def get(self, path: str, **params: Any) -> Any:
        return await self.request("GET", path, params=params)

    async def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        return await self.request("POST", path, body, idempotency_key=idempotency_key)

    async def events(self, *, after: int | None = None, **filters: str | None) -> AsyncIterator[StreamEvent]:
        """Server-sent events; a broken connection is resumed after the last event seen."""
        cursor = after
        while True:
            headers = {"Accept": "text/event-stream"}
            if cursor is not None:
                headers["Last-Event-ID"] = str(cursor)
            params = {k: v for k, v in filters.items() if v is not None}
            try:
                async with self._http.stream(
                    "GET", API + "/stream", params=params, headers=headers, timeout=httpx.Timeout(5.0, read=45.0)
                ) as response:
                    if response.status_code != 200:
                        await response.aread()
                        _unwrap(response)
                    async for event in _parse_sse(response):
                        cursor = event.seq
                        yield event
            except httpx.TransportError:
                await asyncio.sleep(RECONNECT_S)


async def _parse_sse(response: httpx.Response) -> AsyncIterator[StreamEvent]:
    seq = 0
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            seq = int(line[4:])
        elif line.startswith("data: "):
            content = json.loads(line[6:])
            yield StreamEvent(seq=seq, type=content["type"], at=content["timestamp"], data=content["data"])


def _unwrap(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else {}
    message, code = _error_of(response)
    if response.status_code == 404:
        raise NotFound(message, code)
    if response.status_code in (429, 503):
        raise TryLater(message, code)
    if response.status_code >= 500:
        raise ControlPlaneError(message, code)
    raise ApiError(message, code, response.status_code)


def _error_of(response: httpx.Response) -> tuple[str, str | None]:
    try:
        body = response.json()
    except ValueError:
        return f"The server answered {response.status_code}.", None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return body["error"], body.get("code")
    return f"The server answered {response.status_code}.", None
