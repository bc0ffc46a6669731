"""Agents that speak A2A, against real servers."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from cluster.agent_transports.a2a import A2ATransport
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentRefused,
    AgentUnavailable,
    EndpointForbidden,
)
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import a2a_server, serving
from tests.support.threads import running_in

SCHEMA = {"type": "object", "properties": {"choice": {"type": "string"}}, "required": ["choice"]}


async def _asked_over_a2a(result: Any, allowed: tuple[str, ...] = LOOPBACK) -> Reply:
    pytest.importorskip("a2a")
    url: list[str] = []
    async with serving(a2a_server(url, result)) as base:
        url.append(base)
        ours = transports(allowed)
        try:
            ask = question(base, transport=TransportKind.A2A, schema=SCHEMA)
            return await A2ATransport(ours.client).ask(ask)
        finally:
            await ours.close()


async def test_an_a2a_agent_answers_by_a_message() -> None:
    asked: list[Any] = []

    def result(body: Any) -> Any:
        asked.append(body)
        return {"message": {"messageId": "m1", "role": "ROLE_AGENT", "parts": [{"text": "yes"}]}}

    reply = await _asked_over_a2a(result)
    assert (reply.text, reply.estimated) == ("yes", True)
    message = asked[0]["params"]["message"]
    assert (asked[0]["method"], message["messageId"], message["parts"][0]["text"]) == ("SendMessage", "k1", "Which?")


async def test_an_a2a_agent_answers_by_a_task_that_is_waited_for() -> None:
    def task(state: str) -> dict[str, Any]:
        artifacts = [{"artifactId": "r", "parts": [{"data": {"choice": "a"}}]}]
        return {"id": "t1", "contextId": "c1", "status": {"state": state}, "artifacts": artifacts}

    def result(body: Any) -> Any:
        if body["method"] == "SendMessage":
            return {"task": task("TASK_STATE_WORKING")}
        return task("TASK_STATE_COMPLETED")

    assert json.loads((await _asked_over_a2a(result)).text) == {"choice": "a"}
    with pytest.raises(AgentRefused, match="TASK_STATE_REJECTED"):
        await _asked_over_a2a(lambda body: {"task": task("TASK_STATE_REJECTED")})


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("kind", ["message", "task"])
async def test_a_large_answer_over_a2a_is_read_off_the_loop(kind: str, size: int) -> None:
    parts = [{"data": {"choice": "a" * size}}]
    done = {"state": "TASK_STATE_COMPLETED"}
    answers: dict[str, Any] = {
        "message": {"messageId": "m1", "role": "ROLE_AGENT", "parts": parts},
        "task": {"id": "t1", "contextId": "c1", "status": done, "artifacts": [{"artifactId": "r", "parts": parts}]},
    }
    with running_in("parse_lenient", "_parts", "counted") as ran:
        reply = await _asked_over_a2a(lambda body: {kind: answers[kind]})
    assert json.loads(reply.text) == {"choice": "a" * size}
    here = threading.get_ident()
    assert {name: threads == {here} for name, threads in ran.items()} == dict.fromkeys(ran, size == 10)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_large_error_over_a2a_is_read_off_the_loop(size: int) -> None:
    pytest.importorskip("a2a")
    url: list[str] = []
    card = a2a_server(url, None)

    async def fails(request: Any) -> httpx.Response:
        if request.method == "GET":
            return await card(request)  # type: ignore[no-any-return]
        return httpx.Response(503, json={"error": {"message": "busy", "data": "a" * size}})

    with running_in("refused_by_status") as ran:
        async with serving(fails) as base:
            url.append(base)
            ours = transports(LOOPBACK)
            with pytest.raises(AgentUnavailable):
                await A2ATransport(ours.client).ask(question(base, transport=TransportKind.A2A))
            await ours.close()
    assert (threading.get_ident() in ran["refused_by_status"]) == (size == 10)


@pytest.mark.parametrize("card", [True, False], ids=["card", "answer"])
@pytest.mark.parametrize(
    ("status", "error"), [(500, AgentFailed), (503, AgentUnavailable), (429, AgentLimited), (403, AgentRefused)]
)
async def test_a_status_of_an_a2a_agent_is_the_error_it_is_elsewhere(
    status: int, error: type[Exception], card: bool
) -> None:
    url: list[str] = []
    good = a2a_server(url, lambda body: None)

    async def answer(request: Any) -> Any:
        if not card and request.url.path.startswith("/.well-known"):
            return await good(request)
        return httpx.Response(status, json=[1])

    async with serving(answer) as base:
        url.append(base)
        ours = transports(LOOPBACK)
        with pytest.raises(error, match=str(status)):
            await A2ATransport(ours.client).ask(question(base, transport=TransportKind.A2A))
        await ours.close()


async def test_an_unreachable_a2a_agent_is_unavailable() -> None:
    url: list[str] = []
    ours = transports(LOOPBACK)
    a2a = A2ATransport(ours.client)
    message = {"message": {"messageId": "m1", "role": "ROLE_AGENT", "parts": [{"text": "yes"}]}}
    async with serving(a2a_server(url, lambda body: message)) as base:
        url.append(base)
        ask = question(base, transport=TransportKind.A2A)
        assert (await a2a.ask(ask)).text == "yes"
    for _ in range(2):  # with a card that is known, and no server; then with no client either
        with pytest.raises(AgentUnavailable):
            await a2a.ask(ask)
        await ours.close()


async def test_an_a2a_agent_is_looked_for_only_where_agents_may_be() -> None:
    with pytest.raises(EndpointForbidden):
        await _asked_over_a2a(lambda body: {}, allowed=())
