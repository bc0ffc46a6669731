"""A collector of spans: OTLP over HTTP on loopback, which decodes what it is sent."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import Request

from cluster.process import spans
from cluster.telemetry.tracing import begin_tracing
from tests.support.endpoints import serving


@dataclass(frozen=True)
class Got:
    """A span that has arrived; ids in hexadecimal, ``parent`` empty for the first of a trace."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: bool
    resource: dict[str, Any] = field(repr=False)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


class Collector:
    """``raw`` is all that was sent, as bytes."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.raw = b""
        self.headers: list[dict[str, str]] = []

    async def __call__(self, request: Request) -> httpx.Response:
        body = await request.body()
        self.raw += body
        self.headers.append(dict(request.headers))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            its = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.got += [
                    Got(
                        name=span.name,
                        kind=span.kind,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        attributes=_attributes(span.attributes),
                        links=tuple(link.span_id.hex() for link in span.links),
                        failed=span.status.code == 2,
                        resource=its,
                    )
                    for span in scope.spans
                ]
        return httpx.Response(200, content=b"", headers={"content-type": "application/x-protobuf"})

    def of(self, trace: str) -> list[Got]:
        return [span for span in self.got if span.trace == trace]

    def tree(self, trace: str) -> list[str]:
        """The names of a trace's spans, each after those above (``a > b``); ``?`` is a parent that has not come."""
        by_id = {span.id: span for span in self.of(trace)}

        def path(span: Got) -> str:
            if not span.parent:
                return span.name
            return f"{path(by_id[span.parent]) if span.parent in by_id else '?'} > {span.name}"

        return sorted(path(span) for span in by_id.values())


@contextlib.contextmanager
def tracing(url: str, **variables: str) -> Iterator[Callable[[], None]]:
    """This process traces to ``url`` within the block. Gives what sends the spans that wait: call it in a thread."""
    patch = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **variables}
    with _environment(patch):
        begin_tracing("test", patch)
    made: Any = spans.tracer
    assert made is not None
    try:
        yield made._provider.force_flush
    finally:
        spans.tracer = None
        made._provider.shutdown()


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, changes):
        yield


@contextlib.asynccontextmanager
async def collecting(**variables: str) -> AsyncIterator[tuple[Collector, Callable[[], None]]]:
    collector = Collector()
    async with serving(collector) as url:
        with tracing(url, **variables) as flush:
            yield collector, flush


def free_port() -> int:
    """A port of loopback at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
