#!/usr/bin/env bash
# Subject: Prometheus 2.42.0 (Debian's package `prometheus`), and promtool of the same package.
# A good guess: `increase(restarts_total[1h]) > 1` is true from the second restart within an hour on, and a unit test of promtool with
# one restart, asked for a time between two scrapes, would show it if it were not.
# Behaviour seen: one restart is enough. `increase` extrapolates to both ends of the window: samples span 59 of its 60 minutes
# whenever it does not begin at one, so that a rise of 1 comes to 1.017. promtool hides that: it evaluates rules only at multiples of
# `evaluation_interval` (1m, as the scrapes), where the window does begin at a sample, and answers `eval_time: 78m30s` with the state of
# 78m. With an interval of 30s the same test fails. `> 1.5` says what is meant.
# Output seen:
#   evaluated each 1m: SUCCESS
#   evaluated each 30s: FAILED
set -euo pipefail
command -v promtool >/dev/null || { echo "promtool is not installed (apt-get install prometheus)"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/rules.yaml" <<'YAML'
groups:
  - name: g
    rules:
      - alert: RestartedTwice
        expr: increase(restarts_total[1h]) > 1
YAML
for interval in 1m 30s; do
    cat > "$dir/test.yaml" <<YAML
rule_files: [rules.yaml]
evaluation_interval: $interval
tests:
  - interval: 1m
    input_series:
      - {series: restarts_total, values: 0x70 1x60}
    alert_rule_test:
      - {eval_time: 78m30s, alertname: RestartedTwice, exp_alerts: []}
YAML
    said=$(promtool test rules "$dir/test.yaml" 2>&1 || true)
    echo "evaluated each $interval: $(grep -o 'SUCCESS\|FAILED' <<<"$said" | head -1)"
done
