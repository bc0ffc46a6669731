"""The API as a port with an HTTP adapter: the command line, the worker kit and batch jobs use nothing else.

Between a caller and the API stand proxies, which answer in their own ways while there is nothing behind them. So an
answer is the API's only if it has the API's shape. What a caller can learn:

    a JSON object, status 2xx      the call is done
    CallerError (ApiError,         the API refused (its own error, 4xx): repeating the call changes nothing
      NotFound)
    TryLater (Unavailable)         the API did not do it now (its own error, 429 or 503)
    ControlPlaneError, none of     the API failed (its own error, any other 5xx): the outcome is unknown
      these
    OutcomeUnknown, a TryLater     no answer, a cut one, or one that is not the API's: it may be done or not

Every mutating call can be repeated under its key, so whoever repeats all but CallerError loses nothing and does
nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import httpx

from cluster.domain.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound, TryLater

API = "/api/control-plane"
RECONNECT_S = 0.5
CONNECT_S = 5.0
#: What httpx raises for a redirect that it could not follow, though nobody asks it to. (ValueError: of names and ports.)
_ODD_REDIRECT = (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError)


class ApiError(CallerError):
    """The API refused; ``status`` is the HTTP status, the sentence is the server's."""

    def __init__(self, message: str, code: str | None = None, status: int = 400) -> None:
        super().__init__(message, code)
        self.args = (message, code, status)
        self.status = status


class Unavailable(TryLater):
    """The API cannot serve this now. ``wait_s``: how long it asks to be left alone (Retry-After), 0 if it does not say."""

    def __init__(self, message: str, code: str | None = None, wait_s: float = 0.0) -> None:
        super().__init__(message, code)
        self.args = (message, code, wait_s)
        self.wait_s = wait_s


class OutcomeUnknown(Unavailable):
    """Nobody answered, or somebody else did (a proxy, a login page): the call may have been done or not. ``answered`` is
    that somebody's HTTP status."""

    default_code = "outcome_unknown"

    def __init__(self, message: str, code: str | None = None, wait_s: float = 0.0, answered: int | None = None) -> None:
        super().__init__(message, code, wait_s)
        self.args = (message, code, wait_s, answered)
        self.answered = answered


#: Codes of TryLater and its kinds, where only the code is said (one of many outcomes in a single answer).
_FOR_LATER = frozenset(
    {
        "unavailable",
        "store_unavailable",
        "actor_unavailable",
        "misrouted",
        "overloaded",
        "fenced",
        "epoch_replaced",
        "generation_replaced",
        "internal_error",
    }
)


