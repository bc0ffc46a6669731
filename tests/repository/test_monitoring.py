"""The dashboard and the alerts ask for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from cluster.domain.metric_families import FAMILIES, Family
from scripts.docs.metrics_page import page, rules
from tests.support.docs import ROOT

_SELECTOR = re.compile(r"\b(aragora_[a-z0-9_]+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\bby \(([a-z_, ]+)\)")


def _dashboard() -> Iterator[str]:
    for panel in json.loads((ROOT / "docs" / "dashboards" / "control-plane.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


EXPRESSIONS = [*_dashboard(), *(rule["expr"] for rule in rules())]


def _series(family: Family) -> set[str]:
    """Names under which a family is scraped."""
    if family.kind == "histogram":
        return {f"{family.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
    return {family.name}


SERIES = {name: family for family in FAMILIES for name in _series(family)}


def _problems(expression: str) -> list[str]:
    found = []
    for name, selector in _SELECTOR.findall(expression):
        family = SERIES.get(name)
        if family is None:
            found.append(f"{name} does not exist")
            continue
        labels = set(re.findall(r"([a-z_]+)\s*[=!]", selector)) | {
            label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")
        }
        unknown = labels - {*family.labels, "le"}
        found += [f"{name} has no label {label}" for label in sorted(unknown)]
        if family.kind == "counter" and not re.search(rf"(rate|increase)\({name}", expression):
            found.append(f"{name} is a counter: its value alone says nothing")
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_exists(expression: str) -> None:
    assert not _problems(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "sum(rate(aragora_cp_tasks_submited_total[5m]))",
        "sum by (agent) (rate(aragora_cp_tasks_completed_total[5m]))",
        'aragora_cp_agent_health_checks_total{status="unhealthy"} > 0',
        "aragora_cp_task_duration_seconds > 1",
    ],
)
def test_a_wrong_expression_is_found(expression: str) -> None:
    assert _problems(expression)


def test_the_guides_metrics_are_on_the_dashboard() -> None:
    text = " ".join(_dashboard())
    assert not [name for name in _GUIDE if name not in text]


_GUIDE = (
    "aragora_cp_agents_active",
    "aragora_cp_tasks_submitted_total",
    "aragora_cp_task_duration_seconds",
    "aragora_cp_deliberation_duration_seconds",
    "aragora_cp_deliberation_sla_total",
    "aragora_http_requests_total",
    "aragora_http_request_duration_seconds",
)


def test_the_guides_four_alerts_are_there() -> None:
    names = [rule["alert"] for rule in rules()]
    assert not {"ControlPlaneDown", "HighTaskLatency", "AgentUnhealthy", "SLAViolation"} - set(names)
    assert len(names) == len(set(names))


def test_every_metric_and_alert_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == page(), "run make docs"
    metrics, alerts = text.split("## Alerts")
    assert re.findall(r"^\| `(aragora_\w+)`", metrics, re.M) == [family.name for family in FAMILIES]
    assert re.findall(r"^\| \[`(\w+)`\]", alerts, re.M) == [rule["alert"] for rule in rules()]


def test_pages_name_no_metric_that_is_not_there() -> None:
    for path in [*(ROOT / "docs").glob("**/*.md"), ROOT / "README.md"]:
        named = set(re.findall(r"\baragora_(?:cp|http)_\w+", path.read_text()))
        assert not named - SERIES.keys() - {family.name for family in FAMILIES}, path.name


def test_the_dashboard_is_well_formed() -> None:
    dashboard = json.loads((ROOT / "docs" / "dashboards" / "control-plane.json").read_text())
    assert dashboard["uid"] == "aragora-cp-001"
    assert len(dashboard["panels"]) <= 24
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in (panel["gridPos"] for panel in dashboard["panels"]):
        cells = {(panel["x"] + i, panel["y"] + j) for i in range(panel["w"]) for j in range(panel["h"])}
        assert panel["x"] + panel["w"] <= 24
        assert not taken & cells, "two panels overlap"
        taken |= cells
