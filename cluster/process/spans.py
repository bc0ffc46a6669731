"""Spans: the seam between what is traced and OpenTelemetry, which nothing here imports.

``tracer`` is None unless the process was started with tracing (`cluster.telemetry.tracing`). Who could make a span asks for
that first, so that a process without tracing pays a comparison. A span is named by its W3C ``traceparent``: one text that goes
over the exchange, into headers and into payloads alike, and that a child is started from.

Nothing is stored for the way through the queue. What waits there has a span of its own (``submitted``), whose ids follow from
what is stored anyway: its trace from the cause of the submit, which the log keeps, and its own from the id of the task or
deliberation. So whoever works on it later can name it (``waiting_span``). A column was rejected: it would cost every task a
text, without tracing too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Protocol

#: Values of attributes. None of them holds what a person or an agent wrote, an address with a query, or a credential.
Value = str | int | float | bool | Sequence[str]

_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_ID = re.compile(r"[0-9a-f]{32}")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class Kind(Enum):
    """The kinds of spans of OpenTelemetry."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Span(Protocol):
    """A span that was started. ``header``: its ``traceparent``."""

    header: str

    def note(self, name: str, value: Value) -> None:
        """Sets an attribute."""

    def rename(self, name: str) -> None:
        """Gives it another name."""

    def end(self, error: str = "") -> None:
        """Ends it; ``error`` is the kind of what failed, never its text."""


class Tracer(Protocol):
    """Starts spans. ``ids``: the trace and the span id that a span has to have; None for the parent's trace and a new id."""

    def start(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Value],
        *,
        parent: str = "",
        links: Sequence[str] = (),
        ids: tuple[str, str | None] | None = None,
    ) -> Span:
        """Starts a span now. Without ``parent`` it is the first of its trace."""

    def samples(self, trace_id: str) -> bool:
        """Whether spans of a trace are kept, as far as its id decides that."""


#: None: this process makes no spans.
tracer: Tracer | None = None

_CURRENT: ContextVar[str] = ContextVar("span", default="")


def header() -> str:
    """The ``traceparent`` of the span at work; empty if there is none."""
    return _CURRENT.get()


def forget() -> None:
    """From now on, no span is at work in this context."""
    _CURRENT.set("")


def trace_of(traceparent: str) -> str:
    """The trace id of a W3C ``traceparent``; empty if it is none, or of a version that cannot be read."""
    found = _PARENT.fullmatch(traceparent)
    if found is None or traceparent.startswith("ff") or found[1] == _NO_TRACE or found[2] == _NO_SPAN:
        return ""
    return found[1] if found[3] is None or not traceparent.startswith("00") else ""


def trace_id_for(text: str) -> str:
    """The trace id (32 hexadecimal digits) of a request's trace id: that itself if it is one already, else made from it."""
    if _ID.fullmatch(text) and text != _NO_TRACE:
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def span_id_for(entity: str) -> str:
    """The id of the span that stands for a task or a deliberation while it waits."""
    return hashlib.sha256(entity.encode()).hexdigest()[:16]


def waiting_span(cause: str, entity: str) -> str:
    """The ``traceparent`` of what waits in a queue: of the span that `submitted` makes for it. ``cause``: that of the
    submit. What a row of the log or nothing has caused is a trace of its own."""
    assert tracer is not None, "asked for first"
    trace_id = trace_id_for(_origin(cause, entity))
    return f"00-{trace_id}-{span_id_for(entity)}-{'01' if tracer.samples(trace_id) else '00'}"


def submitted(name: str, cause: str, entity: str, attributes: Mapping[str, Value]) -> None:
    """Makes the span of something that waits from now on. It is a child of the span at work if that is of the same trace, else it
    is linked with it."""
    assert tracer is not None, "asked for first"
    current = header()
    trace_id = trace_id_for(_origin(cause, entity))
    child = trace_of(current) == trace_id
    span = tracer.start(
        name,
        Kind.PRODUCER,
        attributes,
        parent=current if child else "",
        links=(current,) if current and not child else (),
        ids=(trace_id, span_id_for(entity)),
    )
    span.end()


def _origin(cause: str, entity: str) -> str:
    return entity if not cause or cause.startswith("#") else cause


@contextmanager
def within(traceparent: str) -> Iterator[None]:
    """The block works for a span that somebody else ends."""
    token = _CURRENT.set(traceparent)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def span(
    name: str,
    kind: Kind,
    attributes: Mapping[str, Value],
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
) -> Iterator[Span]:
    """A span around the block. ``parent``: None for the span at work. An error that leaves the block ends it by its kind."""
    assert tracer is not None, "asked for first"
    started = tracer.start(name, kind, attributes, parent=header() if parent is None else parent, links=links)
    token = _CURRENT.set(started.header)
    error = ""
    try:
        yield started
    except BaseException as raised:
        error = getattr(raised, "code", None) or type(raised).__name__
        raise
    finally:
        _CURRENT.reset(token)
        started.end(error)
