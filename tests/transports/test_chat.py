"""Asking over HTTP: chat completions, Anthropic's messages and the plain contract, against real servers."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from cluster.agent_transports.chat import Provider
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import (
    AgentFailed,
    AgentMalformed,
    AgentRefused,
    AgentTimeout,
    AgentUnavailable,
)
from cluster.http.addresses import MAX_ANSWER_BYTES
from cluster.process.large import MAX_INLINE_BYTES, in_thread_if_large
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import completion, serving
from tests.support.probes import eventually

SCHEMA = {"type": "object", "properties": {"choice": {"type": "string"}}, "required": ["choice"]}


class Server:
    """Remembers what it was asked and gives prepared answers in turn; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, Any], Mapping[str, str]]] = []

    async def __call__(self, request: Any) -> Any:
        body = json.loads(await request.body() or b"null")
        self.requests.append((request.url.path, body, request.headers))
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        made = answer() if callable(answer) else answer
        return await made if inspect.isawaitable(made) else made


async def _asked(server: Server, kind: TransportKind, **changes: Any) -> Reply:
    providers = changes.pop("providers", ())
    async with serving(server) as url:
        ours = transports(LOOPBACK, providers=providers(url) if providers else ())
        try:
            return await ours.ask(question(url, **({"transport": kind, "schema": SCHEMA} | changes)))
        finally:
            await ours.close()


async def test_a_chat_completion_is_asked_for_a_structured_answer_and_counted() -> None:
    server = Server(completion("yes", usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}))
    reply = await _asked(server, TransportKind.OPENAI)
    assert reply == Reply(text="yes", tokens=10, input_tokens=7, output_tokens=3)
    path, body, headers = server.requests[0]
    assert path == "/chat/completions"
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert headers["idempotency-key"] == "k1"


async def test_a_server_without_structured_output_is_asked_without_it_from_then_on() -> None:
    server = Server(httpx.Response(400, json={"error": "response_format is not supported"}), completion("plain"))
    async with serving(server) as url:
        ours = transports(LOOPBACK)
        ask = question(url, transport=TransportKind.OPENAI, schema=SCHEMA)
        assert (await ours.ask(ask)).text == "plain"
        assert (await ours.ask(ask)).text == "plain"
        await ours.close()
    assert ["response_format" in body for _, body, _ in server.requests] == [True, False, False]


async def test_a_bound_that_a_server_refuses_is_left_out_from_then_on() -> None:
    """In whatever words: no caller has chosen it, so every other question would meet the same."""
    words = {"error": {"message": "Invalid request: max_tokens", "param": "max_tokens"}}
    server = Server(httpx.Response(400, json=words), completion("plain"))
    async with serving(server) as url:
        ours = transports(LOOPBACK)
        ask = question(url, transport=TransportKind.OPENAI)
        assert [(await ours.ask(ask)).text for _ in range(2)] == ["plain", "plain"]
        await ours.close()
    assert ["max_tokens" in body for _, body, _ in server.requests] == [True, False, False]


async def test_tokens_that_nobody_counted_are_estimated_and_said_to_be() -> None:
    reply = await _asked(Server(completion("12345678")), TransportKind.OPENAI)
    assert (reply.input_tokens, reply.output_tokens, reply.tokens, reply.estimated) == (2, 2, 4, True)


def stream(*events: Any, done: bool = True) -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        for event in events:
            yield f"data: {json.dumps(event)}\n\n".encode()
        if done:
            yield b"data: [DONE]\n\n"

    return chunks


def delta(**values: Any) -> dict[str, Any]:
    return {"choices": [{"delta": values}]}


async def test_a_streamed_completion_is_put_together_with_its_usage() -> None:
    server = Server(
        stream(delta(role="assistant"), delta(content="ye"), delta(content="s"), {"choices": [], "usage": USAGE})
    )
    reply = await _asked(server, TransportKind.OPENAI, options={"stream": True})
    assert reply == Reply(text="yes", tokens=12, input_tokens=9, output_tokens=3)
    assert server.requests[0][1]["stream_options"] == {"include_usage": True}


USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


async def test_a_stream_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(AgentUnavailable):
        await _asked(Server(stream(delta(content="ha"), done=False)), TransportKind.OPENAI, options={"stream": True})


async def test_a_server_that_does_not_stream_is_understood_too() -> None:
    reply = await _asked(Server(completion("whole", usage=USAGE)), TransportKind.OPENAI, options={"stream": True})
    assert reply.text == "whole"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(200, text="<html>"), AgentMalformed),
        (httpx.Response(200, json={"choices": []}), AgentMalformed),
        (httpx.Response(200, json=[1]), AgentMalformed),
        (httpx.Response(200, json={"choices": [{"message": {"refusal": "no"}}]}), AgentRefused),
        (httpx.Response(403, json={"error": "no"}), AgentRefused),
        (httpx.Response(200, content=b"1" * (MAX_ANSWER_BYTES + 1)), AgentMalformed),
    ],
)
async def test_wrong_answers_are_named_errors(answer: httpx.Response, error: type[Exception]) -> None:
    with pytest.raises(error):
        await _asked(Server(answer), TransportKind.OPENAI)


async def test_an_anthropic_answer_comes_through_a_tool_with_cached_tokens_counted() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 2}
    content = [{"type": "tool_use", "name": "answer", "input": {"choice": "a"}}]
    server = Server(httpx.Response(200, json={"content": content, "usage": usage}))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    reply = await _asked(server, TransportKind.ANTHROPIC, messages=messages)
    assert reply == Reply(text='{"choice": "a"}', tokens=11, input_tokens=9, output_tokens=2)
    path, body, headers = server.requests[0]
    assert (path, body["system"], [m["role"] for m in body["messages"]]) == ("/v1/messages", "Be brief.", ["user"])
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert headers["anthropic-version"]


async def test_an_anthropic_text_is_an_answer_too() -> None:
    content = [{"type": "text", "text": "yes"}]
    reply = await _asked(Server(httpx.Response(200, json={"content": content})), TransportKind.ANTHROPIC, schema={})
    assert (reply.text, reply.estimated) == ("yes", True)


async def test_the_plain_contract_takes_a_text_or_the_typed_answer_itself() -> None:
    server = Server(httpx.Response(200, json={"text": "yes", "input_tokens": 1, "output_tokens": 2}))
    assert await _asked(server, TransportKind.HTTP) == Reply(text="yes", tokens=3, input_tokens=1, output_tokens=2)
    _, body, _ = server.requests[0]
    assert 0 < body["timeout_seconds"] <= 5.0
    assert (body["idempotency_key"], body["schema"], body["max_tokens"]) == ("k1", SCHEMA, 64)
    typed = await _asked(Server(httpx.Response(200, json={"choice": "a"})), TransportKind.HTTP)
    assert json.loads(typed.text) == {"choice": "a"}


@pytest.mark.parametrize("digits", ["9007199254740993.0", "90071992547409931.5", "9007199254740993", "1.5e300"])
async def test_a_large_number_of_a_typed_answer_is_kept_as_written(digits: str) -> None:
    for answer in (digits, f'{{"n": [{digits}, 0.5, "{digits} \\\\u0000"]}}'):
        plain = f'{{"answer": {answer}}}'
        assert (await _asked(Server(httpx.Response(200, content=plain)), TransportKind.HTTP)).text == plain
        used = f'{{"content": [{{"type": "tool_use", "name": "answer", "input": {plain}}}]}}'
        assert (await _asked(Server(httpx.Response(200, content=used)), TransportKind.ANTHROPIC)).text == plain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"message": "model overloaded"}, "model overloaded"),
        (5, "5"),
        (["x"], "x"),
        (True, "true"),
        ({"code": 503}, "503"),
    ],
)
async def test_an_error_of_any_shape_from_a_plain_agent_is_one(error: Any, words: str) -> None:
    task = {"id": "t1", "task_type": "echo", "payload": {}, "attempt": 1}
    body = {"error": error, "requeue": False}
    told = json.loads((await _asked(Server(httpx.Response(200, json=body)), TransportKind.HTTP, task=task)).text)
    assert isinstance(told["error"], str)
    assert words in told["error"]
    assert told["requeue"] is False
    with pytest.raises(AgentFailed, match="reports an error"):
        await _asked(Server(httpx.Response(200, json=body)), TransportKind.HTTP)


