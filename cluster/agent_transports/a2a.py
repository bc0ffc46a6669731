"""A2A 1.0: an agent is asked by a message, and answers by a message or a task. Needs the extra ``a2a``.

The SDK is imported when the first such agent is asked. It sends through the pool whose addresses are checked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx

from cluster.domain.base.errors import AgentMalformed, AgentRefused, AgentTimeout, AgentUnavailable, PeerError
from cluster.domain.base.json_values import write_json
from cluster.http.addresses import safe_url
from cluster.ports.agent_transport import THE_ANSWER, Ask, Reply, counted, judged

_POLL_S = 0.5
MAX_CLIENTS = 1000


class A2ATransport:
    """``pool(provider)`` returns the HTTP client that the SDK has to use."""

    def __init__(self, pool: Callable[[str], httpx.AsyncClient]) -> None:
        self._pool = pool
        self._clients: dict[str, Any] = {}

    async def ask(self, ask: Ask) -> Reply:
        """Returns the agent's answer. Raises: `AgentTimeout` if it does not answer in time; another `PeerError` if it cannot
        be reached, refuses, or gives an answer that cannot be read."""
        shown = safe_url(ask.endpoint)
        try:
            async with asyncio.timeout(ask.timeout_s):
                with judged():
                    text = await self._ask(ask)
        except TimeoutError:
            raise AgentTimeout(f"{shown} did not answer within {ask.timeout_s:.1f} s.") from None
        except PeerError:
            raise
        except Exception as error:  # the SDK's own errors have no common base
            raise _blamed(error, shown) from error
        with judged():
            return counted(ask, text, None, None)

    async def _client(self, ask: Ask) -> Any:
        try:
            from a2a.client import ClientConfig, ClientFactory
        except ImportError:
            raise AgentUnavailable("A2A agents need: pip install 'aragora-control-plane[a2a]'.") from None
        if ask.endpoint not in self._clients:
            factory = ClientFactory(ClientConfig(streaming=False, httpx_client=self._pool(ask.provider)))
            client = await factory.create_from_url(ask.endpoint)
            if len(self._clients) >= MAX_CLIENTS:
                self._clients.clear()
            self._clients[ask.endpoint] = client
        return self._clients[ask.endpoint]

    async def _ask(self, ask: Ask) -> str:
        from a2a.types import GetTaskRequest, Message, Part, Role, SendMessageRequest

        client = await self._client(ask)
        message = Message(message_id=ask.key, role=Role.ROLE_USER, parts=[Part(text=_text(ask))])
        request = SendMessageRequest(message=message)
        request.metadata.update({"schema": dict(ask.schema), "timeout_seconds": ask.timeout_s})
        task: Any = None
        async for event in client.send_message(request):
            if event.HasField("message"):
                return _parts(event.message.parts)
            if event.HasField("task"):
                task = event.task
        if task is None:
            raise AgentMalformed(f"{safe_url(ask.endpoint)} answered neither a message nor a task.")
        while not _ended(task):
            await asyncio.sleep(_POLL_S)
            task = await client.get_task(GetTaskRequest(id=task.id))
        return _of_task(task)


#: What the SDK, and the libraries that it reads with, raise for an answer of an unexpected form.
_ODD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, httpx.InvalidURL)
#: How the SDK's error begins if the answer could be read (the agent reports an error) or there was no answer. For an
#: answer that cannot be read the SDK raises the same type, so only the text tells the two apart.
_READ = re.compile(r"JSON-RPC Error -?[0-9]+:|HTTP client is closed")


def _blamed(error: Exception, shown: str) -> PeerError:
    """The PeerError for a failed call, found by its causes: a connection that failed, or an answer that cannot be read."""
    causes: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in causes:
        causes.append(following)
        following = following.__cause__ or following.__context__
    for cause in causes:
        if isinstance(cause, PeerError):
            return cause
    if any(isinstance(cause, httpx.RequestError | httpx.HTTPStatusError) for cause in causes):
        return AgentUnavailable(f"{shown} cannot be asked over A2A: {type(error).__name__}.")
    if any(_unreadable(cause) for cause in causes):
        return AgentMalformed(f"{shown} gave an answer over A2A that cannot be read.")
    return AgentUnavailable(f"{shown} cannot be asked over A2A: {type(error).__name__}.")


def _unreadable(error: BaseException) -> bool:
    """Whether an error says that the answer cannot be read. Types are told by their modules' names: the SDK may be missing."""
    module = type(error).__module__
    if module.startswith("a2a.client"):
        return _READ.match(str(error)) is None
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


def _of_task(task: Any) -> str:
    """The text of the task's artifacts, or of its last status. Raises: `AgentRefused` if the task is not completed."""
    from a2a.types import TaskState

    if task.status.state != TaskState.TASK_STATE_COMPLETED:
        raise AgentRefused(f"The agent's task ended as {TaskState.Name(task.status.state)}.")
    text = "".join(_parts(artifact.parts) for artifact in task.artifacts)
    return text or _parts(task.status.message.parts)
