"""The numbers behind ``/metrics``, as a value that log rows are folded into.

The counts are stored together with the cursor up to which the log was counted, so they stay exact when anything restarts.
What is not in the log (HTTP requests, probes) arrives as increments. No label has an unbounded set of values: when a metric
has ``LABEL_VALUES_MAX`` series, further label values become ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.log import LogRow
from cluster.domain.tasks.task import Priority

LABEL_VALUES_MAX = 100
OTHER = "other"

TASK_DURATION_S = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
TASK_WAIT_S = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
DELIBERATION_S = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
CONFIDENCE = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
AGENT_COUNT = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
HTTP_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its exposition name, help text, label names, and buckets if it is a histogram."""

    name: str
    kind: str  # counter | gauge | histogram
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


#: 1 or 0: how far the numbers of an answer can be trusted.
STORE_READABLE = "aragora_cp_store_readable"
METRICS_COMPLETE = "aragora_cp_metrics_complete"

FAMILIES: tuple[Family, ...] = (
    Family(
        name=STORE_READABLE,
        kind="gauge",
        help="1 if PostgreSQL could be read for this answer; 0: all other numbers are as they were last known.",
    ),
    Family(
        name=METRICS_COMPLETE,
        kind="gauge",
        help="1 if these are the region's numbers; 0: only those of the API replica that answers (process_*).",
    ),
    Family(name="aragora_cp_agents_registered_total", kind="counter", help="Registrations.", labels=("status",)),
    Family(name="aragora_cp_agents_active", kind="gauge", help="Active agents by capability.", labels=("capability",)),
    Family(
        name="aragora_cp_agent_status_changes_total",
        kind="counter",
        help="Changes of agents' liveness and health.",
        labels=("status",),
    ),
    Family(name="aragora_cp_agent_health_checks_total", kind="counter", help="Endpoint probes.", labels=("status",)),
    Family(
        name="aragora_cp_tasks_submitted_total",
        kind="counter",
        help="Tasks submitted.",
        labels=("task_type", "priority"),
    ),
    Family(name="aragora_cp_tasks_completed_total", kind="counter", help="Tasks completed.", labels=("task_type",)),
    Family(
        name="aragora_cp_tasks_failed_total",
        kind="counter",
        help="Tasks that ended without a result.",
        labels=("task_type", "failure_reason"),
    ),
    Family(
        name="aragora_cp_task_duration_seconds",
        kind="histogram",
        help="Task execution duration.",
        labels=("task_type",),
        buckets=TASK_DURATION_S,
    ),
    Family(name="aragora_cp_task_queue_depth", kind="gauge", help="Waiting tasks.", labels=("priority",)),
    Family(
        name="aragora_cp_task_wait_time_seconds",
        kind="histogram",
        help="Time from when a task could start until it was claimed.",
        buckets=TASK_WAIT_S,
    ),
    Family(
        name="aragora_cp_scheduler_rereads_total",
        kind="counter",
        help="Times that a scheduler shard has read its state again.",
    ),
    Family(
        name="aragora_cp_commit_failures_total",
        kind="counter",
        help="Commits that the database refused or did not answer, by the class of their SQLSTATE.",
        labels=("sqlstate_class",),
    ),
    Family(
        name="aragora_cp_denials_summed_total",
        kind="counter",
        help="Denied calls of which the log has only how many they were, because an API replica had too many kinds of them.",
    ),
    Family(
        name="aragora_audit_lag_seconds",
        kind="gauge",
        help="How long ago the first row of the log was written that is not sealed yet; 0 if all are.",
    ),
    Family(name="aragora_audit_lag_rows", kind="gauge", help="Rows of the log that are not sealed yet."),
    Family(
        name="aragora_cp_actor_memory_bytes",
        kind="gauge",
        help="Resident memory of each actor's process.",
        labels=("actor",),
    ),
    Family(
        name="aragora_cp_actor_memory_restarts_total",
        kind="counter",
        help="Actors that were restarted because they used more memory than their bound.",
        labels=("actor",),
    ),
    Family(
        name="aragora_cp_api_memory_replacements_total",
        kind="counter",
        help="API replicas that were replaced because they used more memory than their bound.",
    ),
    Family(
        name="aragora_cp_unfenced_reports_total",
        kind="counter",
        help="Task reports that carried no lease token.",
    ),
    Family(
        name="aragora_cp_deliberations_started_total",
        kind="counter",
        help="Deliberations admitted.",
        labels=("mode",),
    ),
    Family(
        name="aragora_cp_deliberations_completed_total",
        kind="counter",
        help="Deliberations that ended.",
        labels=("status", "consensus_reached"),
    ),
    Family(
        name="aragora_cp_deliberation_duration_seconds",
        kind="histogram",
        help="Deliberation duration.",
        labels=("consensus_reached",),
        buckets=DELIBERATION_S,
    ),
    Family(
        name="aragora_cp_deliberation_sla_total",
        kind="counter",
        help="Deliberations by their final SLA level, each counted once.",
        labels=("level",),
    ),
    Family(
        name="aragora_cp_deliberation_consensus_confidence",
        kind="histogram",
        help="Confidence of decisions.",
        buckets=CONFIDENCE,
    ),
    Family(
        name="aragora_cp_deliberation_agent_count",
        kind="histogram",
        help="Agents on a panel.",
        buckets=AGENT_COUNT,
    ),
    Family(
        name="aragora_http_requests_total",
        kind="counter",
        help="HTTP requests by route; status 499: the caller hung up.",
        labels=("method", "endpoint", "status"),
    ),
    Family(
        name="aragora_http_request_duration_seconds",
        kind="histogram",
        help="HTTP request latency.",
        labels=("method", "endpoint", "status"),
        buckets=HTTP_S,
    ),
)
_BY_NAME = {family.name: family for family in FAMILIES}

