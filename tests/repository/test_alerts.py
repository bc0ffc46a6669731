"""Each alert fires and clears, as Prometheus' own promtool sees it; and each has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.docs.metrics_page import rules
from tests.support.docs import ROOT

MONITORING = ROOT / "docs" / "monitoring"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``series``: values minute by minute, as promtool has them (``1x5`` are six). At minute ``quiet`` the alert is not firing,
    at ``fires`` it is, and at ``clears`` it is no more."""

    alert: str
    series: dict[str, str]
    quiet: float
    fires: int
    clears: int
    labels: dict[str, str] = field(default_factory=dict)
    value: str = ""


def _simple(alert: str, series: str, good: str, bad: str, **of: Any) -> Case:
    """Good until minute 5, bad until 21, good again."""
    times = {"quiet": 5, "fires": 20, "clears": 35}
    return Case(alert=alert, series={series: f"{good}x5 {bad}x15 {good}x20"}, **(times | of))


_UP = {"job": "aragora-control-plane", "instance": "i"}
CASES = (
    _simple("ControlPlaneDown", 'up{job="aragora-control-plane", instance="i"}', "1", "0", labels=_UP),
    _simple("StoreUnreadable", "aragora_cp_store_readable", "1", "0"),
    _simple("MetricsIncomplete", "aragora_cp_metrics_complete", "1", "0"),
    Case(
        alert="HighTaskLatency",
        series={
            'aragora_cp_task_duration_seconds_bucket{task_type="t", le="300.0"}': "0x20 60+60x30",
            'aragora_cp_task_duration_seconds_bucket{task_type="t", le="600.0"}': "0+1x20 80+60x30",
            'aragora_cp_task_duration_seconds_bucket{task_type="t", le="+Inf"}': "0+1x20 80+60x30",
        },
        quiet=3,
        fires=12,
        clears=35,
    ),
    Case(
        alert="AgentUnhealthy",
        series={'aragora_cp_agent_health_checks_total{status="timeout"}': "0x5 1+1x10 11x40"},
        quiet=5,
        fires=15,
        clears=40,
    ),
    Case(
        alert="SLAViolation",
        series={'aragora_cp_deliberation_sla_total{level="violated"}': "0x5 2+2x4 10x100"},
        quiet=5,
        fires=12,
        clears=90,
        labels={"level": "violated"},
    ),
    _simple("TasksWait", 'aragora_cp_queue_oldest_seconds{queue="q"}', "10", "1000", labels={"queue": "q"}),
    Case(alert="DeadLetters", series={"aragora_cp_dead_letters": "50x5 61x90"}, quiet=5, fires=8, clears=75),
    _simple("AgentsOffline", 'aragora_cp_agents{status="offline"}', "0", "2", value="2"),
    Case(
        alert="BreakersOpen",
        series={'aragora_cp_breakers{state="open"}': f"0x5 {'1 0 ' * 8} 0x20"},
        quiet=10,
        fires=19,
        clears=32,
    ),
    _simple("WorkflowStuck", "aragora_cp_workflow_stalled_seconds", "100", "90000"),
    Case(
        alert="WorkflowsFail",
        series={'aragora_cp_workflow_runs_ended_total{status="failed"}': "0x5 2+2x4 10x100"},
        quiet=5,
        fires=12,
        clears=90,
    ),
    Case(
        alert="ScheduleMissed",
        series={'aragora_cp_schedule_runs_total{outcome="missed"}': "0x5 1x100"},
        quiet=5,
        fires=12,
        clears=90,
        labels={"outcome": "missed"},
    ),
    _simple("BudgetUsedUp", "aragora_cp_budgets_used_up", "0", "1", value="1"),
    Case(
        alert="SchedulerRereads",
        series={"aragora_cp_scheduler_rereads_total": "0x5 4+4x10 44x20"},
        quiet=5,
        fires=12,
        clears=25,
    ),
    Case(
        alert="CommitsFail",
        series={'aragora_cp_commit_failures_total{sqlstate_class="53"}': "0x5 10+10x10 110x20"},
        quiet=5,
        fires=12,
        clears=25,
        labels={"sqlstate_class": "53"},
    ),
    _simple("LogLag", 'aragora_cp_log_lag_seconds{follower="api"}', "1", "100", labels={"follower": "api"}),
    Case(
        alert="LogCursorDropped",
        series={'aragora_cp_log_cursors_dropped_total{follower="workflows"}': "0x5 1x1600"},
        quiet=5,
        fires=12,
        clears=1500,
        labels={"follower": "workflows"},
    ),
    Case(
        alert="LogHeld",
        series={'aragora_cp_log_unread_rows{reader="workflows"}': "9000x20 60000+1000x30 0x20"},
        quiet=20,
        fires=40,
        clears=60,
        labels={"reader": "workflows"},
        value="79000",
    ),
    _simple("AuditLag", "aragora_audit_lag_seconds", "0", "100"),
    Case(
        alert="TablesGrow",
        series={'aragora_cp_table_bytes{table="log"}': "2000000000+10000000x600 8000000000x1000"},
        quiet=30,
        fires=90,
        clears=1000,
        labels={"table": "log"},
    ),
    Case(
        alert="CertificateEnds",  # the time of the tests begins at 0
        series={"aragora_cp_certificate_not_after_seconds": "605400x30 9999999x10"},
        quiet=5,
        fires=15,
        clears=35,
    ),
    _simple("ReplicationLag", 'aragora_cp_replication_lag_rows{region="b"}', "0", "20000", labels={"region": "b"}),
    _simple("ReplicationSilent", "aragora_cp_replication_silent_seconds", "1", "60"),
    _simple("InSyncAlone", "aragora_cp_region_in_sync", "2", "1"),
    Case(
        alert="ActorMemoryBound",  # quiet with one restart, also between two scrapes
        series={'aragora_cp_actor_memory_restarts_total{actor="a"}': "0x70 1x10 2x100"},
        quiet=78.5,
        fires=90,
        clears=160,
        labels={"actor": "a"},
    ),
    Case(
        alert="ApiMemoryBound",
        series={"aragora_cp_api_memory_replacements_total": "0x70 1x10 2x100"},
        quiet=78.5,
        fires=90,
        clears=160,
    ),
)


