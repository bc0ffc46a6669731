"""The trace id of the request that the running code works for. Every line of the process logs has it.

It is a context variable, so it goes from a task to the tasks that it starts. What works for many requests at once (a loop, a
group commit) may be started by one of them by chance: it starts in an `untraced` context, else its lines would name that request
for as long as it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token, copy_context

from cluster.process import spans

_TRACE: ContextVar[str] = ContextVar("trace", default="")


def trace() -> str:
    """The trace id of the request at work; empty if there is none."""
    return _TRACE.get()


def begin_trace(trace_id: str) -> Token[str]:
    """Sets the trace id until `end_trace`."""
    return _TRACE.set(trace_id)


def end_trace(token: Token[str]) -> None:
    """Sets what was there before."""
    _TRACE.reset(token)


@contextmanager
def traced(cause: str) -> Iterator[None]:
    """Sets the trace id if the cause of a change is one. The number of another row (``#7``) is none."""
    token = _TRACE.set("" if cause.startswith("#") else cause)
    try:
        yield
    finally:
        _TRACE.reset(token)


def untraced() -> Context:
    """The current context, without a trace id and a span."""
    context = copy_context()
    context.run(_TRACE.set, "")
    if spans.tracer is not None:
        context.run(spans.forget)
    return context
