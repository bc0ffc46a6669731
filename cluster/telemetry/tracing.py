"""Sends spans by OTLP over HTTP. Everything is set by OpenTelemetry's standard variables, which its SDK reads (docs/tracing.md).

A process traces if one of its variables names where spans go. Only then is OpenTelemetry imported. The SDK sends in a thread of
its own from a queue that is bounded, so a collector that is away costs spans and nothing else. What the SDK logs about each
attempt is replaced by one line when sending begins to fail and one when it works again.

No global of OpenTelemetry is set: Ray has spans and metrics of its own in the same process.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cluster.process import spans
from cluster.process.spans import Kind, Span, Tracer, Value
from cluster.telemetry import genai_names
from cluster.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.context import Context

_logger = logging.getLogger(__name__)

#: Each of them says where spans go.
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_SERVICE: Final = "aragora-control-plane"
#: How long a process that ends waits for its last spans.
FLUSH_S: Final = 1.0


def is_on(environment: Mapping[str, str]) -> bool:
    """Whether the variables ask for traces: an endpoint is named, or the exporter ``otlp``, and neither is the SDK disabled nor
    another exporter named."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get(_EXPORTER, "").strip().lower()
    return exporter == "otlp" or (not exporter and any(environment.get(name, "").strip() for name in _ENDPOINTS))


def begin_tracing(process: str, environment: Mapping[str, str] | None = None) -> None:
    """From now on this process makes spans, if its variables ask for that. ``process`` is its name in them."""
    environment = os.environ if environment is None else environment  # noqa: TID251 - OpenTelemetry's own variables
    if spans.tracer is not None or not is_on(environment):
        return
    protocol = next((environment[name].strip() for name in _PROTOCOLS if environment.get(name, "").strip()), _PROTOCOL)
    if protocol != _PROTOCOL:
        _logger.warning(
            "no spans are sent: set OTEL_EXPORTER_OTLP_PROTOCOL to %s, which is all that is spoken", _PROTOCOL
        )
        return
    try:
        started = _OtlpTracer(process)
    except ImportError:
        _logger.warning("no spans are sent: they need pip install 'aragora-control-plane[otel]'")
        return
    except Exception as error:  # noqa: BLE001 - the SDK raises many kinds at a variable; without spans everything else works
        _logger.warning("no spans are sent, because a variable OTEL_… is not understood (%s)", type(error).__name__)
        return
    atexit.register(started.flush)
    spans.tracer = started


class _OtlpTracer(Tracer):
    def __init__(self, process: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.trace import SpanKind, Status, StatusCode

        class Ids(RandomIdGenerator):
            """The ids that the next span has to have, then random ones. `start` sets them and awaits nothing until it has made
            the span; the SDK's thread makes none."""

            trace_id: str | None = None
            span_id: str | None = None

            def generate_trace_id(self) -> int:
                return super().generate_trace_id() if self.trace_id is None else int(self.trace_id, 16)

            def generate_span_id(self) -> int:
                return super().generate_span_id() if self.span_id is None else int(self.span_id, 16)

        class Told(SpanExporter):
            """Sends, and logs when that begins to fail and when it works again."""

            def __init__(self) -> None:
                self._inner = OTLPSpanExporter()
                self._fails = False

            def export(self, batch: Any) -> SpanExportResult:
                result = self._inner.export(batch)
                fails = result is not SpanExportResult.SUCCESS
                if fails != self._fails:
                    _logger.warning(
                        "spans cannot be sent and are dropped until the collector answers"
                        if fails
                        else "spans are sent again"
                    )
                self._fails = fails
                return result

            def shutdown(self) -> None:
                self._inner.shutdown()  # type: ignore[no-untyped-call]

            def force_flush(self, timeout_millis: int = 30000) -> bool:
                return self._inner.force_flush(timeout_millis)

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        own = {"service.version": VERSION, "service.instance.id": f"{process}:{os.getpid()}"}
        # What the variables say is above ours, and ours above what the SDK makes up for want of both.
        named = Resource({"service.name": _SERVICE} | own).merge(OTELResourceDetector().detect())
        resource = Resource.create().merge(named)
        self._ids = Ids()
        self._lock = threading.Lock()
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider = provider
        provider.add_span_processor(BatchSpanProcessor(Told()))
        self._tracer = provider.get_tracer("aragora", VERSION, schema_url=genai_names.SCHEMA_URL)
        self._kinds = {kind: SpanKind[kind.name] for kind in Kind}
        self._failed = lambda: Status(StatusCode.ERROR)

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
        from opentelemetry.context import Context
        from opentelemetry.trace import Link

        trace_id, span_id = ids or (None, None)
        context = _context(parent) if parent else Context()
        with self._lock:
            self._ids.trace_id, self._ids.span_id = trace_id, span_id
            try:
                started = self._tracer.start_span(
                    name,
                    context=context,
                    kind=self._kinds[kind],
                    attributes=dict(attributes),
                    links=[Link(_span_context(link)) for link in links],
                )
            finally:
                self._ids.trace_id = self._ids.span_id = None
        return _OtlpSpan(started, self._failed)

    def samples(self, trace_id: str) -> bool:
        decision: Any = self._provider.sampler.should_sample(None, int(trace_id, 16), "").decision
        return bool(decision.is_sampled())

    def flush(self) -> None:
        """Sends what waits, for ``FLUSH_S`` at most."""
        sending = threading.Thread(target=self._provider.force_flush, daemon=True)
        sending.start()
        sending.join(FLUSH_S)


class _OtlpSpan(Span):
    def __init__(self, started: Any, failed: Any) -> None:
        self._span = started
        self._failed = failed
        its = started.get_span_context()
        self.header = f"00-{its.trace_id:032x}-{its.span_id:016x}-{int(its.trace_flags) & 1:02x}"

    def note(self, name: str, value: Value) -> None:
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def end(self, error: str = "") -> None:
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(self._failed())
        self._span.end()


def _span_context(traceparent: str) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace_id, span_id, flags = traceparent.split("-")[:4]
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16) & 1))


def _context(traceparent: str) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(_span_context(traceparent)), Context())