def _unit_test(case: Case) -> dict[str, Any]:
    """One test of promtool."""
    (rule,) = [rule for rule in rules() if rule["alert"] == case.alert]
    words = {name: _rendered(text, case) for name, text in rule["annotations"].items()}
    firing = {"exp_labels": {"severity": rule["labels"]["severity"], **case.labels}, "exp_annotations": words}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute * 60:.0f}s", "alertname": case.alert, "exp_alerts": expected}
            for minute, expected in ((case.quiet, []), (case.fires, [firing]), (case.clears, []))
        ],
    }


def _rendered(text: str, case: Case) -> str:
    text = text.replace("{{ $value }}", case.value)
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)


def _promtool(*words: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _failures(directory: Path, cases: Iterable[Case], alerts: str) -> str:
    """Each case has a file of its own with its one rule: promtool evaluates all rules of a file every minute of each test."""
    by_name = {rule["alert"]: rule for group in yaml.safe_load(alerts)["groups"] for rule in group["rules"]}
    files = []
    for case in cases:
        rules_file, test = directory / f"{case.alert}.rules.yaml", directory / f"{case.alert}.test.yaml"
        rules_file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [by_name[case.alert]]}]}))
        content = {"rule_files": [rules_file.name], "evaluation_interval": "30s", "tests": [_unit_test(case)]}
        test.write_text(yaml.safe_dump(content))
        files.append(str(test))
    return _promtool("test", "rules", *files)


def test_every_alert_is_tried_and_no_other() -> None:
    assert [case.alert for case in CASES] == [rule["alert"] for rule in rules()]


@needs_promtool
def test_every_alert_fires_and_clears(tmp_path: Path) -> None:
    assert _failures(tmp_path, CASES, (MONITORING / "prometheus-alerts.yaml").read_text()) == ""


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "right", "wrong"),
    [
        ("AgentUnhealthy", 'increase(NAME{status=~"unhealthy|timeout"}[10m])', 'NAME{status="timeout"}'),
        ("InSyncAlone", "max(aragora_cp_region_in_sync) == 1", "max(aragora_cp_region_in_sync) == 3"),
        ("ActorMemoryBound", "restarts_total[1h])) > 1.5", "restarts_total[1h])) > 1"),
    ],
    ids=["that never clears", "that never fires", "that fires at one restart"],
)
def test_a_wrong_alert_is_found(tmp_path: Path, alert: str, right: str, wrong: str) -> None:
    """The guide's own rule on health checks among them, whose counter never falls."""
    alerts = (MONITORING / "prometheus-alerts.yaml").read_text()
    right, wrong = (each.replace("NAME", "aragora_cp_agent_health_checks_total") for each in (right, wrong))
    assert right in alerts
    cases = [case for case in CASES if case.alert == alert]
    assert "FAILED" in _failures(tmp_path, cases, alerts.replace(right, wrong))


@needs_promtool
def test_prometheus_takes_the_configuration() -> None:
    assert _promtool("check", "config", str(MONITORING / "prometheus.yml")) == ""


def test_every_alert_has_a_runbook_that_says_what_to_do() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert list(sections) == [rule["alert"] for rule in rules()]
    for rule in rules():
        words = sections[rule["alert"]]
        assert all(f"**{word}" in words for word in ("Means:", "Do:", "Ends")), rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"
