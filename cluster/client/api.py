"""The HTTP client of the API: the command line, the worker kit and batch jobs use nothing else.

Between a caller and the API are proxies, which answer by themselves while there is nothing behind them. So an answer
counts as the API's only if it has the API's form. What a call can return or raise:

    a JSON object, status 2xx      the call is done
    CallerError (ApiError,         the API refused (its own error, 4xx): repeating the call changes nothing
      NotFound)
    TryLater (Unavailable)         the API cannot do it now (its own error, 429 or 503)
    ControlPlaneError, none of     the API failed (its own error, any other 5xx): the outcome is unknown
      these
    OutcomeUnknown, a TryLater     no answer, a cut one, or one that is not the API's: the call may be done or not

Every call that changes something can be repeated under its key. So whoever repeats a call after every error but
CallerError loses nothing and does nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import httpx

from cluster.client.tls import ClientTls
from cluster.domain.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound, TryLater
from cluster.domain.base.ids import check_id, path_segment
from cluster.domain.base.urls import PASSWORD_FORM, without_userinfo
from cluster.http.reasons import reason

API = "/api/control-plane"
RECONNECT_S = 0.5
CONNECT_S = 5.0
#: How long a call waits for the end of a task: the most that the API waits.
LONG_POLL_S = 25.0
#: How late a change of a run that is followed is seen; its end is seen at once.
RUN_LOOK_S = 2.0
#: The code of the error about a body that this client cannot write as JSON.
INVALID_BODY = "invalid_body"
#: What httpx raises for a redirect to something that is no URL, although it is not told to follow redirects. (ValueError:
#: for odd names and ports.)
_ODD_REDIRECT = (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError)


class ApiError(CallerError):
    """The API refused the call. ``status`` is the HTTP status, and the sentence is the server's."""

    def __init__(self, message: str, code: str | None = None, status: int = 400) -> None:
        super().__init__(message, code)
        self.args = (message, code, status)
        self.status = status


class Unavailable(TryLater):
    """The API cannot do this now. ``wait_s`` is how long to wait first (its Retry-After), 0 if it does not say."""

    def __init__(self, message: str, code: str | None = None, wait_s: float = 0.0) -> None:
        super().__init__(message, code)
        self.args = (message, code, wait_s)
        self.wait_s = wait_s


class OutcomeUnknown(Unavailable):
    """There was no answer, or not the API's (a proxy's, a login page): the call may be done or not. ``answered`` is the HTTP
    status of that answer."""

    default_code = "outcome_unknown"

    def __init__(self, message: str, code: str | None = None, wait_s: float = 0.0, answered: int | None = None) -> None:
        super().__init__(message, code, wait_s)
        self.args = (message, code, wait_s, answered)
        self.answered = answered


#: The codes of TryLater and its subclasses, for outcomes that have only a code (an answer with many outcomes).
_FOR_LATER = frozenset(
    {
        "unavailable",
        "store_unavailable",
        "actor_unavailable",
        "misrouted",
        "overloaded",
        "rate_limited",
        "too_many_failures",
        "fenced",
        "epoch_replaced",
        "generation_replaced",
        "not_primary",
        "not_replicated",
        "stale_region",
        "copy_incomplete",
        "internal_error",
    }
)


class TaskNotCompleted(ControlPlaneError):
    """The task has ended without a result: it failed, was cancelled or took too long. ``task`` is what the API says of it."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        error = f": {task['error']}" if task.get("error") else ""
        super().__init__(f"Task {task['id']} {_ENDED_HOW[task['status']]}{error}", f"task_{task['status']}")
        self.args = (task,)
        self.task = task


#: The statuses of tasks that have ended, with the words of errors.
_ENDED_HOW: Mapping[str, str] = {
    "completed": "has completed",
    "failed": "has failed",
    "cancelled": "was cancelled",
    "timeout": "took too long",
}


def is_for_later(code: object) -> bool:
    """Whether a code says that the same may succeed later."""
    return code in _FOR_LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait before a call is repeated: ``first_s``, doubled each time up to ``most_s``. Up to half of it is taken off
    at random, so that clients that met the same fault do not return in the same moment. A longer wait that the server asks
    for is respected up to ``asked_most_s``, since a proxy in maintenance may ask for hours."""

    first_s: float = 0.2
    most_s: float = 5.0
    asked_most_s: float = 30.0


