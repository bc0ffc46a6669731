"""A2A 1.0: an agent is asked by a message, and answers by a message or a task. Needs the extra ``a2a``.

The SDK is imported when the first such agent is asked. It sends through the pool whose addresses are checked. It parses
where it sends, so a large answer is kept from it there and given to it again in a thread (`_by_the_sdk`): it took 0.5 s for
900 kB, for which all agents of the host stood still.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpx

from aragora_worker.reasons import reason
from cluster.agent_transports.failures import refused_by_status, reported, told, words_of
from cluster.agent_transports.wire_formats import CARD_PATH, url_of
from cluster.domain.agents.calls import Reply
from cluster.domain.agents.credential_use import CredentialUse
from cluster.domain.base.errors import (
    AgentFailed,
    AgentMalformed,
    AgentRefused,
    AgentTimeout,
    AgentUnavailable,
    PeerError,
)
from cluster.domain.base.json_values import write_json
from cluster.domain.base.urls import safe_url
from cluster.ports.agent_transport import THE_ANSWER, Ask, check_whole, counted, judged
from cluster.process.large import MAX_INLINE_BYTES, in_thread_if_large

T = TypeVar("T")

_POLL_S = 0.5
MAX_CLIENTS = 1000
#: How long an agent's card is believed: an agent that is deployed anew may have other addresses.
CARD_S = 3600.0


class _Large(Exception):
    """An answer that the SDK must not parse on the loop."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{len(answer.content)} bytes")
        self.answer = answer


