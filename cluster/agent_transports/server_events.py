"""Streams of server-sent events, by which models answer bit by bit. No I/O."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

from cluster.agent_transports.failures import error_in
from cluster.domain.base.errors import AgentMalformed, InvalidRequest
from cluster.domain.base.json_values import NotJson, parse_json

DONE = "[DONE]"
#: Events, and choices of events, that a stream may have. So many tokens have some 4 MB of events around them, and take a second.
MAX_EVENTS = 100_000
THE_STREAM = "The stream of the answer"


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
                raise AgentMalformed(f"{THE_STREAM} has more than {MAX_EVENTS} events.")
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
        return [parse_json(whole, THE_STREAM)]
    except NotJson:
        return [_datum(line) for line in lines if line]


def _datum(data: bytes) -> Any:
    return DONE if data == DONE.encode() else parse_json(data, THE_STREAM)