@pytest.mark.parametrize("error", [None, "", False, {}, []])
async def test_an_empty_error_from_a_plain_agent_is_none(error: Any) -> None:
    task = {"id": "t1", "task_type": "echo", "payload": {}, "attempt": 1}
    reply = await _asked(Server(httpx.Response(200, json={"error": error})), TransportKind.HTTP, task=task)
    assert json.loads(reply.text) == {"error": error}


async def test_a_large_answer_is_read_beside_the_loop() -> None:
    here = threading.get_ident()
    assert await in_thread_if_large(MAX_INLINE_BYTES, threading.get_ident) == here
    assert await in_thread_if_large(MAX_INLINE_BYTES + 1, threading.get_ident) != here


async def test_a_task_goes_to_the_endpoint_as_a_task() -> None:
    server = Server(httpx.Response(200, json={"result": [1]}))
    task = {"id": "t1", "task_type": "echo", "payload": {"n": 1}, "attempt": 1}
    assert json.loads((await _asked(server, TransportKind.HTTP, task=task, messages=[])).text) == {"result": [1]}
    assert server.requests[0][1]["task"] == task


async def test_retry_after_is_waited_for() -> None:
    server = Server(httpx.Response(429, headers={"retry-after": "1"}), completion("later"))
    started = time.monotonic()
    assert (await _asked(server, TransportKind.OPENAI, tries=2)).text == "later"
    assert time.monotonic() - started >= 1.0
    assert len(server.requests) == 2


async def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    server = Server(httpx.Response(503, headers={"retry-after": "30"}))
    with pytest.raises(AgentUnavailable, match="503"):
        await _asked(server, TransportKind.OPENAI, timeout_s=3.0, tries=3)
    assert len(server.requests) == 1


async def test_a_silent_server_ends_at_the_deadline() -> None:
    async def never() -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(AgentTimeout):
        await _asked(Server(never), TransportKind.OPENAI, timeout_s=0.2)


async def test_a_key_goes_only_to_its_provider_and_into_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"Authorization": "Bearer very-secret"}
    own = Server(completion("yes"))
    await _asked(own, TransportKind.OPENAI, providers=lambda url: [Provider(base_url=url, headers=secret)])
    assert own.requests[0][2]["authorization"] == "Bearer very-secret"
    other = Server(httpx.Response(500, json={}))
    with pytest.raises(AgentFailed) as failed:
        await _asked(
            other,
            TransportKind.OPENAI,
            providers=lambda url: [Provider(base_url="http://127.0.0.1:1", headers=secret)],
        )
    assert "authorization" not in other.requests[0][2]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("cluster", "httpx"))]
    assert "very-secret" not in "\n".join([*ours, str(failed.value), repr(Provider(base_url="x", headers=secret))])


async def test_calls_beyond_the_pool_wait_and_cancelled_ones_take_no_slot() -> None:
    asked: list[str] = []
    gate = asyncio.Event()

    async def answer(request: Any) -> httpx.Response:
        asked.append(request.headers["idempotency-key"])
        await gate.wait()
        return httpx.Response(200, json={"text": "yes"})

    async with serving(answer) as url:
        ours = transports(LOOPBACK)  # of four connections
        calls = [asyncio.ensure_future(ours.ask(question(url, key=f"k{number}"))) for number in range(4)]
        await eventually(lambda: len(asked) == 4)
        calls += [asyncio.ensure_future(ours.ask(question(url, key=f"k{number}"))) for number in range(4, 7)]
        with pytest.raises(AgentTimeout):
            await ours.ask(question(url, key="late", timeout_s=0.05))
        assert len(asked) == 4
        gate.set()
        assert [(await call).text for call in calls] == ["yes"] * 7
        assert sorted(asked) == [f"k{number}" for number in range(7)]
        await ours.close()
