"""What every adapter of `AgentTransport` does with an answer, with none, and with one that is no answer: each protocol over a
real server, and a class in the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from cluster.agent_transports.a2a import A2ATransport
from cluster.agent_transports.python import PythonTransport
from cluster.agent_transports.python_agent import Answer, Question
from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentMalformed, AgentTimeout, AgentUnavailable
from cluster.ports.agent_transport import AgentTransport, Ask
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import a2a_server, serving
from tests.support.probes import eventually

#: What the agent does when it is asked: returns its text, raises, or waits.
Behaviour = Callable[[], Awaitable[str]]


class Fails(Exception):
    """The agent breaks down."""


def chat(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def message(text: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}


ANSWERS: Mapping[TransportKind, Callable[[str], dict[str, Any]]] = {
    TransportKind.OPENAI: chat,
    TransportKind.ANTHROPIC: message,
    TransportKind.HTTP: lambda text: {"text": text},
}
KINDS = (*ANSWERS, TransportKind.A2A, TransportKind.IMPORT)


@dataclass
class Agent:
    """An agent behind one protocol. ``asked``: how often it was."""

    kind: TransportKind
    transport: AgentTransport = field(init=False)
    endpoint: str = ""
    does: Behaviour = field(init=False)
    asked: int = 0

    def ask(self, **changes: Any) -> Ask:
        given = {"transport": self.kind, "agent_id": "a1", "schema": {}, "timeout_s": 30.0}
        return question(self.endpoint, **(given | changes))

    async def text(self) -> str:
        self.asked += 1
        return await self.does()

    async def answer(self, question: Question) -> Answer:
        return Answer(text=await self.text())

    async def over_http(self, request: Request) -> httpx.Response:
        try:
            text = await self.text()
        except Fails:
            return httpx.Response(503, json={"error": {"message": "broken"}})
        return httpx.Response(200, content=json.dumps(ANSWERS[self.kind](text)).encode())

    async def over_a2a(self, url: list[str], request: Request) -> httpx.Response:
        text = ""
        if request.method == "POST":
            try:
                text = await self.text()
            except Fails:
                return httpx.Response(503, json={})
        parts = [{"text": text}]
        answer = a2a_server(url, lambda body: {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": parts}})
        found: httpx.Response = await answer(request)
        return found


@pytest.fixture(params=KINDS, ids=str)
async def agent(request: pytest.FixtureRequest) -> AsyncIterator[Agent]:
    made = Agent(request.param)
    async with AsyncExitStack() as stack:
        if made.kind is TransportKind.IMPORT:
            made.transport = PythonTransport({"a1": made})
            yield made
            return
        ours = transports(LOOPBACK)
        stack.push_async_callback(ours.close)
        made.transport = ours
        if made.kind is TransportKind.A2A:
            pytest.importorskip("a2a")
            made.transport = A2ATransport(ours.client)
            url: list[str] = []
            made.endpoint = await stack.enter_async_context(serving(lambda asked: made.over_a2a(url, asked)))
            url.append(made.endpoint)
        else:
            made.endpoint = await stack.enter_async_context(serving(made.over_http))
        yield made


async def _says(text: str) -> str:
    return text


async def _breaks() -> str:
    raise Fails


async def test_an_answer_is_its_text_with_counts_of_tokens(agent: Agent) -> None:
    agent.does = lambda: _says("yes")
    reply = await agent.transport.ask(agent.ask())
    assert reply.text == "yes"
    assert reply.estimated, "the agent said no counts"
    assert reply.output_tokens >= 1


async def test_an_agent_that_never_answers_times_out(agent: Agent) -> None:
    agent.does = asyncio.Event().wait  # type: ignore[assignment]
    with pytest.raises(AgentTimeout):
        await agent.transport.ask(agent.ask(timeout_s=0.3))


async def test_an_agent_that_breaks_down_is_unavailable(agent: Agent) -> None:
    agent.does = _breaks
    with pytest.raises(AgentUnavailable):
        await agent.transport.ask(agent.ask())


async def test_an_answer_that_cannot_be_stored_is_malformed(agent: Agent) -> None:
    agent.does = lambda: _says("a\x00b")
    with pytest.raises(AgentMalformed):
        await agent.transport.ask(agent.ask())


async def test_a_question_that_is_cancelled_stays_cancelled(agent: Agent) -> None:
    agent.does = asyncio.Event().wait  # type: ignore[assignment]
    asking = asyncio.create_task(agent.transport.ask(agent.ask()))
    await eventually(lambda: agent.asked == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    agent.does = lambda: _says("again")
    assert (await agent.transport.ask(agent.ask(key="k2"))).text == "again"