class _Again(httpx.AsyncBaseTransport):
    """Gives an answer that is there already."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        kind = self._answer.headers.get("content-type", "application/json")
        return httpx.Response(self._answer.status_code, headers={"content-type": kind}, content=self._answer.content)


async def _keep_large(answer: httpx.Response) -> None:
    if len(await answer.aread()) > MAX_INLINE_BYTES:
        raise _Large(answer)


async def _again(use: Callable[[httpx.AsyncClient], Awaitable[T]], answer: httpx.Response) -> T:
    async with httpx.AsyncClient(transport=_Again(answer)) as client:
        return await use(client)


@dataclass(slots=True)
class _Known:
    """An agent's card, what it says of addresses and methods, the agent's revision, and when the card was read."""

    card: Any
    addresses: str
    revision: float
    read_at: float


class A2ATransport:
    """``client`` is the HTTP client that the SDK has to use, and nobody else uses it; ``client_for`` makes one for an agent with
    a credential. ``clock`` gives seconds."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        clock: Callable[[], float] = time.monotonic,
        client_for: Callable[[CredentialUse], Awaitable[httpx.AsyncClient]] | None = None,
    ) -> None:
        client.event_hooks["response"] = [_keep_large]
        self._http = client
        self._client_for = client_for
        self._clock = clock
        #: By endpoint and credential: an agent may show a card of its own to whom it knows.
        self._known: dict[tuple[str, CredentialUse | None], _Known] = {}

    async def ask(self, ask: Ask) -> Reply:
        """Returns the agent's answer. Raises: `AgentTimeout` if it does not answer in time; another `PeerError` if it cannot
        be reached, fails, refuses, or gives an answer that cannot be read, is empty or is cut off."""
        shown = safe_url(ask.endpoint)
        try:
            async with asyncio.timeout(ask.timeout_s):
                with judged():
                    text, finish = await self._ask(ask)
        except TimeoutError:
            raise AgentTimeout(f"{shown} did not answer within {ask.timeout_s:.1f} s.") from None
        except PeerError:
            raise
        except Exception as error:  # the SDK's own errors have no common base
            raise await in_thread_if_large(_size(error), _blamed, error, shown) from error
        with judged():
            return await in_thread_if_large(len(text), _reply, ask, text, finish)

    async def _client_of(self, ask: Ask) -> httpx.AsyncClient:
        """Raises: `AgentRefused` if the agent's credential cannot be had, `AgentNotCalled` if not now."""
        if ask.credential is None:
            return self._http
        if self._client_for is None:
            raise AgentRefused(f"The credential {ask.credential.name} cannot be read here.", "credential_missing")
        client = await self._client_for(ask.credential)
        client.event_hooks["response"] = [_keep_large]
        return client

    async def _by_the_sdk(self, http: httpx.AsyncClient, use: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
        """What the SDK reads over a client with one call. A large answer stays here and is read in a thread, where the SDK makes
        the same call once more, over a client that has the answer. Raises what ``use`` raises."""
        try:
            return await use(http)
        except _Large as large:
            answer = large.answer
        return await asyncio.to_thread(lambda: asyncio.run(_again(use, answer)))

    async def _card(self, ask: Ask, http: httpx.AsyncClient) -> _Known:
        """The agent's card. It is read if it never was, the agent has registered again, or an hour has passed."""
        whose = (ask.endpoint, ask.credential)
        known, now = self._known.get(whose), self._clock()
        if known is None or known.revision != ask.revision or now - known.read_at >= CARD_S:
            if known is None and len(self._known) >= MAX_CLIENTS:
                self._known.clear()
            known = self._known[whose] = await self._read(ask, http)
        return known

    async def _read(self, ask: Ask, http: httpx.AsyncClient) -> _Known:
        try:
            sdk = await asyncio.to_thread(importlib.import_module, "a2a.client")  # most of a second
        except ImportError:
            raise AgentUnavailable("A2A agents need: pip install 'aragora-control-plane[a2a]'.") from None
        base, _, query = url_of(ask.endpoint, CARD_PATH).partition(CARD_PATH)
        card = await self._by_the_sdk(
            http, lambda http: sdk.A2ACardResolver(http, base, CARD_PATH + query).get_agent_card()
        )
        return _Known(card, str(card.supported_interfaces), ask.revision, self._clock())

    async def _ask(self, ask: Ask) -> tuple[str, str]:
        """The text, and how the task ended. Asks again only if the agent has moved, so that it was not asked."""
        from a2a.types import GetTaskRequest

        http = await self._client_of(ask)
        known = await self._card(ask, http)
        try:
            answer = await self._by_the_sdk(http, partial(_send, known, ask))
        except Exception as error:
            moved = await self._moved(ask, http, known) if _misses(error) else None
            if moved is None:
                raise
            known = moved
            answer = await self._by_the_sdk(http, partial(_send, known, ask))
        if answer.HasField("message"):
            message = answer.message
            return await in_thread_if_large(message.ByteSize(), _parts, message.parts), ""
        task = answer.task
        while not _ended(task):
            await asyncio.sleep(_POLL_S)
            task = await self._by_the_sdk(http, partial(_task, known, GetTaskRequest(id=task.id)))
        return await in_thread_if_large(task.ByteSize(), _of_task, task, safe_url(ask.endpoint))

    async def _moved(self, ask: Ask, http: httpx.AsyncClient, known: _Known) -> _Known | None:
        """Reads the card again; None if it says the same or cannot be read."""
        self._known.pop((ask.endpoint, ask.credential), None)
        try:
            again = await self._card(ask, http)
        except Exception:  # noqa: BLE001 - the error of the call itself says more
            return None
        return again if again.addresses != known.addresses else None


def _reply(ask: Ask, text: str, finish: str) -> Reply:
    check_whole(ask, text, finish)
    return counted(ask, text, None, None, finish_reason=finish)


def _client(http: httpx.AsyncClient, known: _Known) -> Any:
    from a2a.client import ClientConfig, ClientFactory

    return ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(known.card)


async def _task(known: _Known, asked: Any, http: httpx.AsyncClient) -> Any:
    return await _client(http, known).get_task(asked)


async def _send(known: _Known, ask: Ask, http: httpx.AsyncClient) -> Any:
    """The agent's last event for a message: one with a message or a task. Raises what the SDK raises; `AgentMalformed`."""
    from a2a.types import Message, Part, Role, SendMessageRequest

    message = Message(message_id=ask.key, role=Role.ROLE_USER, parts=[Part(text=_text(ask))])
    request = SendMessageRequest(message=message)
    request.metadata.update({"schema": dict(ask.schema), "timeout_seconds": ask.timeout_s})
    answer: Any = None
    async for event in _client(http, known).send_message(request):
        if event.HasField("message"):
            return event
        if event.HasField("task"):
            answer = event
    if answer is None:
        raise AgentMalformed(f"{safe_url(ask.endpoint)} answered neither a message nor a task.")
    return answer


#: What the SDK, and the libraries that it reads with, raise for an answer of an unexpected form.
_ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, httpx.InvalidURL)
_REPORTED = re.compile(r"JSON-RPC Error -?[0-9]+:\s*")
_CLOSED = "HTTP client is closed"
#: How a server answers that has no such address or method.
_MISSING = (301, 302, 307, 308, 404, 405, 410, 421, 501)
_NO_METHOD = ("MethodNotFoundError", "UnsupportedOperationError", "VersionNotSupportedError")


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in causes:
        causes.append(following)
        following = following.__cause__ or following.__context__
    return causes


