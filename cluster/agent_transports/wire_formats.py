"""The wire formats of agents that are called over HTTP: what is sent, and what an answer means. No I/O.

A request is (URL, body, headers) for an attempt that may take ``remaining_s``. A reply is read from the answer's parsed
JSON or, for a stream, from its events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cluster.agent_transports.answer_parts import content_text, declined, no_answer, no_error, object_of
from cluster.agent_transports.anthropic_answers import anthropic_piece, anthropic_reply, anthropic_stream
from cluster.agent_transports.failures import MAX_WORDS, error_in, words_of
from cluster.agent_transports.server_events import DONE, MAX_EVENTS, THE_STREAM
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentMalformed, AgentUnavailable
from cluster.domain.base.json_values import joined, shown_text, write_json
from cluster.domain.tasks.agent_waits import CONTRACT
from cluster.ports.agent_transport import (
    THE_ANSWER,
    Ask,
    check_whole,
    contract_reply,
    counted,
    finish_of,
    is_cut,
    number,
)

Request = tuple[str, dict[str, Any], dict[str, str]]
ANSWER_TOOL = "answer"
CHAT_PATH = "/chat/completions"
MESSAGES_PATH = "/v1/messages"
CARD_PATH = "/.well-known/agent-card.json"


@dataclass(frozen=True, slots=True)
class WireFormat:
    """``request(ask, remaining_s, without)`` makes a request that lacks the parameters ``without``; ``optional`` are those that
    it can lack. ``reply(ask, value, received)`` reads an answer of ``received`` bytes, ``stream`` its events; both raise
    `InvalidRequest` if the answer cannot be stored. ``piece(event)`` is the text that an event of a stream adds, for those who
    follow it; it may be anything, and raise as one does that looks for what is not there.

    Only the parts of an answer that are used have to be valid. Whatever else a server adds is ignored."""

    request: Callable[[Ask, float, Collection[str]], Request]
    reply: Callable[[Ask, Any, int], Reply]
    stream: Callable[[Ask, Iterator[Any], int], Reply] | None = None
    piece: Callable[[Any], Any] | None = None
    optional: tuple[str, ...] = ()


def openai_request(ask: Ask, remaining_s: float, without: Collection[str]) -> Request:
    """A chat completion. Newer models refuse ``max_tokens`` and know the same bound as ``max_completion_tokens``."""
    body: dict[str, Any] = {"model": ask.model, "messages": _messages(ask)}
    if ask.schema:
        answer = {"name": ANSWER_TOOL, "strict": True, "schema": dict(ask.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if ask.options.stream and "stream" not in without:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body["max_completion_tokens" if "max_tokens" in without else "max_tokens"] = ask.max_tokens
    kept = {name: value for name, value in body.items() if name not in without}
    return url_of(ask.endpoint, CHAT_PATH), kept, {"Idempotency-Key": ask.key}


def url_of(endpoint: str, path: str) -> str:
    """The URL to call for an agent's endpoint: a base URL, or the whole URL already. A query stays behind the path."""
    address, _, query = endpoint.partition("#")[0].partition("?")
    address = address.rstrip("/")
    version = path[: path.rfind("/")]  # "/v1" of "/v1/messages"
    if address.endswith(path):
        whole = address
    elif path.startswith("/v1/") and address.endswith(version):
        whole = address + path.removeprefix(version)
    else:
        whole = address + path
    return f"{whole}?{query}" if query else whole


#: What is called and what is probed instead, below an agent's base URL. Agents of other transports are probed at the endpoint.
_PROBED: Mapping[TransportKind, tuple[str, str]] = {
    TransportKind.OPENAI: (CHAT_PATH, "/models"),
    TransportKind.ANTHROPIC: (MESSAGES_PATH, "/v1/models"),
}


def probe_url(transport: TransportKind, endpoint: str) -> str:
    """The URL to probe for an agent's endpoint: beside the one that is called, with the same query."""
    if transport is TransportKind.A2A:
        return url_of(endpoint, CARD_PATH)
    if transport not in _PROBED:
        return endpoint
    called, probed = _PROBED[transport]
    address, asks, query = url_of(endpoint, called).partition("?")
    return address.removesuffix(called) + probed + asks + query


