"""The wire formats of agents that are called over HTTP: what is sent, and what an answer means. No I/O.

A request is (URL, body, headers) for an attempt that may take ``remaining_s``. A reply is read from the answer's parsed
JSON or, for a stream, from its events.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentMalformed, AgentRefused, AgentUnavailable
from cluster.domain.base.json_values import parse_json, shown_text, write_json
from cluster.ports.agent_transport import THE_ANSWER, Ask, Reply, contract_reply, counted, number

Request = tuple[str, dict[str, Any], dict[str, str]]
ANSWER_TOOL = "answer"
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class WireFormat:
    """``request(ask, remaining_s, structured)`` makes a request; ``structured`` asks for an answer that fits the schema, if the
    format can say so. ``reply(ask, value, received)`` reads an answer of ``received`` bytes, ``stream`` its events; both
    raise `InvalidRequest` if the answer cannot be stored.

    Only the parts of an answer that are used have to be valid. Whatever else a server adds is ignored."""

    request: Callable[[Ask, float, bool], Request]
    reply: Callable[[Ask, Any, int], Reply]
    stream: Callable[[Ask, Iterator[Any], int], Reply] | None = None


def openai_request(ask: Ask, remaining_s: float, structured: bool) -> Request:
    body: dict[str, Any] = {"model": ask.model, "messages": _messages(ask), "max_tokens": ask.max_tokens}
    if structured and ask.schema:
        answer = {"name": ANSWER_TOOL, "strict": True, "schema": dict(ask.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if ask.options.get("stream") is True:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return ask.endpoint.rstrip("/") + "/chat/completions", body, {"Idempotency-Key": ask.key}


def openai_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads a chat completion. Raises: `AgentMalformed` if it is none; `AgentRefused` if the model declined."""
    try:
        message = value["choices"][0]["message"]
        refusal = message.get("refusal")
        content = None if refusal else message["content"]
        usage = value.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise AgentMalformed(_NO_COMPLETION) from None
    if refusal:
        raise _declined(refusal)
    return _openai_counted(ask, _content(content), usage, received)


_NO_COMPLETION = "The answer is not a chat completion."


def _declined(refusal: Any) -> AgentRefused:
    return AgentRefused(shown_text(refusal, 200) if isinstance(refusal, str) else "The model declined.")


def _content(content: Any) -> str:
    """A text, or the texts among its parts. Parts of other kinds (thinking, references) are left out."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise AgentMalformed(_NO_COMPLETION)
    return "".join(part["text"] for part in content if part.get("type") == "text" and isinstance(part.get("text"), str))


def _openai_counted(ask: Ask, text: str, usage: Any, received: int) -> Reply:
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("completion_tokens_details")
    return counted(
        ask,
        text,
        number(usage.get("prompt_tokens")),
        number(usage.get("completion_tokens")),
        received=received,
        hidden_tokens=number(details.get("reasoning_tokens")) if isinstance(details, dict) else None,
    )


def openai_stream(ask: Ask, events: Iterator[Any], received: int) -> Reply:
    """Joins the deltas of a stream, which ends by ``[DONE]`` or has said why it finished.

    Raises: `AgentUnavailable` if the stream breaks off before that or carries an error; `AgentMalformed` if it has no choice or
    another form; `AgentRefused` if the model declined."""
    text: list[str] = []
    refusal: list[str] = []
    usage: Any = None
    ended = False
    for event in events:
        if event == DONE:
            ended = True
            break
        event = _object(event)
        for choice in _choices(event):
            delta = _object(choice.get("delta"))
            text.append(_content(delta.get("content")))
            refusal.append(_content(delta.get("refusal")))
            ended = ended or choice.get("finish_reason") is not None
        usage = event.get("usage") or usage
    if not ended:
        raise AgentUnavailable("The stream of the answer broke off.")
    if not text:  # every choice adds a text, though perhaps an empty one
        raise AgentMalformed(_NO_COMPLETION)
    if "".join(refusal):
        raise _declined("".join(refusal))
    return _openai_counted(ask, "".join(text), usage, received)


def _choices(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "error" in event:
        raise AgentUnavailable("The stream of the answer carries an error.")
    choices = event.get("choices") or []
    if not isinstance(choices, list):
        raise AgentMalformed(_NO_COMPLETION)
    return [_object(choice) for choice in choices]


def _object(value: Any) -> dict[str, Any]:
    """The value as an object; None counts as an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AgentMalformed(_NO_COMPLETION)
    return value


def anthropic_request(ask: Ask, remaining_s: float, structured: bool) -> Request:
    """For structured output, the model has to use a tool whose input has the schema."""
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


def anthropic_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads a message. Raises: `AgentMalformed` if it is none; `AgentRefused` if the model declined."""
    try:
        refused = value.get("stop_reason") == "refusal"
        used = [] if refused else [block["input"] for block in value["content"] if block["type"] == "tool_use"]
        text = "" if refused else "".join(block["text"] for block in value["content"] if block["type"] == "text")
        usage = value.get("usage")
    except (KeyError, TypeError, AttributeError):
        raise AgentMalformed("The answer is not an Anthropic message.") from None
    if refused:
        raise AgentRefused("The model declined.")
    usage = usage if isinstance(usage, dict) else {}
    cached = sum(number(usage.get(f"cache_{kind}_input_tokens")) or 0 for kind in ("creation", "read"))
    tokens_in = number(usage.get("input_tokens"))
    return counted(
        ask,
        write_json(used[0], THE_ANSWER) if used else text,
        None if tokens_in is None else number(tokens_in + cached),
        number(usage.get("output_tokens")),
        received=received,
    )


def contract_request(ask: Ask, remaining_s: float, structured: bool) -> Request:
    """The request that docs/agent-contract.md describes."""
    body: dict[str, Any] = {"timeout_seconds": round(remaining_s, 3), "idempotency_key": ask.key}
    if ask.task is not None:
        body["task"] = dict(ask.task)
    else:
        body |= {"messages": _messages(ask), "schema": dict(ask.schema), "max_tokens": ask.max_tokens}
    return ask.endpoint, body, {"Idempotency-Key": ask.key}


def _messages(ask: Ask) -> list[dict[str, str]]:
    return [dict(message) for message in ask.messages]


def sse_events(content: bytes) -> Iterator[Any]:
    """The data of a stream's events: parsed JSON, or ``[DONE]``.

    Splits bytes and not a text. The standard ends lines by CR, LF or both, as bytes do; ``str.splitlines`` would also split
    at U+2028 and U+0085, which may stand in an answer. And bytes that are no UTF-8 are refused instead of replaced."""
    for line in content.removeprefix(BOM_UTF8).splitlines():
        if line.startswith(b"data:"):
            data = line[5:].strip(b" \t")
            yield DONE if data == DONE.encode() else parse_json(data, "The stream of the answer")


FORMATS: Mapping[TransportKind, WireFormat] = {
    TransportKind.OPENAI: WireFormat(openai_request, openai_reply, openai_stream),
    TransportKind.ANTHROPIC: WireFormat(anthropic_request, anthropic_reply),
    TransportKind.HTTP: WireFormat(contract_request, contract_reply),
}