def _misses(error: BaseException) -> bool:
    """Whether a call failed by its address or its method, so that the agent did not get it."""
    for cause in _causes(error):
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code in _MISSING
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout) or type(cause).__name__ in _NO_METHOD:
            return True
    return False


def _blamed(error: Exception, shown: str) -> PeerError:
    """The PeerError for a failed call, found by its causes: a status, a connection that failed, an error that the agent reports,
    or an answer that cannot be read."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, PeerError):
            return cause
        if isinstance(cause, httpx.HTTPStatusError):
            return _of_status(cause.response, shown)
        if isinstance(cause, httpx.ReadTimeout | httpx.WriteTimeout):
            return AgentTimeout(f"{shown} did not answer in time.")
    broken = any(isinstance(cause, httpx.RequestError) for cause in causes) or _CLOSED in str(error)
    if not broken and any(_unreadable(cause) for cause in causes):
        return AgentMalformed(f"{shown} gave an answer over A2A that cannot be read.")
    if broken or not type(error).__module__.startswith("a2a."):
        return AgentUnavailable(f"{shown} cannot be asked over A2A: {reason(error)}.")
    return reported(shown, words_of(_REPORTED.sub("", str(error))) or type(error).__name__)


def _size(error: BaseException) -> int:
    """How many characters or bytes ``_blamed`` reads."""
    answers = (cause.response for cause in _causes(error) if isinstance(cause, httpx.HTTPStatusError))
    return max(len(str(error)), *(len(answer.content) for answer in answers if answer.is_closed), 0)


def _of_status(response: httpx.Response, shown: str) -> PeerError:
    content = response.content if response.is_closed else b""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return refused_by_status(shown, response.status_code, headers, content, time.time())


def _unreadable(error: BaseException) -> bool:
    """Whether an error says that the answer cannot be read. Types are told by their modules' names: the SDK may be missing. For
    an error that the agent reports, the SDK raises the type that it has for unreadable answers too, so the text tells."""
    module = type(error).__module__
    if module.startswith("a2a.client"):
        return _REPORTED.match(str(error)) is None
    return isinstance(error, _ODD) or module.startswith("google.protobuf")


def _text(ask: Ask) -> str:
    return "\n\n".join(message["content"] for message in ask.messages)


def _parts(parts: Any) -> str:
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    texts = []
    for part in parts:
        if part.HasField("text"):
            texts.append(part.text)
        elif part.HasField("data"):
            texts.append(write_json(MessageToDict(part.data), THE_ANSWER))
    return "".join(texts)


def _ended(task: Any) -> bool:
    from a2a.types import TaskState

    return task.status.state not in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)


def _of_task(task: Any, shown: str) -> tuple[str, str]:
    """The text of the task's artifacts, or of its last status, and the task's state.

    Raises: `AgentFailed` if the task failed or was cancelled, `AgentRefused` if it was rejected or asks for something; both
    with the agent's words."""
    from a2a.types import TaskState

    state = TaskState.Name(task.status.state)
    text, status_text = (
        "".join(_parts(artifact.parts) for artifact in task.artifacts),
        _parts(task.status.message.parts),
    )
    if task.status.state == TaskState.TASK_STATE_COMPLETED:
        return text or status_text, state
    message = told(f"{shown} ended its task as {state}", words_of(status_text or text))
    failed = task.status.state in (TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED)
    raise AgentFailed(message) if failed else AgentRefused(message)
