"""Writes kuberay/alerts.yaml: the rules of docs/monitoring as a PrometheusRule."""

from __future__ import annotations

import sys
from pathlib import Path

_RULES = Path(__file__).parents[2] / "docs" / "monitoring" / "prometheus-alerts.yaml"
_HEAD = """\
# For the Prometheus operator: the rules of docs/monitoring/prometheus-alerts.yaml. `make docs` writes this file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: aragora-control-plane
  namespace: aragora
  labels:
    app.kubernetes.io/part-of: aragora
spec:
"""


def page() -> str:
    lines = _RULES.read_text().splitlines()
    return _HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
