"""Writes docs/metrics.md from the metrics of ``cluster/domain/metrics.py`` and the rules of docs/alerts: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from cluster.domain.metrics import FAMILIES, LABEL_VALUES_MAX, OTHER, Family

_RULES = Path(__file__).parents[2] / "docs" / "alerts" / "prometheus-alerts.yaml"

_HEAD = f"""# Metrics and alerts

`make docs` writes this page from `cluster/domain/metrics.py` and [the alerts](alerts/prometheus-alerts.yaml). How
Prometheus gets the numbers is in [deployment](deploy.md#metrics-dashboard-alerts).

Counts are of the whole region and all its workspaces, are stored with the cursor up to which the log was counted, and survive
restarts of anything. When a metric has {LABEL_VALUES_MAX} series, further values of its labels are counted as `{OTHER}`.
A histogram is scraped as `…_bucket`, `…_sum` and `…_count`.

## Metrics

| Metric | Kind | Labels | What it counts or shows |
|---|---|---|---|
"""

_ALERTS = """
## Alerts

| Alert | When | What to do |
|---|---|---|
"""

#: What to do about each alert. A rule without an entry here ends `make docs`.
_ADVICE = {
    "ControlPlaneDown": ("`aragora-cp doctor` says what of the API does not answer. Counts are not lost."),
    "StoreUnreadable": (
        "PostgreSQL hangs or is away, and so are most calls; the other metrics are as they were last known. Nothing "
        "acknowledged is lost."
    ),
    "MetricsIncomplete": (
        "the telemetry actor is away, which restarts by itself: `aragora-cp doctor` and its log say why it does not. Counts are "
        "not lost."
    ),
    "HighTaskLatency": (
        "see which types are slow on the dashboard, then `aragora-cp tasks explain ID` of one of them: a slow agent, or an "
        "attempt that is repeated."
    ),
    "AgentUnhealthy": "`aragora-cp agents list` marks the agents whose endpoints fail; `agents show ID` has the last error.",
    "SLAViolation": "see which members answer late in `aragora-cp deliberations show ID`; take faster ones, or more time.",
    "SchedulerRereads": "a commit fails each time, and nothing is scheduled meanwhile: `aragora-cp logs` says why; report it.",
    "CommitsFail": (
        "the class of the SQLSTATE says why: 53 no disk space or connections, 57 ended or timed out, 22 and 23 data that "
        "does not fit, `none` no answer ([troubleshooting](troubleshooting.md))."
    ),
    "ActorMemoryBound": (
        "if `aragora-cp doctor` says that restarts did not help, raise `ARAGORA_ACTOR_MEMORY_MB`; else report a leak with the "
        "actor's log."
    ),
    "ApiMemoryBound": (
        "raise `ARAGORA_API_MEMORY_MB` or start more replicas, if they have many calls and streams; else report a leak with the "
        "API's log ([deployment](deploy.md#a-replica-that-uses-too-much-memory))."
    ),
    "AuditLag": (
        "`/health/detailed` says of the sealer why: a row that was changed, which `aragora-cp audit verify` names "
        "([audit](audit.md)), a sealer that does not run, or a database that is slow or away."
    ),
}


def rules() -> list[dict[str, Any]]:
    """The alert rules, in their order."""
    groups = yaml.safe_load(_RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def page() -> str:
    """The whole page. Raises: `KeyError` if there is no advice for an alert."""
    return _HEAD + "".join(map(_metric, FAMILIES)) + _ALERTS + "".join(map(_alert, rules()))


def _metric(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    return f"| `{family.name}` | {family.kind} | {labels} | {family.help} |\n"


def _alert(rule: dict[str, Any]) -> str:
    lasting = "" if rule["for"] == "0m" else f", for {rule['for']}"
    return f"| `{rule['alert']}` | {rule['annotations']['summary']}{lasting} | {_ADVICE[rule['alert']]} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
