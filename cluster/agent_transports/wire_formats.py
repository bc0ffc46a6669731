"""The wire formats of agents that are called over HTTP: what is sent, and what an answer means. No I/O.

A request is (URL, body, headers) for an attempt that may take ``remaining_s``. A reply is read from the answer's parsed
JSON or, for a stream, from its events.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cluster.agent_transports.failures import MAX_WORDS, complaint_in, error_in, reported, words_of
from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentMalformed, AgentRefused, AgentUnavailable, InvalidRequest, PeerError
from cluster.domain.base.json_values import NotJson, joined, parse_json, shown_text, write_json
from cluster.domain.base.urls import safe_url
from cluster.domain.deliberation.numbers import exact_json
from cluster.ports.agent_transport import (
    THE_ANSWER,
    Ask,
    Reply,
    check_whole,
    contract_reply,
    counted,
    finish_of,
    is_cut,
    number,
)

Request = tuple[str, dict[str, Any], dict[str, str]]
ANSWER_TOOL = "answer"
DONE = "[DONE]"
#: Events, and choices of events, that a stream may have. So many tokens have some 4 MB of events around them, and take a second.
MAX_EVENTS = 100_000
CHAT_PATH = "/chat/completions"
MESSAGES_PATH = "/v1/messages"
CARD_PATH = "/.well-known/agent-card.json"
_THE_STREAM = "The stream of the answer"


@dataclass(frozen=True, slots=True)
class WireFormat:
    """``request(ask, remaining_s, without)`` makes a request that lacks the parameters ``without``; ``optional`` are those that
    it can lack. ``reply(ask, value, received)`` reads an answer of ``received`` bytes, ``stream`` its events; both raise
    `InvalidRequest` if the answer cannot be stored.

    Only the parts of an answer that are used have to be valid. Whatever else a server adds is ignored."""

    request: Callable[[Ask, float, Collection[str]], Request]
    reply: Callable[[Ask, Any, int], Reply]
    stream: Callable[[Ask, Iterator[Any], int], Reply] | None = None
    optional: tuple[str, ...] = ()


def openai_request(ask: Ask, remaining_s: float, without: Collection[str]) -> Request:
    """A chat completion. Newer models refuse ``max_tokens`` and know the same bound as ``max_completion_tokens``."""
    body: dict[str, Any] = {"model": ask.model, "messages": _messages(ask)}
    if ask.schema:
        answer = {"name": ANSWER_TOOL, "strict": True, "schema": dict(ask.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if ask.options.get("stream") is True and "stream" not in without:
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
    _no_error(ask, error_in(value))
    try:
        choice = value["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        content = None if refusal else message.get("content")
        usage = value.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _no_answer(ask, value, _NO_COMPLETION) from None
    _no_error(ask, _error_of_choice(choice))
    if refusal:
        raise _declined(refusal)
    return _openai_counted(ask, content_text(content, _NO_COMPLETION), usage, received, choice.get("finish_reason"))


_NO_COMPLETION = "The answer is not a chat completion."
_NO_MESSAGE = "The answer is not an Anthropic message."


def _no_error(ask: Ask, words: str | None) -> None:
    if words is not None:
        raise reported(safe_url(ask.endpoint), words)


def _no_answer(ask: Ask, value: Any, otherwise: str) -> PeerError:
    """The error for an answer that has not the shape of one: its words if it tells of an error in another shape."""
    words = complaint_in(value)
    return AgentMalformed(otherwise) if words is None else reported(safe_url(ask.endpoint), words)


def _error_of_choice(choice: Mapping[str, Any]) -> str | None:
    """Routers tell of an error of the model that they called in its choice."""
    words = error_in({"error": choice.get("error")})
    if words is None and choice.get("finish_reason") == "error":
        return words_of(choice.get("native_finish_reason")) or "finish_reason: error"
    return words


def _declined(refusal: Any) -> AgentRefused:
    return AgentRefused(shown_text(refusal, 200) if isinstance(refusal, str) else "The model declined.")


def content_text(content: Any, otherwise: str) -> str:
    """A text, or the texts among its parts. Parts of other kinds (thinking, references, calls of tools) are left out.

    Raises: `AgentMalformed` with ``otherwise`` as its sentence if it is neither; `AgentRefused` if a part is a refusal."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Mapping):
        if not content.keys() & {"text", "parts", "type"}:
            raise AgentMalformed(otherwise)
        whole = isinstance(content.get("parts"), list) and _is_answer(content)
        content = content["parts"] if whole else [content]
    if not isinstance(content, list):
        raise AgentMalformed(otherwise)
    return joined(_part(part, otherwise) for part in content)


