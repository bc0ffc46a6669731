"""Writes the metrics in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, samples
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from cluster.domain.metric_families import FAMILIES, Family
from cluster.domain.metrics import Exemplar, Histogram, Labels, Metrics

#: Content types of the two formats.
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
#: A metric that is counted as another one with more labels, of which the second is the endpoint.
LATENCY: Final = "aragora_http_request_latency_seconds"
DURATION: Final = "aragora_http_request_duration_seconds"


class _Exposition(Collector):
    def __init__(
        self, metrics: Metrics, families: Iterable[Family] = FAMILIES, *, with_exemplars: bool = False
    ) -> None:
        self._metrics = metrics
        self._families = families
        self._with_exemplars = with_exemplars

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield self._family(family)

    def _family(self, family: Family) -> Metric:
        if family.kind == "histogram":
            return self._histogram(family)
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name.removesuffix("_total"), family.help, labels=family.labels)
        series: dict[Labels, float] = {(value,): 0.0 for value in family.known}
        if family.known_of is not None:
            series |= dict.fromkeys(self._metrics.values.get(family.known_of, ()), 0.0)
        series |= self._metrics.values.get(family.name, {})
        for labels, value in sorted(series.items()):
            metric.add_metric(labels, value)
        if family.kind == "counter" and not family.labels and not series:
            metric.add_metric((), 0.0)
        return metric

    def _by_endpoint(self) -> dict[Labels, Histogram]:
        summed: dict[Labels, Histogram] = {}
        for (_, endpoint, _), histogram in self._metrics.histograms.get(DURATION, {}).items():
            into = summed.setdefault((endpoint,), Histogram(counts=[0] * len(histogram.counts)))
            into.counts = [a + b for a, b in zip(into.counts, histogram.counts, strict=True)]
            into.total += histogram.total
        return summed

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        series = self._by_endpoint() if family.name == LATENCY else self._metrics.histograms.get(family.name, {})
        for labels, histogram in sorted(series.items()):
            cumulative = 0
            buckets: list[Any] = []
            for n, (bound, count) in enumerate(zip((*family.buckets, None), histogram.counts, strict=True)):
                cumulative += count
                of_bucket = ("+Inf" if bound is None else repr(float(bound)), cumulative)
                exemplar = histogram.exemplars.get(n) if self._with_exemplars else None
                buckets.append(of_bucket if exemplar is None else (*of_bucket, _shown(exemplar)))
            metric.add_metric(labels, buckets=buckets, sum_value=histogram.total)
        return metric


def _shown(exemplar: Exemplar) -> samples.Exemplar:
    return samples.Exemplar({"trace_id": exemplar.trace}, exemplar.value, exemplar.at)


def exposition(metrics: Metrics, *, openmetrics: bool = False) -> str:
    """Returns all metrics in Prometheus text format 0.0.4, or in that of OpenMetrics 1.0, which has exemplars: the traces of slow
    requests."""
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics, with_exemplars=openmetrics))
    return (generate_openmetrics if openmetrics else generate_latest)(registry).decode()


def asks_for_openmetrics(accept: str) -> bool:
    """Whether a caller with this header ``Accept`` reads OpenMetrics: Prometheus says so, and takes the other format too."""
    return "application/openmetrics-text" in accept.lower()


def process_exposition(metrics: Metrics) -> str:
    """Returns the metrics that have a value, and the figures of this process (``process_*``), in the same format. A metric of the
    region without a value is left out: as a 0 it would look like a counter that began anew."""
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics, [family for family in FAMILIES if family.name in metrics.values]))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()
