"""The numbers behind ``/metrics``, as a value that log rows are folded into.

The counts are stored together with the cursor up to which the log was counted, so they stay exact when anything restarts.
What is not in the log (HTTP requests, probes) arrives as increments. No label has an unbounded set of values: of those that
callers choose only the busiest have series of their own (`Busiest`), and when a metric has ``SERIES_MAX`` series, all labels of
further ones become ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.domain.audit.log_retention import CURSOR_DROPPED
from cluster.domain.audit.retention import LISTS
from cluster.domain.base.log import LogRow
from cluster.domain.busiest import Busiest
from cluster.domain.metric_families import FAMILIES, NAMED, NAMED_MAX, OTHER
from cluster.domain.tasks.task import Priority

#: Of a longer trace there is no exemplar: OpenMetrics allows 128 characters for all labels of one, names included.
TRACE_CHARS: Final = 100
#: A guard: labels are closed sets or bounded, and routes by methods by statuses come to some hundreds.
SERIES_MAX: Final = 2_000

_BY_NAME = {family.name: family for family in FAMILIES}
#: Which of a metric's labels are names that callers choose, by their positions; metrics without any are left out.
_NAMED_AT: Final = {
    family.name: tuple((n, label) for n, label in enumerate(family.labels) if label in NAMED)
    for family in FAMILIES
    if NAMED.intersection(family.labels)
}

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """One observation of a bucket: the trace of its request, its value, and when it was counted (epoch seconds)."""

    trace: str
    value: float
    at: float


@dataclass(slots=True)
class Histogram:
    """Counts per bucket (not cumulative; the last bucket is +Inf) and the sum of the observed values. ``exemplars`` are by
    bucket, and not stored: a trace is of use while its logs are there."""

    counts: list[int]
    total: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)

    def observe(self, buckets: Sequence[float], value: float) -> int:
        """Counts one value, and returns its bucket. ``buckets`` are the upper bounds of the metric's buckets, without +Inf."""
        bucket = bisect_left(buckets, value)
        self.counts[bucket] += 1
        self.total += value
        return bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """A change of a metric from outside the log: ``amount`` is added to a counter or, if ``value`` is not None, a histogram
    observes ``value``, of a request with this trace if one is given."""

    name: str
    labels: Labels
    amount: float = 1.0
    value: float | None = None
    trace: str | None = None