Labels = tuple[str, ...]


@dataclass(slots=True)
class Histogram:
    """Counts per bucket (not cumulative; the last bucket is +Inf) and the sum of the observed values."""

    counts: list[int]
    total: float = 0.0

    def observe(self, buckets: Sequence[float], value: float) -> None:
        """Counts one value. ``buckets`` are the upper bounds of the metric's buckets, without +Inf."""
        self.counts[bisect_left(buckets, value)] += 1
        self.total += value


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """A change of a metric from outside the log: ``amount`` is added to a counter or, if ``value`` is not None, a histogram
    observes ``value``."""

    name: str
    labels: Labels
    amount: float = 1.0
    value: float | None = None


@dataclass(slots=True)
class Metrics:
    """All metrics of a region. Mutable on purpose: its one owner changes it thousands of times a second."""

    # Name of a counter or gauge → labels → value. ``add`` and ``set_gauge`` change it; counters only grow.
    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    # Name of a histogram → labels → its counts. ``observe`` adds.
    histograms: dict[str, dict[Labels, Histogram]] = field(default_factory=dict)

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        """Adds to a counter."""
        series = self.values.setdefault(name, {})
        key = _bounded(series, labels)
        series[key] = series.get(key, 0.0) + amount

    def set_gauge(self, name: str, series: Mapping[Labels, float]) -> None:
        """Replaces all values of a gauge. The highest keep their labels if there are too many."""
        kept: dict[Labels, float] = {}
        for labels, value in sorted(series.items(), key=lambda item: -item[1]):
            key = _bounded(kept, labels)
            kept[key] = kept.get(key, 0.0) + value
        self.values[name] = kept

    def observe(self, name: str, value: float, labels: Labels = ()) -> None:
        """Adds a value to a histogram."""
        family = _BY_NAME[name]
        series = self.histograms.setdefault(name, {})
        key = _bounded(series, labels)
        if key not in series:
            series[key] = Histogram(counts=[0] * (len(family.buckets) + 1))
        series[key].observe(family.buckets, value)

    def merge(self, increments: Iterable[Increment]) -> None:
        """Adds increments from outside the log."""
        for increment in increments:
            if increment.value is None:
                self.add(increment.name, increment.labels, increment.amount)
            else:
                self.observe(increment.name, increment.value, increment.labels)

    def apply(self, row: LogRow) -> None:
        """Counts a row of the log. Each row must be applied once."""
        handler = _HANDLERS.get(row.kind)
        if handler is not None:
            handler(self, row.data)

    def snapshot(self) -> dict[str, Any]:
        """A copy as JSON, to be stored with the cursor. What is counted afterwards does not change it."""
        return {
            "values": {
                name: [[list(labels), value] for labels, value in series.items()]
                for name, series in self.values.items()
            },
            "histograms": {
                name: [[list(labels), list(h.counts), h.total] for labels, h in series.items()]
                for name, series in self.histograms.items()
            },
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Metrics:
        """The metrics of a snapshot. A histogram whose buckets have changed since starts again at zero, because its old counts do
        not fit the new buckets."""
        metrics = cls()
        for name, series in snapshot.get("values", {}).items():
            if name in _BY_NAME:
                metrics.values[name] = {tuple(labels): value for labels, value in series}
        for name, series in snapshot.get("histograms", {}).items():
            if name in _BY_NAME and all(len(c) == len(_BY_NAME[name].buckets) + 1 for _, c, _ in series):
                metrics.histograms[name] = {
                    tuple(labels): Histogram(counts=list(counts), total=total) for labels, counts, total in series
                }
        return metrics


def _bounded(series: Mapping[Labels, Any], labels: Labels) -> Labels:
    """The labels, or ``other`` for each if they are new and the metric has its maximum of series."""
    if labels in series or len(series) < LABEL_VALUES_MAX:
        return labels
    return tuple(OTHER for _ in labels)


def _priority(data: Mapping[str, Any]) -> str:
    return Priority(data["priority"]).wire_name


def _agent_changed(metrics: Metrics, data: Mapping[str, Any]) -> None:
    if isinstance(data.get("new_status"), str):
        metrics.add("aragora_cp_agent_status_changes_total", (data["new_status"],))


def _submitted(metrics: Metrics, data: Mapping[str, Any]) -> None:
    metrics.add("aragora_cp_tasks_submitted_total", (data["task_type"], _priority(data)))


def _claimed(metrics: Metrics, data: Mapping[str, Any]) -> None:
    metrics.observe("aragora_cp_task_wait_time_seconds", float(data.get("wait_seconds", 0.0)))


def _report(metrics: Metrics, data: Mapping[str, Any]) -> None:
    if data.get("fenced") is False:
        metrics.add("aragora_cp_unfenced_reports_total")


def _completed(metrics: Metrics, data: Mapping[str, Any]) -> None:
    metrics.add("aragora_cp_tasks_completed_total", (data["task_type"],))
    if "duration_seconds" in data:  # people's answers are no runs
        metrics.observe("aragora_cp_task_duration_seconds", float(data["duration_seconds"]), (data["task_type"],))
    _report(metrics, data)


def _ended_badly(reason: str) -> Any:
    def handler(metrics: Metrics, data: Mapping[str, Any]) -> None:
        metrics.add("aragora_cp_tasks_failed_total", (data["task_type"], reason))
        _report(metrics, data)

    return handler


def _registered(metrics: Metrics, data: Mapping[str, Any]) -> None:
    metrics.add("aragora_cp_agents_registered_total", ("success",))


def _deliberation_admitted(metrics: Metrics, data: Mapping[str, Any]) -> None:
    metrics.add("aragora_cp_deliberations_started_total", (str(data.get("mode", "sync")),))


def _deliberation_started(metrics: Metrics, data: Mapping[str, Any]) -> None:
    metrics.observe("aragora_cp_deliberation_agent_count", float(len(data.get("agents", ()))))


def _deliberation_ended(metrics: Metrics, data: Mapping[str, Any]) -> None:
    reached = str(bool(data.get("consensus_reached"))).lower()
    metrics.add("aragora_cp_deliberations_completed_total", (str(data.get("status", "failed")), reached))
    metrics.observe("aragora_cp_deliberation_duration_seconds", float(data["duration_seconds"]), (reached,))
    metrics.add("aragora_cp_deliberation_sla_total", (str(data.get("sla_level", "compliant")),))
    if data.get("consensus_reached") and data.get("confidence") is not None:
        metrics.observe("aragora_cp_deliberation_consensus_confidence", float(data["confidence"]))


_HANDLERS = {
    "task.submitted": _submitted,
    "task.claimed": _claimed,
    "task.completed": _completed,
    "task.retried": _report,
    "task.failed": _ended_badly("error"),
    "task.dead_lettered": _ended_badly("retries_exhausted"),
    "task.timeout": _ended_badly("timeout"),
    "agent.registered": _registered,
    "agent.status_changed": _agent_changed,
    "deliberation.admitted": _deliberation_admitted,
    "deliberation.started": _deliberation_started,
    "deliberation.completed": _deliberation_ended,
    "deliberation.failed": _deliberation_ended,
    "deliberation.cancelled": _deliberation_ended,
}
