"""Streams of Anthropic's Messages API: what is read of their events, and what is heard of them while they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cluster.agent_transports.server_events import sse_events
from cluster.agent_transports.wire_formats import FORMATS
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentFailed, AgentMalformed, AgentRefused, AgentUnavailable
from cluster.ports.agent_transport import judged
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import serving

STREAM = {"stream": True}
SCHEMA = {"type": "object", "properties": {"choice": {"enum": ["a", "b"]}}, "required": ["choice"]}
USAGE = {"input_tokens": 25, "cache_read_input_tokens": 4, "output_tokens": 1}
START = {"type": "message_start", "message": {"role": "assistant", "content": [], "stop_reason": None, "usage": USAGE}}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def _block(index: int = 0, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""} | block}


def _text(text: Any, index: Any = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def _input(part: Any, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": part}}


def _stops(reason: Any = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def _events(*events: Any, named: bool = True) -> bytes:
    """As the provider frames them: each event has its type as its name too."""
    frames = []
    for event in events:
        name = f"event: {event['type']}\n" if named and isinstance(event, dict) else ""
        frames.append(f"{name}data: {json.dumps(event)}\n\n")
    return "".join(frames).encode()


def _read(*events: Any, named: bool = True, **changes: Any) -> Reply:
    content = _events(*events, named=named)
    ask = question("http://h", transport=TransportKind.ANTHROPIC, options=STREAM, **({"schema": {}} | changes))
    stream = FORMATS[TransportKind.ANTHROPIC].stream
    assert stream is not None
    with judged():
        return stream(ask, sse_events(content), len(content))


@pytest.mark.parametrize("named", [True, False])
def test_texts_are_joined_and_the_last_counts_count(named: bool) -> None:
    thought = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}
    signed = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "x"}}
    reply = _read(
        START,
        *(
            _block(0, type="thinking", thinking="", text=None),
            thought,
            signed,
            {"type": "content_block_stop", "index": 0},
        ),
        *(_block(1), PING, _text("Pa", 1), {"type": "of_a_later_version", "index": 1}, _text("ris", 1)),
        *({"type": "content_block_stop", "index": 1}, _stops(output_tokens=15), STOP),
        named=named,
    )
    assert (reply.text, reply.finish_reason) == ("Paris", "end_turn")
    assert (reply.input_tokens, reply.output_tokens, reply.estimated) == (29, 15, False)


def test_what_is_given_to_the_tool_is_the_answer_as_written() -> None:
    tool = _block(1, type="tool_use", name="answer", input={})
    parts = ('{"choice": "a", "n": 90', "071992547409931.50", "}")
    events = (START, _block(0), _text("I use the tool."), tool, *(_input(part, 1) for part in ("", *parts)))
    assert _read(*events, _stops("tool_use"), STOP).text == "".join(parts)
    whole = _block(type="tool_use", name="answer", input={"choice": "a"})
    assert _read(START, whole, _stops("tool_use"), STOP).text == '{"choice": "a"}', "of a server that sends it at once"
    with pytest.raises(AgentMalformed, match="max_tokens"):
        _read(*events[:-1], _stops("max_tokens"), STOP)


def test_blocks_are_in_the_order_of_their_numbers() -> None:
    assert _read(START, _text("is", 1), _text("Par", 0), _stops(), STOP).text == "Paris"
    assert _read(START, _text("Par", None), _text("is", "x"), _stops(), STOP).text == "Paris"
    assert _read(_text("Paris"), _stops(), STOP).text == "Paris", "without a start"


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([START, _block(), _text("Par")], AgentUnavailable),
        ([], AgentMalformed),
        ([PING], AgentMalformed),
        ([STOP], AgentMalformed),
        (["Paris", STOP], AgentMalformed),
        ([START, _text(7), _stops(), STOP], AgentMalformed),
        ([START, _block(), _text("Par"), _stops("max_tokens"), STOP], AgentMalformed),
        ([START, _block(), _text("Par"), _stops("max_tokens"), _stops("end_turn"), STOP], AgentMalformed),
        ([START, _stops(), STOP], AgentMalformed),
        ([START, _block(), _text("I won't"), _stops("refusal"), STOP], AgentRefused),
        ([START, {"type": "content_block_start", "index": 0, "content_block": "text"}, STOP], AgentMalformed),
        ([START, {"type": "message_delta", "delta": ["end_turn"]}, STOP], AgentMalformed),
        ([START, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}], AgentFailed),
    ],
)
def test_what_is_no_whole_message_is_a_named_error(events: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        _read(*events)


def test_a_message_that_said_why_it_stopped_is_whole() -> None:
    assert _read(START, _block(), _text("Paris"), _stops()).text == "Paris"
    assert _read(START, _block(), _text("Par"), _stops("max_tokens"), STOP, allow_incomplete=True).text == "Par"


def test_odd_counts_are_estimated() -> None:
    for odd in ("many", -1, 1.5, None, [3]):
        usage = {**START["message"], "usage": {"input_tokens": odd, "output_tokens": odd}}
        reply = _read({"type": "message_start", "message": usage}, _text("12345678"), _stops(output_tokens=odd), STOP)
        assert (reply.output_tokens, reply.estimated) == (2, True), odd
    assert _read(START, _text("yes"), {**_stops(), "usage": "none"}, STOP).text == "yes"


async def _asked(answer: Any, **changes: Any) -> tuple[Reply, list[str], list[Any]]:
    """The reply of a server with this answer, what was heard meanwhile, and the bodies that it was sent."""
    heard: list[str] = []
    bodies: list[Any] = []

    async def answering(request: Any) -> Any:
        bodies.append(json.loads(await request.body()))
        return answer() if callable(answer) else answer

    async with serving(answering) as url:
        ours = transports(LOOPBACK)
        try:
            ask = question(url, transport=TransportKind.ANTHROPIC, options=STREAM, told=heard.append, **changes)
            return await ours.ask(ask), heard, bodies
        finally:
            await ours.close()


async def test_pieces_are_heard_as_they_come() -> None:
    events = _events(START, _block(), PING, _text("On"), _text("ce"), _stops(output_tokens=3), STOP)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(events), 7):
            yield events[at : at + 7]

    reply, heard, bodies = await _asked(chunks, schema={})
    assert (reply.text, heard, bodies[0]["stream"]) == ("Once", ["On", "ce"], True)
    tool = _events(START, _block(type="tool_use", name="answer", input={}), _input('{"choice": '), _input('"a"}'), STOP)

    async def using() -> AsyncIterator[bytes]:
        yield tool

    reply, heard, bodies = await _asked(using, schema=SCHEMA)
    assert (reply.text, heard) == ('{"choice": "a"}', ['{"choice": ', '"a"}'])
    assert bodies[0]["tool_choice"] == {"type": "tool", "name": "answer"}


async def test_a_server_that_does_not_stream_is_understood() -> None:
    whole = httpx.Response(200, json={"content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn"})
    reply, heard, _ = await _asked(whole, schema={})
    assert (reply.text, heard) == ("yes", [])


async def test_a_call_that_is_cancelled_ends_the_stream() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def writes() -> AsyncIterator[bytes]:
        try:
            yield _events(START, _block(), _text("Once"))
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(lambda _: writes()) as url:
        ours = transports(LOOPBACK)
        asking = asyncio.create_task(
            ours.ask(question(url, transport=TransportKind.ANTHROPIC, options=STREAM, schema={}, timeout_s=60.0))
        )
        await began.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.wait_for(ended.wait(), 60)
        await ours.close()