DEFAULT_PATIENCE = Patience()


@dataclass(slots=True)
class RetryDelays:
    """The delays between repeats of a call. `reset` after a success."""

    patience: Patience
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts again with the first delay."""
        self._next_s = self.patience.first_s

    def next_s(self, error: BaseException) -> float:
        """The delay after this error; the next one will be longer."""
        return max(self.next_parts_s(error))

    def next_parts_s(self, error: BaseException) -> tuple[float, float]:
        """The same in its parts: the delay of its own, and the wait that the server asks for."""
        wait_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self.patience.most_s, self._next_s * 2)
        asked_s = error.wait_s if isinstance(error, Unavailable) else 0.0
        return wait_s, min(asked_s, self.patience.asked_most_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """An event of the stream, with the number of its log row."""

    seq: int
    type: str
    at: float
    data: Mapping[str, Any]


#: The id of an event of a stream: a number, and of a task's output two.
_CURSOR = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
#: The types of a task's output, of which the last one ends it.
ENDED = "task_ended"
OUTPUT_TYPES = frozenset({"task_chunk", "task_attempt", "task_chunks_missing", "task_chunks_elsewhere", ENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputEvent:
    """What a running task tells: ``content`` if it is a chunk (``task_chunk``). ``cursor``: where to go on after it. ``data`` has
    what other types tell, such as ``status`` at the end."""

    type: str
    at: float
    attempt: int
    content: Any
    cursor: str
    data: Mapping[str, Any]


class ControlPlaneClient:
    """A client of one base URL, with one pool. Methods return the API's JSON objects and raise what the module's docstring lists.

    ``workspace`` is the one that its calls act in; None: the API chooses among the caller's.

    Raises: `InvalidRequest` if the URL or the key cannot be used, or ``workspace`` is no id."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        tls: ClientTls | None = None,
        workspace: str | None = None,
    ) -> None:
        headers = {"Accept": "application/json"}
        if workspace is not None:
            headers["X-Aragora-Workspace"] = check_id(workspace, "ARAGORA_CLIENT_WORKSPACE")
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise InvalidRequest("The API key has characters that no header may have; look at ARAGORA_API_KEY.")
            headers["Authorization"] = f"Bearer {api_key}"
        self.base_url = base_url.rstrip("/")
        #: As messages have it: whoever reads them need not know a password that is in it.
        self.shown_url = without_userinfo(self.base_url)
        self._timeout_s = timeout_s
        self._check_url()
        self._headers = headers
        self._tls = tls or ClientTls()
        self._tls_state = self._tls.state()
        self._http = self._new_http()
        #: The one before the last renewal of certificates: its calls end meanwhile.
        self._former: httpx.AsyncClient | None = None

    def _new_http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.base_url,
            headers=self._headers,
            timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_S),
            verify=self._tls.context() if self.base_url.startswith("https:") else True,
            # The API sets no cookies. One of a proxy's that no header may have would fail every later call.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def _renew(self) -> None:
        """Takes certificates whose files have changed. Not by loading them into the context at hand: one that has the
        certificate of one renewal and the key of another fails every handshake. Files that do not fit, as while one of two
        is written, are looked at again by the next call."""
        state = self._tls.state()
        if state == self._tls_state:
            return
        try:
            renewed = self._new_http()
        except InvalidRequest:
            return
        former, self._former, self._http, self._tls_state = self._former, self._http, renewed, state
        if former is not None:
            await former.aclose()

    def _check_url(self) -> None:
        """Checks the URL once, here: a later error of httpx about a URL is then about a redirect in an answer."""
        try:
            url = httpx.URL(self.base_url)
            url.host.encode("idna")  # as the name is looked up: no label is empty or too long
        except (httpx.InvalidURL, UnicodeError):  # its words may quote a password that is not percent-encoded
            raise self._no_url(f"it cannot be parsed; {PASSWORD_FORM}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise self._no_url("it needs http:// or https:// and a host")
        if not 0 < (url.port or 80) < 65_536:
            raise self._no_url("its port is none")

    def _no_url(self, problem: str) -> InvalidRequest:
        return InvalidRequest(
            f"{self.shown_url} is not the URL of a control plane ({problem}); look at ARAGORA_API_URL."
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
        if self._former is not None:
            await self._former.aclose()

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
        """Makes a call and returns its answer. ``path`` is below the API's prefix, or from the root if it starts with ``//``. A
        ``body`` of bytes is JSON already. ``has`` names members that the answer must have with their types, where it
        matters that it is the API's: proxies answer 200 and JSON too.

        Raises: `InvalidRequest` if the body has no JSON, `Unavailable` if the certificate of the call was replaced meanwhile and
        does not count any more; else what the module's docstring lists."""
        url = path[1:] if path.startswith("//") else API + path
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        content: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            content = {"content": body}
            headers["Content-Type"] = "application/json"
        patience_s = timeout_s if timeout_s is not None else self._timeout_s
        await self._renew()
        try:
            request = self._http.build_request(
                method,
                url,
                **content,
                params={k: v for k, v in (params or {}).items() if v is not None},
                headers=headers,
                timeout=httpx.Timeout(patience_s, connect=CONNECT_S),
            )
        except httpx.InvalidURL:
            raise self._no_url("it is too long, or its path holds a character that no URL has") from None
        except ValueError:
            raise InvalidRequest(
                "The call holds what JSON does not have: NaN, an infinity or half a character; leave it out.",
                INVALID_BODY,
            ) from None
        shown = self._tls_state
        answer = await self._answer(request, patience_s)
        if answer.status_code == 401 and shown != self._tls.state():
            raise Unavailable(
                "The certificate of this call has been replaced since it began; make it again.", "certificate_replaced"
            )
        return _unwrap(answer, has or {})

    async def _answer(self, request: httpx.Request, patience_s: float) -> httpx.Response:
        try:
            # httpx bounds each read but not the call: an answer that comes byte by byte would never end.
            async with asyncio.timeout(patience_s + CONNECT_S):
                return await self._http.send(request)
        except _ODD_REDIRECT as error:
            raise OutcomeUnknown(
                f"What answered at {self.shown_url} is not the control plane: it redirects to what is no URL "
                f"({type(error).__name__}); try again, or look at the proxies in front of it."
            ) from error
        except (httpx.RequestError, TimeoutError) as error:
            raise OutcomeUnknown(
                f"The control plane at {self.shown_url} does not answer ({reason(error)}); "
                "start it with `aragora-cp up` or set ARAGORA_API_URL."
            ) from error

    async def get(self, path: str, **params: Any) -> Any:
        """`request` with GET."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """`request` with POST."""
        return await self.request("POST", path, body, idempotency_key=idempotency_key)

    async def tasks(self, *where: str, **filters: Any) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the tasks for which all conditions hold (``metadata.pr=17``, ``tag=nightly``: docs/tasks.md), newest first, page
        by page until there are no more. ``filters``: those of ``GET /tasks``. Stop early under ``contextlib.aclosing``.

        Raises: what `request` raises."""
        cursor: str | None = None
        while True:
            page = await self.get("/tasks", where=where, cursor=cursor, **filters)
            for task in page["tasks"]:
                yield task
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def task_states(
        self, task_id: str, *, look_s: float = LONG_POLL_S, patience: Patience = DEFAULT_PATIENCE
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the task, and again whenever its state, attempt, agent or progress is another one; last when it has ended. An
        end is seen at once, anything else within ``look_s`` (at most 25). Goes on over outages. Close it
        (``contextlib.aclosing``).

        Raises: `CallerError` if the API refuses, as for a task that does not exist."""
        path, delays = f"/tasks/{path_segment(task_id)}", RetryDelays(patience)
        seen, wait_s = None, 0.0
        while True:
            try:
                task = await self.request(
                    "GET",
                    path,
                    params={"wait": wait_s},
                    timeout_s=self._timeout_s + wait_s,
                    has={"id": str, "status": str},
                )
            except CallerError:
                raise
            except ControlPlaneError as error:
                await asyncio.sleep(delays.next_s(error))
                continue
            delays.reset()
            wait_s = look_s
            state = tuple(task.get(name) for name in ("status_detail", "attempt", "assigned_agent", "progress"))
            if state != seen:
                seen = state
                yield task
            if task["status"] in _ENDED_HOW:
                return

    async def result(self, task_id: str, *, timeout_s: float | None = None) -> Any:
        """Waits until the task has ended, over outages too, and returns its result.

        Raises: `TaskNotCompleted` if it ended without one; `CallerError` if the API refuses, or shows no results to this caller;
        `TimeoutError` after ``timeout_s`` seconds, while the task goes on."""
        task: Mapping[str, Any] = {}
        async with asyncio.timeout(timeout_s), contextlib.aclosing(self.task_states(task_id)) as states:
            async for state in states:
                task = state
        if task["status"] != "completed":
            raise TaskNotCompleted(task)
        if "result" not in task:
            raise ApiError(
                "Results are not shown to this caller; ask an administrator for the permission controlplane:payloads.read.",
                "result_withheld",
                403,
            )
        return task["result"]

    async def apply_workflow(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stores a document as the next version of its workflow, and returns it; the same document again is no new version.

        Raises: what `request` raises."""
        applied: Mapping[str, Any] = await self.post("/workflows", document)
        return applied

    async def start_run(
        self,
        workflow: str,
        input: Any = None,
        *,
        version: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Mapping[str, Any]:
        """Starts a run of a workflow, and returns it; ``run_id`` is its name.

        Raises: what `request` raises; `InvalidRequest` if ``workflow`` is no id."""
        body = {"input": input, "version": version, "metadata": metadata or {}}
        started: Mapping[str, Any] = await self.post(
            f"/workflows/{path_segment(workflow)}/runs", body, idempotency_key=idempotency_key
        )
        return started

    async def run_states(
        self, run_id: str, *, look_s: float = RUN_LOOK_S, patience: Patience = DEFAULT_PATIENCE
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the run, and again whenever it is another one; last when it has ended. An end is seen at once, anything else
        within ``look_s`` (at most 25). Goes on over outages. Close it (``contextlib.aclosing``).

        Raises: `CallerError` if the API refuses, as for a run that does not exist."""
        delays, wait_s = RetryDelays(patience), 0.0
        seen: Mapping[str, Any] | None = None
        while True:
            try:
                run = await self.request(
                    "GET",
                    f"/workflow-runs/{path_segment(run_id)}",
                    params={"wait": wait_s},
                    timeout_s=self._timeout_s + wait_s,
                    has={"run_id": str, "status": str},
                )
            except CallerError:
                raise
            except ControlPlaneError as error:
                await asyncio.sleep(delays.next_s(error))
                continue
            delays.reset()
            wait_s = look_s
            if run != seen:
                seen = run
                yield run
            if run["ended_at"] is not None:
                return

    async def run_result(self, run_id: str, *, timeout_s: float | None = None) -> Mapping[str, Any]:
        """Waits until the run has ended, over outages too, and returns it with the result of each step, whatever its status.

        Raises: `CallerError` if the API refuses; `TimeoutError` after ``timeout_s`` seconds, while the run goes on."""
        async with asyncio.timeout(timeout_s), contextlib.aclosing(self.run_states(run_id)) as states:
            async for _ in states:
                pass
            ended: Mapping[str, Any] = await self.get(f"/workflow-runs/{path_segment(run_id)}", results=True)
        return ended

    async def events(self, *, after: int | None = None, **filters: str | None) -> AsyncIterator[StreamEvent]:
        """Yields server-sent events for ever. If the connection breaks, goes on after the last event. Raises: `CallerError` if
        the API refuses."""
        cursor = None if after is None else str(after)
        while True:
            async with contextlib.aclosing(self._server_sent("/stream", filters, cursor)) as events:
                async for cursor, content in events:
                    seq = int(cursor) if cursor is not None and cursor.isdecimal() else 0
                    yield StreamEvent(seq=seq, type=content["type"], at=content["timestamp"], data=content["data"])
            await asyncio.sleep(RECONNECT_S)

    async def output(self, task_id: str, *, after: str | None = None) -> AsyncGenerator[OutputEvent, None]:
        """Yields what the task tells while it runs: chunks (``task_chunk``), attempts that begin, and at last its end
        (``task_ended``). Goes on over outages, after the last chunk. ``after``: the cursor of an event. Close it
        (``contextlib.aclosing``).

        Raises: `CallerError` if the API refuses, as for a task that does not exist."""
        path, cursor = f"/tasks/{path_segment(task_id)}/chunks/stream", after
        while True:
            async with contextlib.aclosing(self._server_sent(path, {}, cursor)) as events:
                async for cursor, content in events:
                    if content["type"] not in OUTPUT_TYPES:
                        continue  # of a later version, or that access was lost, which the next call tells
                    data = content["data"]
                    yield OutputEvent(
                        type=content["type"],
                        at=content["timestamp"],
                        attempt=data["attempt"],
                        content=data.get("content"),
                        cursor=cursor or "",
                        data=data,
                    )
                    if content["type"] == ENDED:
                        return
            await asyncio.sleep(RECONNECT_S)

    async def _server_sent(
        self, path: str, filters: Mapping[str, str | None], cursor: str | None
    ) -> AsyncGenerator[tuple[str | None, dict[str, Any]], None]:
        """The events of one connection with their ids, until it breaks. A stream ends with its replica, and until the next
        replica runs a proxy answers: callers wait that out. Raises: `CallerError` if the API refuses."""
        headers = {"Accept": "text/event-stream"}
        if cursor is not None:
            headers["Last-Event-ID"] = cursor
        params = {k: v for k, v in filters.items() if v is not None}
        await self._renew()
        try:
            async with self._http.stream(
                "GET", API + path, params=params, headers=headers, timeout=httpx.Timeout(CONNECT_S, read=45.0)
            ) as response:
                await _check_stream(response)
                async for event in _parse_sse(response, cursor):
                    yield event
        except CallerError:
            raise
        except (httpx.RequestError, *_ODD_REDIRECT, ControlPlaneError):
            pass


async def _check_stream(response: httpx.Response) -> None:
    kind = response.headers.get("content-type", "")
    if response.status_code != 200 or not kind.startswith("text/event-stream"):
        await response.aread()
        _unwrap(response, {})
        raise _foreign(response)


async def _parse_sse(response: httpx.Response, cursor: str | None) -> AsyncIterator[tuple[str | None, dict[str, Any]]]:
    async for line in response.aiter_lines():
        if line.startswith("id: ") and _CURSOR.fullmatch(line[4:]):
            cursor = line[4:]
        elif line.startswith("data: "):
            try:
                content = json.loads(line[6:])
                if not isinstance(content["data"], dict):
                    raise TypeError("data is no object")
                content["type"], content["timestamp"]
            except (ValueError, KeyError, TypeError) as error:
                raise OutcomeUnknown("The stream of events was cut.") from error
            yield cursor, content


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
    """The body if it is a JSON object, else None: the API's answers are objects."""
    try:
        body = response.json()
    except (ValueError, RecursionError, LookupError):  # LookupError: an encoding that nobody knows
        return None
    return body if isinstance(body, dict) else None


def _is_own_error(body: Mapping[str, Any]) -> bool:
    """Whether the body has the form of ``serve_app.http.errors``. If one of the three is missing, it is not the API's."""
    return all(isinstance(body.get(name), str) for name in ("error", "code", "trace_id"))


def _foreign(response: httpx.Response) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"What answered {response.status_code} is not the control plane; try again, or look at the proxies in front of it.",
        None,
        _retry_after_s(response),
        response.status_code,
    )


def _retry_after_s(response: httpx.Response) -> float:
    """Reads Retry-After, seconds or a date. 0 for anything else, for which the parser raises various errors."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    with contextlib.suppress(ValueError, OverflowError, TypeError, IndexError):
        at = email.utils.parsedate_to_datetime(value)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0