def is_for_later(code: object) -> bool:
    """Whether the API may take the same thing later."""
    return code in _FOR_LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait before a call is repeated: doubled from ``first_s`` up to ``most_s``, a random half of it taken
    off, so that those who met the same fault do not come back in the same moment. What the server asks for counts up to
    ``asked_most_s``: a proxy in maintenance may ask for hours."""

    first_s: float = 0.2
    most_s: float = 5.0
    asked_most_s: float = 30.0


@dataclass(slots=True)
class Backoff:
    """The waits between repeats; ``reset`` after a success."""

    patience: Patience
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._next_s = self.patience.first_s

    def next_s(self, error: BaseException) -> float:
        wait_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self.patience.most_s, self._next_s * 2)
        asked_s = error.wait_s if isinstance(error, Unavailable) else 0.0
        return max(wait_s, min(asked_s, self.patience.asked_most_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    seq: int
    type: str
    at: float
    data: Mapping[str, Any]


class ControlPlaneClient:
    """One base URL, one pool. Methods answer the wire's JSON objects and raise what the module's docstring lists."""

    def __init__(self, base_url: str, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        headers = {"Accept": "application/json"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise InvalidRequest("The API key has characters that no header may have; look at ARAGORA_API_KEY.")
            headers["Authorization"] = f"Bearer {api_key}"
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._check_url()
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            # The API sets no cookies. One of a proxy's that no header may have would fail every later call.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    def _check_url(self) -> None:
        """Once, and here: what httpx says of URLs later is about the redirects of whoever answers."""
        try:
            url = httpx.URL(self.base_url)
            url.host.encode("idna")  # as the name is looked up: no label is empty or too long
        except (httpx.InvalidURL, UnicodeError) as error:
            raise self._no_url(error) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise self._no_url("it needs http:// or https:// and a host")
        if not 0 < (url.port or 80) < 65_536:
            raise self._no_url("its port is none")

    def _no_url(self, error: Exception | str) -> InvalidRequest:
        return InvalidRequest(f"{self.base_url} is not the URL of a control plane ({error}); look at ARAGORA_API_URL.")

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
        has: Mapping[str, type] | None = None,
    ) -> Any:
        """``path`` below the API's prefix, or from the root if it starts with ``//``. ``has``: what the answer must have,
        where it matters that it is the API's; others answer 200 and JSON too. A ``body`` of bytes is JSON already."""
        url = path[1:] if path.startswith("//") else API + path
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        content: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            content = {"content": body}
            headers["Content-Type"] = "application/json"
        patience_s = timeout_s if timeout_s is not None else self._timeout_s
        try:
            request = self._http.build_request(
                method,
                url,
                **content,
                params={k: v for k, v in (params or {}).items() if v is not None},
                headers=headers,
                timeout=httpx.Timeout(patience_s, connect=CONNECT_S),
            )
        except httpx.InvalidURL as error:
            raise self._no_url(error) from error
        return _unwrap(await self._answer(request, patience_s), has or {})

    async def _answer(self, request: httpx.Request, patience_s: float) -> httpx.Response:
        try:
            # httpx bounds each read, not the call: one byte now and then would hold it for ever.
            async with asyncio.timeout(patience_s + CONNECT_S):
                return await self._http.send(request)
        except _ODD_REDIRECT as error:
            raise OutcomeUnknown(
                f"What answered at {self.base_url} is not the control plane: it redirects to what is no URL "
                f"({type(error).__name__}); try again, or look at the proxies in front of it."
            ) from error
        except (httpx.RequestError, TimeoutError) as error:
            raise OutcomeUnknown(
                f"The control plane at {self.base_url} does not answer ({type(error).__name__}); "
                "start it with `aragora-cp up` or set ARAGORA_API_URL."
            ) from error

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
            # A stream ends when its replica does, and what follows until the next one is there is a proxy's word.
            try:
                async with self._http.stream(
                    "GET", API + "/stream", params=params, headers=headers, timeout=httpx.Timeout(CONNECT_S, read=45.0)
                ) as response:
                    await _check_stream(response)
                    async for event in _parse_sse(response):
                        cursor = event.seq
                        yield event
            except CallerError:
                raise
            except (httpx.RequestError, *_ODD_REDIRECT, ControlPlaneError):
                pass
            await asyncio.sleep(RECONNECT_S)


async def _check_stream(response: httpx.Response) -> None:
    kind = response.headers.get("content-type", "")
    if response.status_code != 200 or not kind.startswith("text/event-stream"):
        await response.aread()
        _unwrap(response, {})
        raise _foreign(response)


async def _parse_sse(response: httpx.Response) -> AsyncIterator[StreamEvent]:
    seq = 0
    async for line in response.aiter_lines():
        if line.startswith("id: ") and line[4:].isdecimal():
            seq = int(line[4:])
        elif line.startswith("data: "):
            try:
                content = json.loads(line[6:])
                event = StreamEvent(seq=seq, type=content["type"], at=content["timestamp"], data=content["data"])
            except (ValueError, KeyError, TypeError) as error:
                raise OutcomeUnknown("The stream of events was cut.") from error
            yield event


def _unwrap(response: httpx.Response, has: Mapping[str, type]) -> Any:
    body = _object(response)
    if response.is_success:
        if body is None or not all(isinstance(body.get(name), kind) for name, kind in has.items()):
            raise _foreign(response)
        return body
    if body is None or response.status_code < 400 or not _is_own_error(body):
        raise _foreign(response)
    raise _own_error(response, body["error"], body["code"])


def _own_error(response: httpx.Response, message: str, code: str) -> ControlPlaneError:
    if response.status_code == 404:
        return NotFound(message, code)
    if response.status_code in (429, 503):
        return Unavailable(message, code, _retry_after_s(response))
    if response.status_code >= 500:
        return ControlPlaneError(message, code)
    return ApiError(message, code, response.status_code)


def _object(response: httpx.Response) -> dict[str, Any] | None:
    """The body, if it is a JSON object: the API answers nothing else."""
    try:
        body = response.json()
    except (ValueError, RecursionError, LookupError):  # LookupError: an encoding that nobody knows
        return None
    return body if isinstance(body, dict) else None


def _is_own_error(body: Mapping[str, Any]) -> bool:
    """The shape of ``serve_app.http.errors``: all three, or it is somebody else's JSON."""
    return all(isinstance(body.get(name), str) for name in ("error", "code", "trace_id"))


def _foreign(response: httpx.Response) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"What answered {response.status_code} is not the control plane; try again, or look at the proxies in front of it.",
        None,
        _retry_after_s(response),
        response.status_code,
    )


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds or a date; 0 for what is neither, whatever the parser makes of it."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    with contextlib.suppress(ValueError, OverflowError, TypeError, IndexError):
        at = email.utils.parsedate_to_datetime(value)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0
