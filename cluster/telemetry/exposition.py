"""Writes the metrics in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cluster.domain.metrics import FAMILIES, Family, Metrics


class _Exposition(Collector):
    def __init__(self, metrics: Metrics, families: Iterable[Family] = FAMILIES) -> None:
        self._metrics = metrics
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield self._family(family)

    def _family(self, family: Family) -> Metric:
        if family.kind == "histogram":
            return self._histogram(family)
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name.removesuffix("_total"), family.help, labels=family.labels)
        series = self._metrics.values.get(family.name, {})
        for labels, value in sorted(series.items()):
            metric.add_metric(labels, value)
        if not family.labels and not series:
            metric.add_metric((), 0.0)
        return metric

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, histogram in sorted(self._metrics.histograms.get(family.name, {}).items()):
            cumulative = 0
            buckets = []
            for bound, count in zip((*family.buckets, None), histogram.counts, strict=True):
                cumulative += count
                buckets.append(("+Inf" if bound is None else repr(float(bound)), cumulative))
            metric.add_metric(labels, buckets=buckets, sum_value=histogram.total)
        return metric


def exposition(metrics: Metrics) -> str:
    """Returns all metrics in Prometheus text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics))
    return generate_latest(registry).decode()


def process_exposition(metrics: Metrics) -> str:
    """Returns the metrics that have a value, and the figures of this process (``process_*``), in the same format. A metric of the
    region without a value is left out: as a 0 it would look like a counter that began anew."""
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics, [family for family in FAMILIES if family.name in metrics.values]))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()