def _part(part: Any, otherwise: str) -> str:
    if part is None or isinstance(part, str):
        return part or ""
    if not isinstance(part, Mapping):
        raise AgentMalformed(otherwise)
    if part.get("type") == "refusal":
        raise _declined(part.get("refusal"))
    if not _is_answer(part):
        return ""
    text = part.get("text")
    text = text.get("value") if isinstance(text, Mapping) else text
    return text if isinstance(text, str) else ""


def _is_answer(part: Mapping[str, Any]) -> bool:
    """Whether a part belongs to the answer. Its kind must be known: many kinds of thinking end with ``text`` as well."""
    return part.get("thought") is not True and part.get("type") in (None, "text", "output_text")


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
        """Adds one event of the stream. Raises: `AgentMalformed` if it has another shape; what `_no_error` raises."""
        _no_error(ask, error_in(event))
        choices = event.get("choices") or []
        if not isinstance(choices, list):
            raise AgentMalformed(_NO_COMPLETION)
        self.count += len(choices)
        if self.count > MAX_EVENTS:
            raise AgentMalformed(f"{_THE_STREAM} has more than {MAX_EVENTS} choices.")
        for choice in map(_object, choices):
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
        read.take(ask, _object(event))
    answer = read.choices[min(read.choices)] if read.choices else []
    finish = ""
    for choice in answer:
        _no_error(ask, _error_of_choice(choice))
        # Some servers say why they cut, and then that they stopped.
        finish = finish if is_cut(finish) else finish_of(choice.get("finish_reason")) or finish
    if not done and not finish:
        raise AgentUnavailable("The stream of the answer broke off.")
    if not answer:
        raise AgentMalformed(_NO_COMPLETION)
    if refusal := _text_of(answer, "refusal"):
        raise _declined(refusal)
    return _openai_counted(ask, _text_of(answer, "content"), read.usage, received, finish)


def _text_of(choices: Sequence[dict[str, Any]], name: str) -> str:
    """The text that the parts of one choice have under a name: that of their deltas, or, if these have none, of their messages.

    Some servers send the whole text so far in the message of every part, others only what is new."""
    deltas = joined(content_text(_object(choice.get("delta")).get(name), _NO_COMPLETION) for choice in choices)
    if deltas:
        return deltas
    texts = [content_text(_object(choice.get("message")).get(name), _NO_COMPLETION) for choice in choices]
    texts = [text for text in texts if text]
    grows = all(later.startswith(earlier) for earlier, later in pairwise(texts))
    return joined(texts[-1:] if grows else texts)


def _object(value: Any) -> dict[str, Any]:
    """The value as an object; None counts as an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AgentMalformed(_NO_COMPLETION)
    return value


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
    return url_of(ask.endpoint, MESSAGES_PATH), body, {"anthropic-version": "2023-06-01"}


def anthropic_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads a message. Raises: `AgentMalformed` if it is none, empty or cut off; `AgentRefused` if the model declined;
    `AgentFailed` if it is an error."""
    _no_error(ask, error_in(value))
    try:
        finish = finish_of(value.get("stop_reason"))
        content = None if finish == "refusal" else value["content"]
        usage = value.get("usage")
    except (KeyError, TypeError, AttributeError):
        raise _no_answer(ask, value, _NO_MESSAGE) from None
    if finish == "refusal":
        raise AgentRefused("The model declined.")
    text = _tool_input(content)
    text = content_text(content, _NO_MESSAGE) if text is None else text
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