def openai_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads a chat completion. Raises: `AgentMalformed` if it is none, empty or cut off; `AgentRefused` if the model declined;
    `AgentFailed` if it carries an error."""
    no_error(ask, error_in(value))
    try:
        choice = value["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        content = None if refusal else message.get("content")
        usage = value.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise no_answer(ask, value, _NO_COMPLETION) from None
    no_error(ask, _error_of_choice(choice))
    if refusal:
        raise declined(refusal)
    return _openai_counted(ask, content_text(content, _NO_COMPLETION), usage, received, choice.get("finish_reason"))


_NO_COMPLETION = "The answer is not a chat completion."


def _error_of_choice(choice: Mapping[str, Any]) -> str | None:
    """Routers tell of an error of the model that they called in its choice."""
    words = error_in({"error": choice.get("error")})
    if words is None and choice.get("finish_reason") == "error":
        return words_of(choice.get("native_finish_reason")) or "finish_reason: error"
    return words


def _openai_counted(ask: Ask, text: str, usage: Any, received: int, finish_reason: Any) -> Reply:
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("completion_tokens_details")
    finish = finish_of(finish_reason)
    check_whole(ask, text, finish)
    return counted(
        ask,
        text,
        number(usage.get("prompt_tokens")),
        number(usage.get("completion_tokens")),
        received=received,
        hidden_tokens=number(details.get("reasoning_tokens")) if isinstance(details, dict) else None,
        finish_reason=finish,
    )


@dataclass(slots=True)
class _Streamed:
    """What was read of a stream so far."""

    #: By index: a stream of several choices sends their parts in any order, and the first of them is the answer.
    choices: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    usage: Any = None
    count: int = 0

    def take(self, ask: Ask, event: dict[str, Any]) -> None:
        """Adds one event of the stream. Raises: `AgentMalformed` if it has another shape; what `no_error` raises."""
        no_error(ask, error_in(event))
        choices = event.get("choices") or []
        if not isinstance(choices, list):
            raise AgentMalformed(_NO_COMPLETION)
        self.count += len(choices)
        if self.count > MAX_EVENTS:
            raise AgentMalformed(f"{THE_STREAM} has more than {MAX_EVENTS} choices.")
        for value in choices:
            choice = object_of(value, _NO_COMPLETION)
            index = choice.get("index")
            self.choices.setdefault(index if type(index) is int else 0, []).append(choice)
        self.usage = event.get("usage") or self.usage


def openai_stream(ask: Ask, events: Iterator[Any], received: int) -> Reply:
    """Joins the deltas of a stream's first choice. The stream ends by ``[DONE]`` or has said why it finished.

    Raises: `AgentUnavailable` if the stream breaks off before that; `AgentFailed` if it carries an error; `AgentMalformed` if
    it has no choice or another form, or its text is empty or cut off; `AgentRefused` if the model declined."""
    read, done = _Streamed(), False
    for event in events:
        if event == DONE:
            done = True
            break
        read.take(ask, object_of(event, _NO_COMPLETION))
    answer = read.choices[min(read.choices)] if read.choices else []
    finish = ""
    for choice in answer:
        no_error(ask, _error_of_choice(choice))
        # Some servers say why they cut, and then that they stopped.
        finish = finish if is_cut(finish) else finish_of(choice.get("finish_reason")) or finish
    if not done and not finish:
        raise AgentUnavailable("The stream of the answer broke off.")
    if not answer:
        raise AgentMalformed(_NO_COMPLETION)
    if refusal := _text_of(answer, "refusal"):
        raise declined(refusal)
    return _openai_counted(ask, _text_of(answer, "content"), read.usage, received, finish)


def _text_of(choices: Sequence[dict[str, Any]], name: str) -> str:
    """The text that the parts of one choice have under a name: that of their deltas, or, if these have none, of their messages.

    Some servers send the whole text so far in the message of every part, others only what is new."""
    deltas = joined(_texts_in(choices, "delta", name))
    if deltas:
        return deltas
    texts = [text for text in _texts_in(choices, "message", name) if text]
    grows = all(later.startswith(earlier) for earlier, later in pairwise(texts))
    return joined(texts[-1:] if grows else texts)


def _texts_in(choices: Sequence[dict[str, Any]], part: str, name: str) -> Iterator[str]:
    for choice in choices:
        yield content_text(object_of(choice.get(part), _NO_COMPLETION).get(name), _NO_COMPLETION)


def openai_piece(event: Any) -> Any:
    """What an event adds to the text of the first choice, while it streams."""
    choice = event["choices"][0]
    return choice["delta"]["content"] if choice.get("index", 0) == 0 else None


def anthropic_request(ask: Ask, remaining_s: float, without: Collection[str]) -> Request:
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
    if ask.schema.get("type") == "object" and "tools" not in without:
        body["tools"] = [{"name": ANSWER_TOOL, "description": "Gives the answer.", "input_schema": dict(ask.schema)}]
        if "tool_choice" not in without:
            body["tool_choice"] = {"type": "tool", "name": ANSWER_TOOL}
    if ask.options.stream and "stream" not in without:
        body["stream"] = True
    return url_of(ask.endpoint, MESSAGES_PATH), body, {"anthropic-version": "2023-06-01"}


def contract_request(ask: Ask, remaining_s: float, without: Collection[str]) -> Request:
    """The request that docs/agent-contract.md describes."""
    body: dict[str, Any] = {"timeout_seconds": round(remaining_s, 3), "idempotency_key": ask.key}
    if ask.task is not None:
        body |= {"contract": CONTRACT, "task": dict(ask.task)}
    else:
        body |= {"messages": _messages(ask), "schema": dict(ask.schema), "max_tokens": ask.max_tokens}
    return ask.endpoint, body, {"Idempotency-Key": ask.key}


def called_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads the answer of an agent that speaks our contract at its endpoint.

    An error of a task becomes a text, since only that is reported with the agent's own ``requeue``. Raises: `AgentFailed` for an
    error instead of an answer; what `contract_reply` raises."""
    words = error_in({"error": value.get("error")}) if isinstance(value, Mapping) else None
    if ask.task is None:
        no_error(ask, words)
    elif words is not None and not isinstance(value["error"], str):
        whole = shown_text(write_json(value["error"], THE_ANSWER), MAX_WORDS)
        value = {**value, "error": words_of(value["error"]) or whole}
    return contract_reply(ask, value, received)


def _messages(ask: Ask) -> list[dict[str, str]]:
    return [dict(message) for message in ask.messages]


FORMATS: Mapping[TransportKind, WireFormat] = {
    TransportKind.OPENAI: WireFormat(
        openai_request,
        openai_reply,
        openai_stream,
        openai_piece,
        ("response_format", "stream_options", "stream", "max_completion_tokens", "max_tokens"),
    ),
    TransportKind.ANTHROPIC: WireFormat(
        anthropic_request, anthropic_reply, anthropic_stream, anthropic_piece, ("tools", "tool_choice", "stream")
    ),
    TransportKind.HTTP: WireFormat(contract_request, called_reply),
}
