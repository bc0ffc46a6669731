"""What is counted, under bounded labels: no series jumps, and no counter is lost over a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cluster.domain.base.log import LogRow
from cluster.domain.metric_families import FAMILIES, NAMED_MAX, OTHER
from cluster.domain.metrics import Increment, Metrics
from cluster.domain.schedules.schedule import SkipReason
from cluster.domain.workflows.document import RunStatus
from tests.support.samples import NOW

SUBMITTED = "aragora_cp_tasks_submitted_total"
COMPLETED = "aragora_cp_tasks_completed_total"
DURATION = "aragora_cp_task_duration_seconds"


def row(kind: str, workspace: str = "w", **data: Any) -> LogRow:
    return LogRow(
        seq=1, at=NOW, workspace=workspace, kind=kind, entity="e", attempt=None, principal="p", data=data, digest=b""
    )


def submit(metrics: Metrics, task_type: str, times: int = 1, priority: int = 50) -> None:
    for _ in range(times):
        metrics.apply(row("task.submitted", task_type=task_type, priority=priority))


def types(metrics: Metrics, name: str = SUBMITTED) -> set[str]:
    return {labels[0] for labels in metrics.values[name]}


def test_only_the_busiest_names_have_series() -> None:
    metrics = Metrics()
    for n in range(3 * NAMED_MAX):
        submit(metrics, f"t{n}", priority=0)
        submit(metrics, f"t{n}", priority=50)
    assert len(types(metrics)) == NAMED_MAX + 1
    others = {labels: value for labels, value in metrics.values[SUBMITTED].items() if labels[0] == OTHER}
    assert others == {(OTHER, "low"): 2 * NAMED_MAX, (OTHER, "normal"): 2 * NAMED_MAX}, "the other labels stay"
    assert sum(metrics.values[SUBMITTED].values()) == 6 * NAMED_MAX


def test_a_name_that_becomes_busy_takes_the_series_of_another() -> None:
    metrics = Metrics()
    for n in range(NAMED_MAX):
        submit(metrics, f"tried{n}")
    before: Mapping[Any, float] = {}
    for _ in range(40):
        submit(metrics, "busy")
        now = dict(metrics.values[SUBMITTED])
        falling = {labels for labels in now.keys() & before.keys() if now[labels] < before[labels]}
        rising = {labels for labels in now if now[labels] > before.get(labels, 0.0) + 1 and before}
        assert not falling | rising, "a counter falls or jumps"
        before = now
    assert "busy" in types(metrics)
    assert len(types(metrics)) == NAMED_MAX + 1
    metrics.apply(row("task.completed", task_type="busy", duration_seconds=1.0))
    assert types(metrics, COMPLETED) == {"busy"}, "one choice for all metrics"


def test_a_name_called_other_is_no_name() -> None:
    metrics = Metrics()
    submit(metrics, OTHER)
    assert metrics.values[SUBMITTED] == {(OTHER, "normal"): 1.0}
    assert not metrics.busiest["task_type"].counts


def test_what_is_busy_is_forgotten_in_time() -> None:
    metrics = Metrics()
    for n in range(NAMED_MAX):
        metrics.add(COMPLETED, (f"old{n}",), 1_000.0)
    for _ in range(20):
        metrics.add(COMPLETED, ("new",), 10_000.0)
    assert "new" in types(metrics, COMPLETED)
    assert metrics.busiest["task_type"].counts["old9"] < 1_000.0


def test_many_names_cost_a_bounded_memory() -> None:
    metrics = Metrics()
    for n in range(5_000):
        submit(metrics, f"t{n}")
    assert len(metrics.busiest["task_type"].counts) <= 2_000
    assert len(metrics.values[SUBMITTED]) == NAMED_MAX + 1


def test_a_restart_changes_nothing() -> None:
    metrics = Metrics()
    for n in range(2 * NAMED_MAX):
        submit(metrics, f"t{n}", times=1 + n % 3)
        metrics.apply(row("task.completed", task_type=f"t{n}", duration_seconds=float(n)))
    metrics.set_gauge("aragora_cp_queue_depth", {("q",): 5.0})
    again = Metrics.restore(json.loads(json.dumps(metrics.snapshot())))
    for each in (metrics, again):
        submit(each, "t99", times=7)
    assert again.values[SUBMITTED] == metrics.values[SUBMITTED]
    assert again.histograms == metrics.histograms
    assert again.snapshot()["busiest"] == metrics.snapshot()["busiest"]
    assert "aragora_cp_queue_depth" not in again.values, "a gauge is measured anew"


def test_counts_of_an_earlier_version_are_kept() -> None:
    """It kept the 100 names that came first."""
    snapshot = {
        "values": {SUBMITTED: [[[f"t{n}", "normal"], n + 1] for n in range(100)]},
        "histograms": {DURATION: [[[f"t{n}"], [1] + [0] * 10, 0.5] for n in range(100)]},
    }
    metrics = Metrics.restore(snapshot)
    assert sum(metrics.values[SUBMITTED].values()) == sum(range(101))
    assert types(metrics) == {OTHER, *(f"t{n}" for n in range(50, 100))}
    of_duration = metrics.histograms[DURATION]
    assert of_duration.keys() == {(name,) for name in types(metrics)}
    assert of_duration[(OTHER,)].counts[0] == 50
    assert of_duration[(OTHER,)].total == 25.0


@pytest.mark.parametrize(
    ("gauge", "of_others"),
    [("aragora_cp_queue_depth", sum(range(10))), ("aragora_cp_queue_oldest_seconds", 9)],
    ids=["a sum", "the highest"],
)
def test_a_gauge_shows_the_highest_and_the_rest_as_other(gauge: str, of_others: float) -> None:
    metrics = Metrics()
    metrics.set_gauge(gauge, {(f"q{n}",): float(n) for n in range(NAMED_MAX + 10)})
    shown = metrics.values[gauge]
    assert len(shown) == NAMED_MAX + 1
    assert shown[(OTHER,)] == of_others


def test_rows_are_counted_by_what_they_say() -> None:
    metrics = Metrics()
    for workspace, claims in (("a", 3), ("b", 1)):
        for _ in range(claims):
            metrics.apply(row("task.claimed", workspace, task_type="t", priority=50, wait_seconds=0.2))
    task = {"task_type": "t", "priority": 50}
    metrics.apply(row("task.retried", **task, reason="lease_expired"))
    metrics.apply(row("task.dead_lettered", **task, reason="agent_offline"))
    metrics.apply(row("task.retried", **task, reason="failed"))
    metrics.apply(row("task.requeued", **task, reason="not_delivered"))
    metrics.apply(row("policy.violation", violation_type="region", enforcement="hard"))
    metrics.apply(row("retention.tasks_removed", task_ids=["1", "2", "3"]))
    metrics.apply(row("retention.runs_removed", run_ids=["1"]))
    metrics.apply(row("schedule.fired", run="r", due=1, late=False))
    for reason in SkipReason:
        metrics.apply(row("schedule.skipped", first=1, last=2, reason=reason.value))
    for status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.COMPLETED):
        metrics.apply(row("workflow.run_started", run_id="r", workflow="w", version=1))
        metrics.apply(row("workflow.run_ended", run_id="r", workflow="w", status=status.value))
    values = metrics.values
    outcomes = {(outcome,): 1.0 for outcome in ("started", *SkipReason)}
    assert values["aragora_cp_schedule_runs_total"] == outcomes
    assert values["aragora_cp_workflow_runs_started_total"] == {(): 3.0}
    assert values["aragora_cp_workflow_runs_ended_total"] == {("completed",): 2.0, ("failed",): 1.0}
    (family,) = [family for family in FAMILIES if family.name == "aragora_cp_schedule_runs_total"]
    assert {(known,) for known in family.known} == outcomes.keys()
    assert values["aragora_cp_tasks_claimed_total"] == {("a",): 3.0, ("b",): 1.0}
    lost = {("lease_expired",): 1.0, ("agent_offline",): 1.0, ("not_delivered",): 1.0}
    assert values["aragora_cp_leases_lost_total"] == lost
    assert values["aragora_cp_policy_violations_total"] == {("region", "hard"): 1.0}
    assert values["aragora_cp_retention_removed_total"] == {("tasks",): 3.0, ("runs",): 1.0}


def test_an_increment_of_an_unknown_metric_is_left_out() -> None:
    metrics = Metrics()
    metrics.merge([Increment(name="aragora_cp_of_a_newer_version_total", labels=())])
    assert not metrics.values


def test_the_names_of_earlier_releases_are_there() -> None:
    """wire.md 3.1 and 3.3; what has no bound there (agent ids, raw paths) has one here."""
    names = {family.name for family in FAMILIES}
    cp = [
        *("agents_registered_total", "agents_active", "agent_heartbeats_total", "agent_health_checks_total"),
        *("tasks_submitted_total", "tasks_completed_total", "tasks_failed_total", "task_duration_seconds"),
        *("task_queue_depth", "task_wait_time_seconds", "deliberations_started_total"),
        *("deliberations_completed_total", "deliberation_duration_seconds", "deliberation_consensus_confidence"),
        *("deliberation_sla_total", "deliberation_agent_count", "policy_decisions_total"),
        *("policy_violations_total", "policy_check_latency_seconds"),
    ]
    http = ["requests_total", "request_duration_seconds", "request_latency_seconds"]
    assert not {*(f"aragora_cp_{name}" for name in cp), *(f"aragora_http_{name}" for name in http)} - names
