"""How the doctor judges clocks, and a machine on which nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.checks.api import skew
from cluster.cli.checks.findings import OK
from cluster.cli.checks.ray import check_ray
from cluster.cli.commands.doctor import examine
from cluster.embedded.layout import Layout
from cluster.embedded.run_file import RunFile
from cluster.settings import load_settings


@pytest.mark.parametrize(
    ("told", "here", "ahead"),
    [
        ((100.0, 101.0), (100.4, 100.5), 0.0),
        ((100.0, 101.0), (100.9, 106.0), 0.0),  # an answer that took long says little
        ((100.0, 100.0), (104.0, 105.0), -4.0),
        ((110.0, 111.0), (104.0, 105.0), 5.0),
        ((100.0, 101.0), (104.0, 105.0), -3.0),
    ],
)
def test_a_clock_is_blamed_only_for_skew_beyond_the_round_trip(
    told: tuple[float, float], here: tuple[float, float], ahead: float
) -> None:
    assert skew(told, here) == ahead


async def test_where_nothing_runs_the_doctor_says_just_how_to_start(tmp_path: Path) -> None:
    settings = load_settings({"ARAGORA_DATA_DIR": str(tmp_path), "ARAGORA_HTTP_PORT": "1"})
    (found,) = await examine(settings)
    assert (found.detail, found.advice) == (f"nothing runs on {tmp_path}", "Start it with `aragora-cp up`.")


async def test_a_system_without_ray_is_not_asked_for_a_dashboard(tmp_path: Path) -> None:
    running = RunFile(
        api_url="http://127.0.0.1:1", docs_url="", metrics_url="", dashboard_url="", ray_address="", ray_token_path=""
    )
    running.write(Layout.of(tmp_path))
    (found,) = await check_ray(load_settings({"ARAGORA_DATA_DIR": str(tmp_path)}))
    assert (found.level, found.detail) == (OK, "API and actors run without it (up --without-ray)")
