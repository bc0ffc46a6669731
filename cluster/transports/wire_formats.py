"""The wire formats of agents called over HTTP: what is sent, and what an answer means. No I/O.

A request is (URL, body, headers) for an attempt that has ``remaining_s``; a reply is read from an answer's parsed JSON
or, for a stream, from its events.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.domain.agents import TransportKind
from cluster.domain.errors import AgentMalformed, AgentRefused, AgentUnavailable
from cluster.transports.asking import Ask, Reply, counted, number

Request = tuple[str, dict[str, Any], dict[str, str]]
ANSWER_TOOL = "answer"
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class WireFormat:
    """``request(ask, remaining_s, structured)``: ``structured`` asks for an answer that fits the schema where the server
    can be told to."""

    request: Callable[[Ask, float, bool], Request]
    reply: Callable[[Ask, Any], Reply]
    stream: Callable[[Ask, Iterator[Any]], Reply] | None = None


def openai_request(ask: Ask, remaining_s: float, structured: bool) -> Request:
    body: dict[str, Any] = {"model": ask.model, "messages": _messages(ask), "max_tokens": ask.max_tokens}
    if structured and ask.schema:
        answer = {"name": ANSWER_TOOL, "strict": True, "schema": dict(ask.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if ask.options.get("stream") is True:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return ask.endpoint.rstrip("/") + "/chat/completions", body, {"Idempotency-Key": ask.key}


def openai_reply(ask: Ask, value: Any) -> Reply:
    try:
        message = value["choices"][0]["message"]
        if message.get("refusal"):
            raise AgentRefused(str(message["refusal"])[:200])
        return _openai_counted(ask, str(message["content"] or ""), value.get("usage"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise AgentMalformed("The answer is not a chat completion.") from None


def _openai_counted(ask: Ask, text: str, usage: Any) -> Reply:
    usage = usage if isinstance(usage, dict) else {}
    return counted(ask, text, number(usage.get("prompt_tokens")), number(usage.get("completion_tokens")))


def openai_stream(ask: Ask, events: Iterator[Any]) -> Reply:
    """Deltas until ``[DONE]``; a stream that breaks off before is no answer."""
    text: list[str] = []
    refusal: list[str] = []
    usage: Any = None
    ended = False
    for event in events:
        if event == DONE:
            ended = True
            break
        if not isinstance(event, dict) or "error" in event:
            raise AgentUnavailable("The stream of the answer carries an error.")
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text.append(str(delta.get("content") or ""))
            refusal.append(str(delta.get("refusal") or ""))
            ended = ended or choice.get("finish_reason") is not None
    if not ended:
        raise AgentUnavailable("The stream of the answer broke off.")
    if "".join(refusal):
        raise AgentRefused("".join(refusal)[:200])
    return _openai_counted(ask, "".join(text), usage)


def anthropic_request(ask: Ask, remaining_s: float, structured: bool) -> Request:
    """Structured output is a tool that the model has to use."""
    messages = _messages(ask)
    body: dict[str, Any] = {
        "model": ask.model,
        "max_tokens": ask.max_tokens,
        "messages": [message for message in messages if message["role"] != "system"],
    }
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    if system:
        body["system"] = system
    if structured and ask.schema.get("type") == "object":
        tool = {"name": ANSWER_TOOL, "description": "Gives the answer.", "input_schema": dict(ask.schema)}
        body |= {"tools": [tool], "tool_choice": {"type": "tool", "name": ANSWER_TOOL}}
    return ask.endpoint.rstrip("/") + "/v1/messages", body, {"anthropic-version": "2023-06-01"}


def anthropic_reply(ask: Ask, value: Any) -> Reply:
    try:
        if value.get("stop_reason") == "refusal":
            raise AgentRefused("The model declined.")
        used = [block["input"] for block in value["content"] if block["type"] == "tool_use"]
        text = "".join(block["text"] for block in value["content"] if block["type"] == "text")
        usage = value.get("usage") or {}
        cached = sum(number(usage.get(f"cache_{kind}_input_tokens")) or 0 for kind in ("creation", "read"))
        tokens_in = number(usage.get("input_tokens"))
        answer = json.dumps(used[0], ensure_ascii=False) if used else text
        return counted(
            ask, answer, None if tokens_in is None else tokens_in + cached, number(usage.get("output_tokens"))
        )
    except (KeyError, TypeError, AttributeError):
        raise AgentMalformed("The answer is not an Anthropic message.") from None


def contract_request(ask: Ask, remaining_s: float, structured: bool) -> Request:
    """docs/agent-contract.md"""
    body: dict[str, Any] = {"timeout_seconds": round(remaining_s, 3), "idempotency_key": ask.key}
    if ask.task is not None:
        body["task"] = dict(ask.task)
    else:
        body |= {"messages": _messages(ask), "schema": dict(ask.schema), "max_tokens": ask.max_tokens}
    return ask.endpoint, body, {"Idempotency-Key": ask.key}


def contract_reply(ask: Ask, value: Any) -> Reply:
    """A turn: the typed answer itself, or ``{"text": ..., "input_tokens"?, "output_tokens"?}``. A task: any JSON."""
    if ask.task is not None:
        return Reply(text=json.dumps(value, ensure_ascii=False))
    if not isinstance(value, dict):
        raise AgentMalformed("The answer is not a JSON object.")
    if isinstance(value.get("text"), str):
        tokens_in, tokens_out = number(value.get("input_tokens")), number(value.get("output_tokens"))
        return counted(ask, value["text"], tokens_in, tokens_out)
    return counted(ask, json.dumps(value, ensure_ascii=False), None, None)


def _messages(ask: Ask) -> list[dict[str, str]]:
    return [dict(message) for message in ask.messages]


def sse_events(content: bytes) -> Iterator[Any]:
    """The data of a stream's events: parsed JSON, or ``[DONE]``."""
    for line in content.decode("utf-8", "replace").splitlines():
        if line.startswith("data:"):
            data = line[5:].strip()
            try:
                yield DONE if data == DONE else json.loads(data)
            except ValueError:
                raise AgentMalformed("The stream of the answer is not JSON.") from None


FORMATS: Mapping[TransportKind, WireFormat] = {
    TransportKind.OPENAI: WireFormat(openai_request, openai_reply, openai_stream),
    TransportKind.ANTHROPIC: WireFormat(anthropic_request, anthropic_reply),
    TransportKind.HTTP: WireFormat(contract_request, contract_reply),
}
