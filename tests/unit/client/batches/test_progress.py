"""How a batch shows its progress."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cluster.client.batches.progress import Pace, progress


def test_a_pipe_gets_plain_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file)
        with progress(console, Pace(3, 1)) as shown:
            shown("decided")
            shown("refused")
    first, last = (tmp_path / "log").read_text().splitlines()
    assert first.startswith("1 of 3 items, no estimate yet")
    assert last.startswith("3 of 3 items")
    assert "1 failed" in last


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, force_terminal=True, width=120)
        with progress(console, Pace(2, 0)) as shown:
            shown("decided")
            shown("decided")
    assert "2/2" in (tmp_path / "log").read_text()
