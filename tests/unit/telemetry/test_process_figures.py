"""Figures of processes of one kind are shown together, of those that are heard of."""

from __future__ import annotations

from typing import Any

from cluster.telemetry.process_figures import SHOWN_S, ProcessFigures, ShownFigures

NOW = 1_000.0


def figures(process: str, kind: str = "api", **of: Any) -> ProcessFigures:
    usual = {"in_use": 1, "idle": 2, "free": 13, "loop_lag_s": 0.1}
    return ProcessFigures(kind=kind, process=process, **(usual | of))


def test_processes_of_a_kind_are_shown_together() -> None:
    shown = ShownFigures()
    shown.take(figures("api:1", log_lag_s=0.5, not_after=50.0), NOW)
    shown.take(figures("api:2", in_use=3, loop_lag_s=0.7, log_lag_s=0.2, not_after=40.0), NOW)
    shown.take(figures("api:2", in_use=4, loop_lag_s=0.2, log_lag_s=0.2, not_after=40.0), NOW + 1)
    shown.take(figures("s", "scheduler"), NOW)
    gauges = shown.gauges(NOW + 2)
    connections = gauges["aragora_cp_store_connections"]
    assert connections[("api", "in_use")] == 5
    assert connections[("scheduler", "in_use")] == 1
    assert gauges["aragora_cp_loop_lag_seconds"] == {("api",): 0.2, ("scheduler",): 0.1}
    assert gauges["aragora_cp_log_lag_seconds"] == {("api",): 0.5}
    assert gauges["aragora_cp_certificate_not_after_seconds"] == {(): 40.0}


def test_a_process_that_ended_is_shown_no_more() -> None:
    shown = ShownFigures()
    shown.take(figures("api:1", not_after=1.0), NOW)
    shown.take(figures("api:2"), NOW + SHOWN_S)
    gauges = shown.gauges(NOW + SHOWN_S + 1)
    assert gauges["aragora_cp_store_connections"][("api", "in_use")] == 1
    assert gauges["aragora_cp_certificate_not_after_seconds"] == {}
