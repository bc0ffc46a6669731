"""How the doctor judges clocks, Ray's authentication and ports, and a machine on which nothing runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.cli.checks.api import skew
from cluster.cli.checks.findings import OK, PROBLEM, Finding
from cluster.cli.checks.ray import check_ports, check_ray
from cluster.cli.commands.doctor import examine
from cluster.embedded.layout import Layout
from cluster.embedded.run_file import RunFile
from cluster.settings import load_settings
from tests.support.servers import serving_app


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


async def _about_ray(tmp_path: Path, asked: str | None, known: str | None) -> Finding:
    """What is said of a dashboard that asks for the token ``asked``, where the token ``known`` is known."""

    async def actors(request: Request) -> Response:
        is_right = asked is None or request.headers.get("authorization") == f"Bearer {asked}"
        return Response(status_code=200 if is_right else 401)

    layout, token = Layout.of(tmp_path), tmp_path / "token"
    if known is not None:
        token.write_text(f"{known}\n")
    async with serving_app(Starlette(routes=[Route("/api/v0/actors", actors)])) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        RunFile(
            api_url="http://127.0.0.1:1",
            docs_url="",
            metrics_url="",
            dashboard_url=f"http://127.0.0.1:{port}",
            ray_address="127.0.0.1:1",
            ray_token_path="" if known is None else str(token),
        ).write(layout)
        found, _ = await check_ray(load_settings({"ARAGORA_DATA_DIR": str(tmp_path)}))
    return found


@pytest.mark.parametrize(
    ("asked", "known", "level", "detail"),
    [
        ("t", "t", OK, "refuses calls without the token"),
        ("t", None, OK, "refuses calls without the token"),
        (None, "t", PROBLEM, "answers 200 without a token"),
        (None, None, PROBLEM, "answers 200 without a token"),
        ("t", "another", PROBLEM, "answers 401 with its token"),
    ],
    ids=["asks", "asks for an unknown token", "is open", "is open, no token", "asks for another token"],
)
async def test_a_ray_that_anybody_may_use_is_a_problem(
    tmp_path: Path, asked: str | None, known: str | None, level: str, detail: str
) -> None:
    found = await _about_ray(tmp_path, asked, known)
    assert (found.check, found.level, found.detail) == ("Ray authentication", level, detail)


async def test_a_token_that_cannot_be_read_is_named_with_its_file(tmp_path: Path) -> None:
    RunFile(
        api_url="http://127.0.0.1:1",
        docs_url="",
        metrics_url="",
        dashboard_url="http://127.0.0.1:1",
        ray_address="127.0.0.1:1",
        ray_token_path=str(tmp_path / "nowhere"),
    ).write(Layout.of(tmp_path))
    (found,) = await check_ray(load_settings({"ARAGORA_DATA_DIR": str(tmp_path)}))
    assert (found.check, found.level) == ("Ray authentication", PROBLEM)
    assert f"{tmp_path}/nowhere" in found.detail


async def test_a_dashboard_that_others_can_reach_is_a_problem() -> None:
    with socket.create_server(("127.0.0.2", 0)) as dashboard:
        port = dashboard.getsockname()[1]
        found = await check_ports(port, ["127.0.0.3", "127.0.0.2"])
        assert (found.level, found.detail) == (PROBLEM, f"the dashboard can be reached at 127.0.0.2:{port}")
        assert (await check_ports(port, ["127.0.0.3"])).level == OK
