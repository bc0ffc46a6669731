"""Answers of models that speak Anthropic's Messages API: whole, and as streams of events. No I/O.

The events are those of https://docs.anthropic.com/en/api/messages-streaming: a message that starts, blocks of content by index,
each with deltas, then why it stopped and what it used. Kinds that are not known are passed over, as that page asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.agent_transports.answer_parts import content_text, no_answer, no_error, object_of
from cluster.agent_transports.failures import error_in
from cluster.agent_transports.server_events import DONE
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentMalformed, AgentRefused, AgentUnavailable
from cluster.domain.base.json_values import joined
from cluster.domain.deliberation.numbers import exact_json
from cluster.ports.agent_transport import THE_ANSWER, Ask, check_whole, counted, finish_of, is_cut, number

_NO_MESSAGE = "The answer is not an Anthropic message."
_REFUSAL = "refusal"
_TEXT: Mapping[str, Any] = {"type": "text", "text": ""}
#: Member of a delta that has the text → the delta's kind.
_DELTAS = {"text": "text_delta", "partial_json": "input_json_delta"}


def anthropic_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads a message. Raises: `AgentMalformed` if it is none, empty or cut off; `AgentRefused` if the model declined;
    `AgentFailed` if it is an error."""
    no_error(ask, error_in(value))
    try:
        finish = finish_of(value.get("stop_reason"))
        content = None if finish == _REFUSAL else value["content"]
        usage = value.get("usage")
    except (KeyError, TypeError, AttributeError):
        raise no_answer(ask, value, _NO_MESSAGE) from None
    if finish == _REFUSAL:
        raise AgentRefused("The model declined.")
    text = _tool_input(content)
    text = content_text(content, _NO_MESSAGE) if text is None else text
    return _counted(ask, text, usage, received, finish)


def _counted(ask: Ask, text: str, usage: Any, received: int, finish: str) -> Reply:
    """The cached tokens of a request are part of what it had."""
    check_whole(ask, text, finish)
    usage = usage if isinstance(usage, dict) else {}
    cached = sum(number(usage.get(f"cache_{kind}_input_tokens")) or 0 for kind in ("creation", "read"))
    tokens_in = number(usage.get("input_tokens"))
    return counted(
        ask,
        text,
        None if tokens_in is None else number(tokens_in + cached),
        number(usage.get("output_tokens")),
        received=received,
        finish_reason=finish,
    )


def _tool_input(content: Any) -> str | None:
    """What the model gave to the tool, as JSON; None if it used none."""
    blocks = content if isinstance(content, list) else [content]
    for block in blocks:
        if isinstance(block, Mapping) and block.get("type") == "tool_use":
            if "input" not in block:
                raise AgentMalformed(_NO_MESSAGE)
            return exact_json(block["input"], THE_ANSWER)
    return None


@dataclass(slots=True)
class _Block:
    """One block of a streamed message: what it started as, and the texts of its deltas."""

    start: Mapping[str, Any]
    texts: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)

    def tool_input(self) -> str | None:
        """What the model gave to the tool, as it wrote it: digits stay, and what was cut off is no JSON. None if the block is
        another's, such as that of a tool of the server's own."""
        if self.start.get("type") != "tool_use" and not (self.start is _TEXT and self.inputs):
            return None
        return joined(self.inputs) or exact_json(self.start.get("input", {}), THE_ANSWER)

    def part(self) -> Mapping[str, Any]:
        if not self.texts:
            return self.start
        return {**self.start, "text": content_text(self.start, _NO_MESSAGE) + joined(self.texts)}


@dataclass(slots=True)
class _Streamed:
    """What was read of a stream so far. ``finish``: why it stopped, in the server's words; ``ended``: it said that it ends."""

    blocks: dict[int, _Block] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    finish: str = ""
    started: bool = False
    ended: bool = False

    def take(self, ask: Ask, event: Mapping[str, Any]) -> None:
        """Adds one event. Raises: `AgentMalformed` if it has another shape; what `no_error` raises."""
        no_error(ask, error_in(event))
        kind = event.get("type")
        if kind == "message_start":
            self._start(object_of(event.get("message"), _NO_MESSAGE))
        elif kind == "content_block_start":
            self.blocks[_index(event)] = _Block(object_of(event.get("content_block"), _NO_MESSAGE) or _TEXT)
        elif kind == "content_block_delta":
            self._delta(_index(event), object_of(event.get("delta"), _NO_MESSAGE))
        elif kind == "message_delta":
            self._stops(object_of(event.get("delta"), _NO_MESSAGE), event.get("usage"))
        elif kind == "message_stop":
            self.ended = True

    def _start(self, message: Mapping[str, Any]) -> None:
        self.started = True
        content = message.get("content")
        for index, block in enumerate(content if isinstance(content, list) else []):
            self.blocks[index] = _Block(object_of(block, _NO_MESSAGE))
        self._stops(message, message.get("usage"))

    def _delta(self, index: int, delta: Mapping[str, Any]) -> None:
        block = self.blocks.get(index)
        if block is None:  # some servers do not say where a block starts
            block = self.blocks[index] = _Block(_TEXT)
        for kind, texts in (("text", block.texts), ("partial_json", block.inputs)):
            text = delta.get(kind)
            if text is not None and not isinstance(text, str):
                raise AgentMalformed(_NO_MESSAGE)
            if text and delta.get("type") in (None, _DELTAS[kind]):
                texts.append(text)

    def _stops(self, message: Mapping[str, Any], usage: Any) -> None:
        """Counts are sums so far, so the last of each counts."""
        if not is_cut(self.finish):
            self.finish = finish_of(message.get("stop_reason")) or self.finish
        if isinstance(usage, Mapping):
            self.usage |= {name: count for name, count in usage.items() if count is not None}


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if type(index) is int else 0


def anthropic_stream(ask: Ask, events: Iterator[Any], received: int) -> Reply:
    """Joins the deltas of a streamed message. The stream ends by ``message_stop``, or has said why the message stopped.

    Raises: `AgentUnavailable` if the stream breaks off before that; `AgentFailed` if it carries an error; `AgentMalformed` if
    it has no message or another form, or its text is empty or cut off; `AgentRefused` if the model declined."""
    read = _Streamed()
    for event in events:
        if event == DONE:  # of routers that speak for models of others
            break
        read.take(ask, object_of(event, _NO_MESSAGE))
    if not read.started and not read.blocks:
        raise AgentMalformed(_NO_MESSAGE)
    if not read.ended and not read.finish:
        raise AgentUnavailable("The stream of the answer broke off.")
    if read.finish == _REFUSAL:
        raise AgentRefused("The model declined.")
    blocks = [read.blocks[index] for index in sorted(read.blocks)]
    used = next((text for text in (block.tool_input() for block in blocks) if text is not None), None)
    text = content_text([block.part() for block in blocks], _NO_MESSAGE) if used is None else used
    return _counted(ask, text, read.usage, received, read.finish)


def anthropic_piece(event: Any) -> Any:
    """What an event adds to the text of the answer, while it streams."""
    delta = event["delta"]
    return next((delta[name] for name, kind in _DELTAS.items() if delta["type"] == kind), None)