@dataclass(slots=True)
class Metrics:
    """All metrics of a region. Mutable on purpose: its one owner changes it thousands of times a second."""

    # Name of a counter or gauge → labels → value. ``add`` and ``set_gauge`` change it; counters only grow.
    values: dict[str, dict[Labels, float]] = field(default_factory=dict)
    # Name of a histogram → labels → its counts. ``observe`` adds.
    histograms: dict[str, dict[Labels, Histogram]] = field(default_factory=dict)
    # Label whose values callers choose → which of them have series of their own in counters and histograms.
    busiest: dict[str, Busiest] = field(default_factory=dict)

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        """Adds to a counter."""
        labels = self._named(name, labels, amount)
        series = self.values.setdefault(name, {})
        key = _bounded(series, labels)
        series[key] = series.get(key, 0.0) + amount

    def set_gauge(self, name: str, series: Mapping[Labels, float]) -> None:
        """Replaces all values of a gauge. Of names that callers choose, those with the highest values keep their labels."""
        family = _BY_NAME[name]
        ranked = sorted(series.items(), key=lambda item: -item[1])
        chosen = name in _NAMED_AT
        kept: dict[Labels, float] = {}
        for labels, value in ranked:
            key = tuple(OTHER for _ in labels) if chosen and len(kept) >= NAMED_MAX else _bounded(kept, labels)
            before = kept.get(key)
            if before is None:
                kept[key] = value
            else:
                kept[key] = max(before, value) if family.other_is_highest else before + value
        self.values[name] = kept

    def observe(
        self, name: str, value: float, labels: Labels = (), trace: str | None = None, now: float | None = None
    ) -> None:
        """Adds a value to a histogram. With the trace of a request and the time, it is the bucket's exemplar from now on."""
        family = _BY_NAME[name]
        labels = self._named(name, labels, 1.0)
        series = self.histograms.setdefault(name, {})
        key = _bounded(series, labels)
        if key not in series:
            series[key] = Histogram(counts=[0] * (len(family.buckets) + 1))
        bucket = series[key].observe(family.buckets, value)
        if trace is not None and now is not None and len(trace) <= TRACE_CHARS:
            series[key].exemplars[bucket] = Exemplar(trace=trace, value=value, at=now)

    def merge(self, increments: Iterable[Increment], now: float | None = None) -> None:
        """Adds increments from outside the log, at a time (epoch seconds). Those of metrics that this version does not have are
        left out: a replica of a newer one may have sent them."""
        for increment in increments:
            if increment.name not in _BY_NAME:
                continue
            if increment.value is None:
                self.add(increment.name, increment.labels, increment.amount)
            else:
                self.observe(increment.name, increment.value, increment.labels, increment.trace, now)

    def apply(self, row: LogRow) -> None:
        """Counts a row of the log. Each row must be applied once."""
        handler = _HANDLERS.get(row.kind)
        if handler is not None:
            handler(self, row)

    def _named(self, name: str, labels: Labels, amount: float) -> Labels:
        """The labels, with ``other`` for names that are none of the busiest."""
        for position, label in _NAMED_AT.get(name, ()):
            busiest = self.busiest.setdefault(label, Busiest())
            shown, ended = busiest.name(labels[position], amount)
            if ended is not None:
                self._end_series(label, ended)
            if shown != labels[position]:
                labels = (*labels[:position], shown, *labels[position + 1 :])
        return labels

    def _end_series(self, label: str, value: str) -> None:
        for name, positions in _NAMED_AT.items():
            found = [position for position, other in positions if other == label]
            if not found or _BY_NAME[name].kind == "gauge":
                continue
            for series in (self.values.get(name, {}), self.histograms.get(name, {})):
                for labels in [labels for labels in series if labels[found[0]] == value]:
                    del series[labels]

    def snapshot(self) -> dict[str, Any]:
        """A copy as JSON, to be stored with the cursor. What is counted afterwards does not change it."""
        return {
            "values": {
                name: [[list(labels), value] for labels, value in series.items()]
                for name, series in self.values.items()
                if _BY_NAME[name].kind != "gauge"
            },
            "histograms": {
                name: [[list(labels), list(h.counts), h.total] for labels, h in series.items()]
                for name, series in self.histograms.items()
            },
            "busiest": {label: busiest.snapshot() for label, busiest in self.busiest.items()},
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Metrics:
        """The metrics of a snapshot. A histogram whose buckets have changed since starts again at zero, because its old counts do
        not fit the new buckets. Gauges are not restored: they are measured anew."""
        metrics = cls()
        for name, series in snapshot.get("values", {}).items():
            if name in _BY_NAME and _BY_NAME[name].kind != "gauge":
                metrics.values[name] = {tuple(labels): value for labels, value in series}
        for name, series in snapshot.get("histograms", {}).items():
            if name in _BY_NAME and all(len(c) == len(_BY_NAME[name].buckets) + 1 for _, c, _ in series):
                metrics.histograms[name] = {
                    tuple(labels): Histogram(counts=list(counts), total=total) for labels, counts, total in series
                }
        if "busiest" in snapshot:
            metrics.busiest = {label: Busiest.restore(of) for label, of in snapshot["busiest"].items()}
        else:
            metrics._rank()
        return metrics

    def _rank(self) -> None:
        """Of counts of a version that kept the names that came first: the busiest of them stay, the others become ``other``."""
        counted: dict[str, dict[str, float]] = {}
        for name, positions in _NAMED_AT.items():
            for position, label in positions:
                counts = counted.setdefault(label, {})
                for labels, value in self.values.get(name, {}).items():
                    if labels[position] != OTHER:
                        counts[labels[position]] = counts.get(labels[position], 0.0) + value
        self.busiest = {label: Busiest(counts) for label, counts in counted.items() if counts}
        for name, positions in _NAMED_AT.items():
            values, self.values[name] = self.values.pop(name, {}), {}
            histograms, self.histograms[name] = self.histograms.pop(name, {}), {}
            for labels, value in values.items():
                key = self._ranked(positions, labels)
                self.values[name][key] = self.values[name].get(key, 0.0) + value
            for labels, histogram in histograms.items():
                into = self.histograms[name].setdefault(
                    self._ranked(positions, labels), Histogram(counts=[0] * len(histogram.counts))
                )
                into.counts = [a + b for a, b in zip(into.counts, histogram.counts, strict=True)]
                into.total += histogram.total

    def _ranked(self, positions: Sequence[tuple[int, str]], labels: Labels) -> Labels:
        at = {position for position, label in positions if labels[position] not in self._shown(label)}
        return tuple(OTHER if n in at else value for n, value in enumerate(labels))

    def _shown(self, label: str) -> set[str]:
        busiest = self.busiest.get(label)
        return set() if busiest is None else busiest.shown


def _bounded(series: Mapping[Labels, Any], labels: Labels) -> Labels:
    """The labels, or ``other`` for each if they are new and the metric has its maximum of series."""
    if labels in series or len(series) < SERIES_MAX:
        return labels
    return tuple(OTHER for _ in labels)


Handler = Callable[[Metrics, LogRow], None]

#: Reasons for which a lease ends without a report of its holder.
LOST_LEASES: Final = frozenset(
    {"lease_expired", "agent_offline", "agent_lost", "agent_unregistered", "not_delivered", "kills_workers"}
)


def _priority(data: Mapping[str, Any]) -> str:
    return Priority(data["priority"]).wire_name


def _agent_changed(metrics: Metrics, row: LogRow) -> None:
    if isinstance(row.data.get("new_status"), str):
        metrics.add("aragora_cp_agent_status_changes_total", (row.data["new_status"],))


def _submitted(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_tasks_submitted_total", (row.data["task_type"], _priority(row.data)))


def _claimed(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_tasks_claimed_total", (row.workspace,))
    metrics.observe("aragora_cp_task_wait_time_seconds", float(row.data.get("wait_seconds", 0.0)))


def _report(metrics: Metrics, row: LogRow) -> None:
    if row.data.get("fenced") is False:
        metrics.add("aragora_cp_unfenced_reports_total")
    reason = row.data.get("reason")
    if reason in LOST_LEASES:
        metrics.add("aragora_cp_leases_lost_total", (reason,))


def _completed(metrics: Metrics, row: LogRow) -> None:
    data = row.data
    metrics.add("aragora_cp_tasks_completed_total", (data["task_type"],))
    if "duration_seconds" in data:  # people's answers are no runs
        metrics.observe("aragora_cp_task_duration_seconds", float(data["duration_seconds"]), (data["task_type"],))
    _report(metrics, row)


def _ended_badly(reason: str) -> Handler:
    def handler(metrics: Metrics, row: LogRow) -> None:
        metrics.add("aragora_cp_tasks_failed_total", (row.data["task_type"], reason))
        _report(metrics, row)

    return handler


def _registered(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_agents_registered_total", ("success",))


def _deliberation_admitted(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_deliberations_started_total", (str(row.data.get("mode", "sync")),))


def _deliberation_started(metrics: Metrics, row: LogRow) -> None:
    metrics.observe("aragora_cp_deliberation_agent_count", float(len(row.data.get("agents", ()))))


def _deliberation_ended(metrics: Metrics, row: LogRow) -> None:
    data = row.data
    reached = str(bool(data.get("consensus_reached"))).lower()
    metrics.add("aragora_cp_deliberations_completed_total", (str(data.get("status", "failed")), reached))
    metrics.observe("aragora_cp_deliberation_duration_seconds", float(data["duration_seconds"]), (reached,))
    metrics.add("aragora_cp_deliberation_sla_total", (str(data.get("sla_level", "compliant")),))
    if data.get("consensus_reached") and data.get("confidence") is not None:
        metrics.observe("aragora_cp_deliberation_consensus_confidence", float(data["confidence"]))


def _violation(metrics: Metrics, row: LogRow) -> None:
    labels = (str(row.data["violation_type"]), str(row.data["enforcement"]))
    metrics.add("aragora_cp_policy_violations_total", labels)


def _removed(metrics: Metrics, row: LogRow) -> None:
    kind = row.kind.removeprefix("retention.").removesuffix("_removed")
    metrics.add("aragora_cp_retention_removed_total", (kind,), float(len(row.data.get(LISTS[row.kind], ()))))


def _cursor_dropped(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_log_cursors_dropped_total", (str(row.data["follower"]),))


def _schedule_run(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_schedule_runs_total", (str(row.data.get("reason", "started")),))


def _run_started(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_workflow_runs_started_total")


def _run_ended(metrics: Metrics, row: LogRow) -> None:
    metrics.add("aragora_cp_workflow_runs_ended_total", (str(row.data["status"]),))


_HANDLERS: Mapping[str, Handler] = {
    "task.submitted": _submitted,
    "task.claimed": _claimed,
    "task.completed": _completed,
    "task.retried": _report,
    "task.requeued": _report,
    "task.cancelled": _report,
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
    "policy.violation": _violation,
    "policy.violation_overridden": _violation,
    CURSOR_DROPPED: _cursor_dropped,
    "schedule.fired": _schedule_run,
    "schedule.skipped": _schedule_run,
    "workflow.run_started": _run_started,
    "workflow.run_ended": _run_ended,
    **dict.fromkeys(LISTS, _removed),
}
