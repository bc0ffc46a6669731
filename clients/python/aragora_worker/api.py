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
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx

from aragora_worker.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound
from aragora_worker.base.ids import check_id, path_segment
from aragora_worker.base.urls import PASSWORD_FORM, without_userinfo
from aragora_worker.errors import ENDED_HOW, INVALID_BODY, ApiError, OutcomeUnknown, TaskNotCompleted, Unavailable
from aragora_worker.governance import GovernanceCalls
from aragora_worker.reasons import TLS_FAILS, reason
from aragora_worker.regions import KnownRegions
from aragora_worker.repeating import DEFAULT_PATIENCE, Patience, RetryDelays, until_taken
from aragora_worker.tasks import timeout
from aragora_worker.tls import ClientTls

if TYPE_CHECKING:
    from typing_extensions import Self

API = "/api/control-plane"
RECONNECT_S = 0.5
CONNECT_S = 5.0
#: How long a call waits for the end of a task: the most that the API waits.
LONG_POLL_S = 25.0
#: How late a change of a run that is followed is seen; its end is seen at once.
RUN_LOOK_S = 2.0
#: What httpx raises for a redirect to something that is no URL, although it is not told to follow redirects. (ValueError:
#: for odd names and ports.)
_ODD_REDIRECT = (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError)
_TLS_ADVICE = (
    "look at ARAGORA_CLIENT_CA_FILE, which has to have issued its certificate, and at ARAGORA_CLIENT_CERT_FILE and "
    "ARAGORA_CLIENT_KEY_FILE, which it may refuse."
)


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


