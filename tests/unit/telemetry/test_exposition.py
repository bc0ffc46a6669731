"""The text that Prometheus reads."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from cluster.domain.metrics import TRACE_CHARS, Increment, Metrics
from cluster.telemetry.exposition import exposition
from cluster.telemetry.observations import HttpObservations
from tests.support.samples import NOW

DURATION = "aragora_http_request_duration_seconds"


def _values(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition(metrics))
        for sample in family.samples
    }


def test_latency_by_route_is_the_sum_of_durations() -> None:
    metrics = Metrics()
    for method, status, seconds in (("GET", "200", 0.02), ("POST", "201", 0.2), ("GET", "404", 20.0)):
        metrics.observe(DURATION, seconds, (method, "/x", status))
    values = _values(metrics)
    assert values["aragora_http_request_latency_seconds_count", ("/x",)] == 3
    assert values["aragora_http_request_latency_seconds_sum", ("/x",)] == 20.22
    assert values["aragora_http_request_latency_seconds_bucket", ("/x", "0.25")] == 2


def test_a_known_value_is_there_before_it_is_counted() -> None:
    """Else ``increase`` would miss the first one."""
    metrics = Metrics()
    metrics.set_gauge("aragora_cp_actor_memory_bytes", {("scheduler-0",): 1.0})
    metrics.add("aragora_cp_deliberation_sla_total", ("warning",))
    values = _values(metrics)
    assert values["aragora_cp_deliberation_sla_total", ("violated",)] == 0
    assert values["aragora_cp_deliberation_sla_total", ("warning",)] == 1
    assert values["aragora_cp_actor_memory_restarts_total", ("scheduler-0",)] == 0


def test_a_gauge_without_a_value_is_left_out() -> None:
    """A 0 would say that no region is in sync."""
    names = {name for name, _ in _values(Metrics())}
    assert "aragora_cp_region_in_sync" not in names
    assert "aragora_cp_scheduler_rereads_total" in names


def test_the_slowest_of_calls_that_are_alike_is_the_exemplar() -> None:
    observations = HttpObservations()
    for seconds, trace in ((0.3, "slow"), (0.4, "slowest"), (0.2, "fast")):
        observations.observe("GET", "/x", 200, seconds, trace)
    observations.observe("GET", "/y", 200, 0.001, "t" * (TRACE_CHARS + 1))
    metrics = Metrics()
    metrics.merge(observations.take(), NOW)
    assert observations.take() == []
    found = [
        (sample.labels["le"], sample.exemplar.labels, sample.exemplar.value, float(sample.exemplar.timestamp))
        for family in openmetrics_families(exposition(metrics, openmetrics=True))
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert found == [("0.5", {"trace_id": "slowest"}, 0.4, NOW)]
    assert "slowest" not in exposition(metrics)


def test_refused_registrations_are_failures() -> None:
    observations = HttpObservations()
    for status in (201, 422, 400):
        observations.observe("POST", "/agents", status, 0.1, "t")
    observations.observe("GET", "/agents", 403, 0.1, "t")
    failures = [each for each in observations.take() if each.name == "aragora_cp_agents_registered_total"]
    assert failures == [Increment(name="aragora_cp_agents_registered_total", labels=("failure",), amount=2)]
