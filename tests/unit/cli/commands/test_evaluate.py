"""``aragora-cp evaluate``: its forms of output and its errors."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.cli.main import app
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.evaluation.modes import MODES
from tests.support.recorded import AGENTS, write_recorded


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_recorded(tmp_path)
    return tmp_path


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def _json(*arguments: str | Path) -> dict[str, Any]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_json_has_a_row_per_panel_and_mode(files: Path) -> None:
    report = _json("--votes", files / "votes.jsonl", "--panels", files / "panels.json")
    assert [(row["panel"], row["mode"]) for row in report["rows"]] == [(p, m) for p in ("ALL", "PAIR") for m in MODES]
    for row in report["rows"]:
        assert {"panel", "mode", "accuracy", "coverage", "calls_per_question", "ece", "brier", "n"} <= set(row)
        assert 0 <= row["accuracy"] <= 1
        assert row["vs_plurality"]["low"] <= row["vs_plurality"]["mean"] <= row["vs_plurality"]["high"]
    assert report["n_calibration"] + report["n_test"] == 400
    by_mode = {row["mode"]: row for row in report["rows"] if row["panel"] == "ALL"}
    assert by_mode["best_single"]["applied"] == "good"
    assert by_mode["plurality"]["calls_per_question"] == 4
    assert by_mode["agree_k"]["calls_per_question"] < 4


def test_the_same_seed_gives_the_same_figures(files: Path) -> None:
    arguments = ("--votes", files / "votes.jsonl", "--panels", files / "panels.json", "--colluders", "1")
    assert _json(*arguments) == _json(*arguments)
    assert _json(*arguments)["collusion"][0]["colluders"] == 1


def test_figures_of_kinds_have_intervals(files: Path) -> None:
    lines = (files / "votes.jsonl").read_text().splitlines()
    named = [lines[0], *(json.dumps({**json.loads(line), "c": "ab"[n % 2]}) for n, line in enumerate(lines[1:]))]
    (files / "named.jsonl").write_text("\n".join(named))
    arguments = ("--votes", files / "named.jsonl", "--panels", files / "panels.json", "--panel", "ALL", "--by-kind")
    found = _json(*arguments)["kinds"]
    assert [(row["mode"], row["kind"]) for row in found if row["kind"] == "(all)"] == [
        (mode, "(all)") for mode in ("learned", "agree_k", "effort_least", "effort_default", "effort_all")
    ]
    assert {row["kind"] for row in found} == {"(all)", "a", "b"}
    for row in found:
        for name in ("accuracy", "calls", "ece", "vs_global"):
            assert row[name]["low"] <= row[name]["high"]
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    printed = _run(*arguments).stdout
    assert "ALL by kind of question" in printed
    assert "weights: own" in printed
    assert "0 of 0" in printed, "no kind has 200 questions, so nothing can be said beyond doubt"


def test_colluders_are_measured_with_weights_of_kinds_too(files: Path) -> None:
    lines = (files / "votes.jsonl").read_text().splitlines()
    named = [lines[0], *(json.dumps({**json.loads(line), "c": "ab"[n % 2]}) for n, line in enumerate(lines[1:]))]
    (files / "named.jsonl").write_text("\n".join(named))
    arguments = (
        "--votes",
        files / "named.jsonl",
        "--panels",
        files / "panels.json",
        "--panel",
        "ALL",
        "--colluders",
        "1",
    )
    without = _json(*arguments)["collusion"]
    found = _json(*arguments, "--by-kind")["collusion"]
    for row, plain in zip(found, without, strict=True):
        assert plain["by_kind"] is plain["effort_default"] is None
        assert {**row, **dict.fromkeys(("by_kind", "by_kind_least", "effort_default"))} == plain
        assert 0 < row["by_kind_least"] <= row["by_kind"] <= 1
        assert 0 < row["effort_default"] <= 1
    persistent, sleeper = found[:2]
    assert persistent["by_kind"] > sleeper["by_kind"], "who colluded before has less weight"
    assert "by kind, least" in _run(*arguments, "--by-kind").stdout
    assert "by kind, least" not in _run(*arguments).stdout


def test_kinds_are_asked_for_where_no_question_has_one(files: Path) -> None:
    result = _run("--votes", files / "votes.jsonl", "--panels", files / "panels.json", "--by-kind")
    assert isinstance(result.exception, InvalidRequest)
    assert result.exception.code == "no_kinds"


def test_table_csv_and_plot_are_written(files: Path) -> None:
    pytest.importorskip("matplotlib")
    result = _run(
        "--votes", files / "votes.jsonl", "--panels", files / "panels.json", "--panel", "ALL",
        "--csv", files / "rows.csv", "--plot", files / "plot.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "best_single (good)" in result.output
    assert "agreement: unanimous" in result.output
    with (files / "rows.csv").open() as file:
        assert [row["mode"] for row in csv.DictReader(file)] == list(MODES)
    assert (files / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_one_sentence_says_what_to_install(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    arguments = ("--votes", files / "votes.jsonl", "--panels", files / "panels.json", "--plot", files / "plot.png")
    result = _run(*arguments)
    assert isinstance(result.exception, InvalidRequest)
    assert "aragora-control-plane[plot]" in str(result.exception)


def test_wrong_usage_is_answered_by_one_sentence(files: Path) -> None:
    votes, panels = files / "votes.jsonl", files / "panels.json"
    (files / "strangers.json").write_text('{"P": ["nobody"]}')
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        ((), "Give --votes"),
        (("--votes", votes), "Give --votes"),
        (("--votes", files / "missing", "--panels", panels), "cannot be read"),
        (("--votes", panels, "--panels", panels), "Line 1"),
        (("--votes", votes, "--panels", files / "strangers.json"), "nobody"),
        (("--votes", votes, "--panels", panels, "--panel", "NONE"), "There is no panel 'NONE'"),
        (("--votes", votes, "--panels", panels, "--csv", files), "cannot be written"),
        (("--replay", panels), "Line 1"),
    ]
    for arguments, message in cases:
        result = _run(*arguments)
        assert result.exit_code != 0
        assert message in str(result.exception) or message in result.output or result.exit_code == 2, arguments


def test_replay_decides_as_the_votes_do_and_measures_more(files: Path) -> None:
    """Weights from the same calibration questions, so that the same questions get the same decisions."""
    (files / "prices.json").write_text(json.dumps(dict.fromkeys(AGENTS, 2.0)))
    report = _json(
        "--replay", files / "replay.jsonl", "--votes", files / "votes.jsonl", "--panels", files / "panels.json",
        "--prices", files / "prices.json",
    )  # fmt: skip
    lines = (files / "votes.jsonl").read_text().splitlines()
    (files / "first.jsonl").write_text("\n".join(lines[:61]))
    rows = {(row["panel"], row["mode"]): row for row in report["rows"]}
    first = _json("--votes", files / "first.jsonl", "--panels", files / "panels.json")
    for row in first["rows"]:
        if row["mode"] in ("plurality", "majority", "unanimous"):
            assert rows[row["panel"], row["mode"]]["accuracy"] == row["accuracy"]
    everybody, waves = rows["ALL", "learned"]["effort"], rows["ALL", "agree_k"]["effort"]
    assert 0 < waves["tokens"] < everybody["tokens"]
    assert waves["cost"] == pytest.approx(waves["tokens"] * 2e-6, rel=1e-3)
    assert 0 < waves["latency_p50_ms"] <= waves["latency_p95_ms"]
