"""Writes docs/metrics.md from the metrics of
``cluster/domain/metric_families.py`` and the rules of docs/monitoring: ``make docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from cluster.domain.metric_families import FAMILIES, NAMED, NAMED_MAX, OTHER, Family

_RULES = Path(__file__).parents[2] / "docs" / "monitoring" / "prometheus-alerts.yaml"

_HEAD = f"""# Metrics and alerts

`make docs` writes this page from `cluster/domain/metric_families.py` and [the alerts](monitoring/prometheus-alerts.yaml). How
Prometheus gets the numbers is in [deployment](deploy.md#metrics-dashboard-alerts).

Counts are of the whole region and all its workspaces, are stored with the cursor up to which the log was counted, and survive
restarts of anything. A histogram is scraped as `…_bucket`, `…_sum` and `…_count`; a caller that accepts OpenMetrics, as
Prometheus does, gets the traces of slow requests with it, as exemplars.

Labels are closed sets, such as states and routes (by their templates), except for those whose values people choose: {{named}}. Of
each of these the {NAMED_MAX} busiest values have series of their own, and the others are `{OTHER}`. A value that becomes busy
starts at 0; the series of the one that it replaces ends.

Gauges of the database and of other actors are measured every 15 s, or more seldom where that takes long, and are left out when
they could not be for two minutes. What has no meaning has no series: those on regions without peers, the certificate without TLS.
With `ARAGORA_ENABLE_METRICS=false` nothing is served or measured.

## Metrics

| Metric | Kind | Labels | What it counts or shows |
|---|---|---|---|
"""

_ALERTS = """
## Alerts

| Alert | When | Severity |
|---|---|---|
"""


def rules() -> list[dict[str, Any]]:
    """The alert rules, in their order."""
    groups = yaml.safe_load(_RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def page() -> str:
    """The whole page."""
    named = ", ".join(f"`{label}`" for label in sorted(NAMED))
    return _HEAD.replace("{named}", named) + "".join(map(_metric, FAMILIES)) + _ALERTS + "".join(map(_alert, rules()))


def _metric(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    return f"| `{family.name}` | {family.kind} | {labels} | {family.help} |\n"


def _alert(rule: dict[str, Any]) -> str:
    lasting = "" if rule["for"] == "0m" else f", for {rule['for']}"
    name, when = rule["alert"], re.sub(r"\{\{ \$(?:labels\.)?(\w+) \}\}", r"*\1*", rule["annotations"]["summary"])
    return f"| [`{name}`](runbooks.md#{name.lower()}) | {when}{lasting} | {rule['labels']['severity']} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