def contract_request(ask: Ask, remaining_s: float, without: Collection[str]) -> Request:
    """The request that docs/agent-contract.md describes."""
    body: dict[str, Any] = {"timeout_seconds": round(remaining_s, 3), "idempotency_key": ask.key}
    if ask.task is not None:
        body["task"] = dict(ask.task)
    else:
        body |= {"messages": _messages(ask), "schema": dict(ask.schema), "max_tokens": ask.max_tokens}
    return ask.endpoint, body, {"Idempotency-Key": ask.key}


def called_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads the answer of an agent that speaks our contract at its endpoint.

    An error of a task becomes a text, since only that is reported with the agent's own ``requeue``. Raises: `AgentFailed` for an
    error instead of an answer; what `contract_reply` raises."""
    words = error_in({"error": value.get("error")}) if isinstance(value, Mapping) else None
    if ask.task is None:
        _no_error(ask, words)
    elif words is not None and not isinstance(value["error"], str):
        whole = shown_text(write_json(value["error"], THE_ANSWER), MAX_WORDS)
        value = {**value, "error": words_of(value["error"]) or whole}
    return contract_reply(ask, value, received)


def _messages(ask: Ask) -> list[dict[str, str]]:
    return [dict(message) for message in ask.messages]


def is_stream(content_type: str, content: bytes) -> bool:
    """Whether an answer is a stream of events. Its own beginning decides first, since servers name the type wrongly."""
    begins = content.removeprefix(BOM_UTF8).lstrip()
    if begins.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    return content_type.strip().lower().startswith("text/event-stream") and not begins.startswith((b"{", b"["))


def sse_events(content: bytes) -> Iterator[Any]:
    """The data of a stream's events: parsed JSON, or ``[DONE]``. The data of an event that is named ``error`` is an error.

    Splits bytes and not a text. The standard ends lines by CR, LF or both, as bytes do; ``str.splitlines`` would also split
    at U+2028 and U+0085, which may stand in an answer. And bytes that are no UTF-8 are refused instead of replaced.

    Raises: `NotJson` if an event is no JSON and no error; `InvalidRequest` if it holds a number that is too long;
    `AgentMalformed` if there are more than ``MAX_EVENTS``."""
    name, data, count = b"", list[bytes](), 0
    for line in (*content.removeprefix(BOM_UTF8).splitlines(), b""):
        if line.startswith(b"data:"):
            count += 1  # by lines, since each of them may be an event
            if count > MAX_EVENTS:
                raise AgentMalformed(f"{_THE_STREAM} has more than {MAX_EVENTS} events.")
            data.append(line[5:].strip(b" \t"))
        elif line.startswith(b"event:"):
            name = line[6:].strip().lower()
        elif not line:
            yield from _errors(data) if name == b"error" else _event(data)
            name, data = b"", []


def _errors(lines: list[bytes]) -> list[Any]:
    """The data of an event that is named ``error``, as errors. It may be any text, and there may be none."""
    try:
        values = _event(lines)
    except InvalidRequest:
        values = [b"\n".join(lines).decode(errors="replace")]
    return [_as_error(value) for value in values or [True]]


def _as_error(value: Any) -> Any:
    shapes = (value, {"error": value})
    return next((shape for shape in shapes if error_in(shape) is not None), {"error": True})


def _event(lines: list[bytes]) -> list[Any]:
    """The data of one event, which may have several lines. Some servers leave out the empty line between events: then each line
    has a value of its own."""
    whole = b"\n".join(lines)
    if not whole:
        return []
    if len(lines) == 1:
        return [_datum(whole)]
    try:
        return [parse_json(whole, _THE_STREAM)]
    except NotJson:
        return [_datum(line) for line in lines if line]


def _datum(data: bytes) -> Any:
    return DONE if data == DONE.encode() else parse_json(data, _THE_STREAM)


FORMATS: Mapping[TransportKind, WireFormat] = {
    TransportKind.OPENAI: WireFormat(
        openai_request,
        openai_reply,
        openai_stream,
        ("response_format", "stream_options", "stream", "max_completion_tokens", "max_tokens"),
    ),
    TransportKind.ANTHROPIC: WireFormat(anthropic_request, anthropic_reply, optional=("tools", "tool_choice")),
    TransportKind.HTTP: WireFormat(contract_request, called_reply),
}
