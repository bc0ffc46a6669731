"""Spans of requests. Only a process that traces has this layer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.domain.tasks.task import Task
from cluster.ports.tasks import SubmitItem
from cluster.process import spans
from serve_app.http.methods import route_of, shown_method
from serve_app.http.request_log import HUNG_UP

#: What led to the submits of tasks, by their ids.
Causes = Callable[[Sequence[str]], Awaitable[dict[str, str]]]


class TracedRequests:
    """A layer of ASGI inside of what gives a request its trace id, which is that of its span."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or spans.tracer is None:
            await self._app(scope, receive, send)
            return
        trace_id: str = scope["state"]["trace_id"]
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"").decode("latin-1")
        method = shown_method(scope["method"]) if scope["type"] == "http" else "WEBSOCKET"
        span = spans.tracer.start(
            method,
            spans.Kind.SERVER,
            {"http.request.method": method, "aragora.trace_id": trace_id},
            parent=given if spans.trace_of(given) else "",
            ids=None if spans.trace_of(given) else (spans.trace_id_for(trace_id), None),
        )
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        error = ""
        try:
            with spans.within(span.header):
                await self._app(scope, receive, send_and_note)
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            template = route_of(scope)
            span.rename(f"{method} {template}")
            span.note("http.route", template)
            if scope["type"] == "http":
                span.note("http.response.status_code", status or HUNG_UP)
            span.end(error or (str(status) if status >= 500 else ""))


def note_submits(items: Sequence[SubmitItem]) -> None:
    """The spans of tasks that wait from now on."""
    if spans.tracer is not None:
        for item in items:
            spans.submitted(
                "task.submit",
                item.task.origin.cause,
                item.task.id,
                {"aragora.task.id": item.task.id, "aragora.task.type": item.task.task_type},
            )


async def claimed(causes_of: Causes, leased: Sequence[Task]) -> dict[str, str]:
    """Makes a span of each task that a worker has claimed, in the trace of its submit, linked with the claim's request. Returns
    their headers by the tasks' ids: what the worker does for a task belongs below."""
    if spans.tracer is None or not leased:
        return {}
    causes = await causes_of([task.id for task in leased])
    headers = {}
    for task in leased:
        span = spans.tracer.start(
            "task.claim",
            spans.Kind.CONSUMER,
            {"aragora.task.id": task.id, "aragora.task.type": task.task_type, "aragora.task.attempt": task.attempt},
            parent=spans.waiting_span(causes.get(task.id, ""), task.id),
            links=(spans.header(),) if spans.header() else (),
        )
        span.end()
        headers[task.id] = span.header
    return headers


async def reporting(causes_of: Causes, task_id: str) -> str:
    """The header within which a report is taken: that of the request if it is of the task's trace (the worker sent what it got),
    else of a span of the task that is linked with the request."""
    assert spans.tracer is not None, "asked for first"
    current = spans.header()
    causes = await causes_of([task_id])
    if task_id not in causes:  # refused below
        return current
    waiting = spans.waiting_span(causes[task_id], task_id)
    if spans.trace_of(waiting) == spans.trace_of(current):
        return current
    links = (current,) if current else ()
    span = spans.tracer.start(
        "task.report", spans.Kind.SERVER, {"aragora.task.id": task_id}, parent=waiting, links=links
    )
    span.end()
    return span.header