class ControlPlaneClient(GovernanceCalls):
    """A client of one base URL, with one pool. Methods return the API's JSON objects and raise what the module's docstring lists.

    ``workspace`` is the one that its calls act in; None: the API chooses among the caller's. ``other_urls``: other regions of the
    control plane. If the region that is called says that one of them answers for the workspace, the call is made there, once, and
    so are those that follow.

    Raises: `InvalidRequest` if the URL or the key cannot be used, or ``workspace`` is no id."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        tls: ClientTls | None = None,
        workspace: str | None = None,
        other_urls: Sequence[str] = (),
    ) -> None:
        headers = {"Accept": "application/json"}
        if workspace is not None:
            headers["X-Aragora-Workspace"] = check_id(workspace, "ARAGORA_CLIENT_WORKSPACE")
        if api_key:
            if not (api_key.isascii() and api_key.isprintable()):
                raise InvalidRequest("The API key has characters that no header may have; look at ARAGORA_API_KEY.")
            headers["Authorization"] = f"Bearer {api_key}"
        for url in (*other_urls, base_url):
            self._take_url(url)
            self._check_url()
        self._regions = KnownRegions((base_url, *other_urls))
        self._timeout_s = timeout_s
        self._headers = headers
        self._tls = tls or ClientTls()
        self._tls_state = self._tls.state()
        self._http = self._new_http()
        #: The one before the last renewal of certificates, or of another region: its calls end meanwhile.
        self._former: httpx.AsyncClient | None = None

    def _take_url(self, url: str) -> None:
        self.base_url = url.rstrip("/")
        #: As messages have it: whoever reads them need not know a password that is in it.
        self.shown_url = without_userinfo(self.base_url)

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
        self._tls_state = state
        await self._replace(renewed)

    async def _replace(self, http: httpx.AsyncClient) -> None:
        former, self._former, self._http = self._former, self._http, http
        if former is not None:
            await former.aclose()

    async def _moved(self, asked: str, answer: httpx.Response) -> bool:
        """Whether a call that was answered so by the region at ``asked`` is to be made again, at the region that it names."""
        url = self._regions.instead(asked, answer)
        if url is None:
            return False
        if url != self.base_url:  # else another call has moved already
            before = self.base_url
            self._take_url(url)
            try:
                http = self._new_http()
            except InvalidRequest:  # certificates of which one was replaced and not the other yet
                self._take_url(before)
                return False
            await self._replace(http)
        return True

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
        traceparent: str | None = None,
    ) -> Any:
        """Makes a call and returns its answer. ``path`` is below the API's prefix, or from the root if it starts with ``//``. A
        ``body`` of bytes is JSON already. ``has`` names members that the answer must have with their types, where it
        matters that it is the API's: proxies answer 200 and JSON too. ``traceparent``: the W3C context that the call belongs to.

        Raises: `InvalidRequest` if the body has no JSON, `Unavailable` if the certificate of the call was replaced meanwhile and
        does not count any more; else what the module's docstring lists."""
        url = path[1:] if path.startswith("//") else API + path
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        if traceparent:
            headers["traceparent"] = traceparent
        content: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            content = {"content": body}
            headers["Content-Type"] = "application/json"
        patience_s = timeout_s if timeout_s is not None else self._timeout_s
        await self._renew()
        asked, shown = self.base_url, self._tls_state
        arguments: dict[str, Any] = {
            **content,
            "params": {k: v for k, v in (params or {}).items() if v is not None},
            "headers": headers,
            "timeout": httpx.Timeout(patience_s, connect=CONNECT_S),
        }
        answer = await self._answer(self._built(method, url, arguments), patience_s)
        if await self._moved(asked, answer):
            answer = await self._answer(self._built(method, url, arguments), patience_s)
        if answer.status_code == 401 and shown != self._tls.state():
            raise Unavailable(
                "The certificate of this call has been replaced since it began; make it again.", "certificate_replaced"
            )
        return _unwrap(answer, has or {})

    def _built(self, method: str, url: str, arguments: Mapping[str, Any]) -> httpx.Request:
        try:
            return self._http.build_request(method, url, **arguments)
        except httpx.InvalidURL:
            raise self._no_url("it is too long, or its path holds a character that no URL has") from None
        except ValueError:
            raise InvalidRequest(
                "The call holds what JSON does not have: NaN, an infinity or half a character; leave it out.",
                INVALID_BODY,
            ) from None

    async def _answer(self, request: httpx.Request, patience_s: float) -> httpx.Response:
        try:
            # httpx bounds each read but not the call: an answer that comes byte by byte would never end.
            async with timeout(patience_s + CONNECT_S):
                return await self._http.send(request)
        except _ODD_REDIRECT as error:
            raise OutcomeUnknown(
                f"What answered at {self.shown_url} is not the control plane: it redirects to what is no URL "
                f"({type(error).__name__}); try again, or look at the proxies in front of it."
            ) from error
        except (httpx.RequestError, TimeoutError, ssl.SSLError) as error:
            # httpx lets an SSLError pass that comes after the handshake: TLS 1.3 refuses a certificate so.
            why = reason(error)
            raise OutcomeUnknown(
                f"The control plane at {self.shown_url} does not answer ({why}); "
                + (_TLS_ADVICE if why == TLS_FAILS else "start it with `aragora-cp up` or set ARAGORA_API_URL.")
            ) from error

    async def get(self, path: str, **params: Any) -> Any:
        """`request` with GET."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """`request` with POST."""
        return await self.request("POST", path, body, idempotency_key=idempotency_key)

    async def set_credential(
        self, name: str, secret: str, origins: Sequence[str] = (), *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Makes a credential of the workspace, or gives it this secret alone (docs/credentials.md). ``origins``: where it may be
        sent; anywhere if left out. The answer is the credential without its secret. Raises: what `request` raises."""
        body = {"name": name, "secret": secret, "origins": list(origins)}
        return dict(await self.post("/credentials", body, idempotency_key=idempotency_key))

    async def rotate_credential(
        self, name: str, secret: str, *, overlap_s: float = 3600.0, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Gives a credential a new secret; for ``overlap_s`` seconds an agent that refuses it is sent the one of before.

        Raises: what `request` raises; `InvalidRequest` if ``name`` is no id."""
        path = f"/credentials/{path_segment(name)}/rotate"
        body = {"secret": secret, "overlap_seconds": overlap_s}
        return dict(await self.post(path, body, idempotency_key=idempotency_key))

    async def credentials(self) -> Sequence[Mapping[str, Any]]:
        """The workspace's credentials, without their secrets. Raises: what `request` raises."""
        return list((await self.get("/credentials"))["credentials"])

    async def delete_credential(self, name: str) -> None:
        """Deletes a credential; calls of agents that name it fail from now on.

        Raises: what `request` raises; `InvalidRequest` if ``name`` is no id."""
        await self.request("DELETE", f"/credentials/{path_segment(name)}")

    async def tasks(self, *where: str, **filters: Any) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the tasks for which all conditions hold (``metadata.pr=17``, ``tag=nightly``: docs/tasks.md), newest first, page
        by page until there are no more. ``filters``: those of ``GET /tasks``. Stop early under ``contextlib.aclosing``.

        Raises: what `request` raises."""
        async for task in self._listed("/tasks", "tasks", where, filters):
            yield task

    async def deliberations(self, *where: str, **filters: Any) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the deliberations for which all conditions hold, as `tasks` does; metadata are those of the context.
        ``filters``: those of ``GET /deliberations``.

        Raises: what `request` raises."""
        async for record in self._listed("/deliberations", "deliberations", where, filters):
            yield record

    async def _listed(
        self, path: str, name: str, where: Sequence[str], filters: Mapping[str, Any]
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        cursor: str | None = None
        while True:
            page = await self.get(path, where=where, cursor=cursor, **filters)
            for entry in page[name]:
                yield entry
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
        seen, wait_s = None, 0.0

        async def read() -> Mapping[str, Any]:
            task: Mapping[str, Any] = await self.request(
                "GET",
                f"/tasks/{path_segment(task_id)}",
                params={"wait": wait_s},
                timeout_s=self._timeout_s + wait_s,
                has={"id": str, "status": str},
            )
            return task

        while True:
            task = await until_taken(read, RetryDelays(patience), over=ControlPlaneError)
            wait_s = look_s
            state = tuple(task.get(name) for name in ("status_detail", "attempt", "assigned_agent", "progress"))
            if state != seen:
                seen = state
                yield task
            if task["status"] in ENDED_HOW:
                return

    async def result(self, task_id: str, *, timeout_s: float | None = None) -> Any:
        """Waits until the task has ended, over outages too, and returns its result.

        Raises: `TaskNotCompleted` if it ended without one; `CallerError` if the API refuses, or shows no results to this caller;
        `TimeoutError` after ``timeout_s`` seconds, while the task goes on."""
        task: Mapping[str, Any] = {}
        async with timeout(timeout_s), contextlib.aclosing(self.task_states(task_id)) as states:
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

    async def questions(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the tasks that wait for people, each with its question, newest first (docs/questions.md). Stop early under
        ``contextlib.aclosing``. Raises: what `request` raises."""
        cursor: str | None = None
        while True:
            page = await self.get("/questions", cursor=cursor)
            for question in page["questions"]:
                yield question
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def answer(self, task_id: str, value: Any) -> Mapping[str, Any]:
        """Answers the open question of a task; the same answer again changes nothing.

        Raises: what `request` raises; `InvalidRequest` if ``task_id`` is no id."""
        return await self._answer_with(task_id, {"verdict": "answer", "answer": value})

    async def approve(self, task_id: str, value: Any = True) -> Mapping[str, Any]:
        """Approves what a task asks. Raises: as `answer`."""
        return await self._answer_with(task_id, {"verdict": "approve", "answer": value})

    async def reject(self, task_id: str, reason: str | None = None) -> Mapping[str, Any]:
        """Rejects what a task asks. Raises: as `answer`."""
        return await self._answer_with(task_id, {"verdict": "reject", "reason": reason})

    async def _answer_with(self, task_id: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answered: Mapping[str, Any] = await self.post(f"/tasks/{path_segment(task_id)}/answer", body)
        return answered

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
        body = {"input": input, "version": version, "metadata": {} if metadata is None else metadata}
        started: Mapping[str, Any] = await self.post(
            f"/workflows/{path_segment(workflow)}/runs", body, idempotency_key=idempotency_key
        )
        return started

    async def replay_run(
        self, run_id: str, from_step: str | None = None, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Starts a run that keeps what an ended one has done, but for ``from_step`` and what comes after it, and what did not
        complete; and returns it.

        Raises: what `request` raises; `InvalidRequest` if ``run_id`` is no id."""
        path = f"/workflow-runs/{path_segment(run_id)}/replay"
        started: Mapping[str, Any] = await self.post(path, {"from_step": from_step}, idempotency_key=idempotency_key)
        return started

    async def signal_run(
        self, run_id: str, signal: str, value: Any = None, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Sends a run a signal, whose value is the result of the steps that wait for it. The same value again changes nothing.

        Raises: what `request` raises; `InvalidRequest` if an id is none."""
        path = f"/workflow-runs/{path_segment(run_id)}/signals/{path_segment(signal)}"
        sent: Mapping[str, Any] = await self.post(path, {"value": value}, idempotency_key=idempotency_key)
        return sent

    async def run_states(
        self, run_id: str, *, look_s: float = RUN_LOOK_S, patience: Patience = DEFAULT_PATIENCE
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yields the run, and again whenever it is another one; last when it has ended. An end is seen at once, anything else
        within ``look_s`` (at most 25). Goes on over outages. Close it (``contextlib.aclosing``).

        Raises: `CallerError` if the API refuses, as for a run that does not exist."""
        seen: Mapping[str, Any] | None = None
        wait_s = 0.0

        async def read() -> Mapping[str, Any]:
            run: Mapping[str, Any] = await self.request(
                "GET",
                f"/workflow-runs/{path_segment(run_id)}",
                params={"wait": wait_s},
                timeout_s=self._timeout_s + wait_s,
                has={"run_id": str, "status": str},
            )
            return run

        while True:
            run = await until_taken(read, RetryDelays(patience), over=ControlPlaneError)
            wait_s = look_s
            if run != seen:
                seen = run
                yield run
            if run["ended_at"] is not None:
                return

    async def run_result(self, run_id: str, *, timeout_s: float | None = None) -> Mapping[str, Any]:
        """Waits until the run has ended, over outages too, and returns it with the result of each step, whatever its status.

        Raises: `CallerError` if the API refuses; `TimeoutError` after ``timeout_s`` seconds, while the run goes on."""
        async with timeout(timeout_s), contextlib.aclosing(self.run_states(run_id)) as states:
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
        timeout = httpx.Timeout(CONNECT_S, read=45.0)
        try:
            for is_last in (False, True):
                asked = self.base_url
                async with self._http.stream(
                    "GET", API + path, params=params, headers=headers, timeout=timeout
                ) as response:
                    if response.status_code != 200:
                        await response.aread()
                    if not is_last and await self._moved(asked, response):
                        continue
                    await _check_stream(response)
                    async for event in _parse_sse(response, cursor):
                        yield event
                return
        except CallerError:
            raise
        except (httpx.RequestError, ssl.SSLError, *_ODD_REDIRECT, ControlPlaneError):
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
        return max(0.0, (at.replace(tzinfo=at.tzinfo or timezone.utc) - datetime.now(timezone.utc)).total_seconds())
    return 0.0
