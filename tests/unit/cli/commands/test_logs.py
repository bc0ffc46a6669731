"""``aragora-cp logs`` on the logs of runs that have ended, and of one that goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.embedded.run_logs import Run, begin_run, runs
from cluster.telemetry.log_files import ACTORS, API, REQUESTS, UP, LogFile, older
from cluster.telemetry.log_lines import written
from tests.support.probes import eventually
from tests.support.system import COMMAND, clean_environment

AT = 1_800_000_000.0
Command = Callable[..., tuple[int, list[str], str]]


def log(run: Run, name: str, n: int, trace: str = "", error: str = "", most_bytes: int = 1_000_000) -> None:
    LogFile(run.log(name), most_bytes).append(written(AT + n, "INFO", f"{name}:1", trace, "test", f"line {n}", error))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command; returns its exit code, lines and complaints."""

    def run(data_dir: Path, *words: str) -> tuple[int, list[str], str]:
        monkeypatch.setenv("ARAGORA_DATA_DIR", str(data_dir))
        monkeypatch.setattr(sys, "argv", ["aragora-cp", "logs", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        output, complaints = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, [line.partition("test: line ")[2] or line for line in output.splitlines()], complaints

    return run


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """The first run has lines 0 to 4, the second 5 to 160."""
    first = begin_run(tmp_path / "logs", AT)
    for n in range(5):
        log(first, API, n, "early" if n == 3 else "")
    second = begin_run(tmp_path / "logs", AT + 5)
    for n in range(5, 161):
        log(
            second, (UP, API, REQUESTS, ACTORS)[n % 4], n, "late" if n in (50, 61, 72) else "", "why" if n == 61 else ""
        )
    return tmp_path


def test_the_newest_runs_last_records_are_shown_in_order(two_runs: Path, command: Command) -> None:
    assert command(two_runs) == (0, ["61", "    why", *(str(n) for n in range(62, 161))], "")
    assert command(two_runs, "--lines", "2")[1] == ["159", "160"]
    assert command(two_runs, "--run", "1")[1] == [str(n) for n in range(5)]


def test_a_trace_is_found_in_every_file_and_run_with_its_error(two_runs: Path, command: Command) -> None:
    assert command(two_runs, "--trace", "late") == (0, ["50", "61", "    why", "72"], "")
    assert command(two_runs, "--trace", "early")[1] == ["3"]
    assert command(two_runs, "--trace", "late", "--lines", "1")[1] == ["72"]


def test_runs_are_listed_with_whole_directories(two_runs: Path, command: Command) -> None:
    rows = [line.split() for line in command(two_runs, "--runs")[1]]
    assert rows[0] == ["run", "started", "bytes", "directory"]
    assert [row[0] for row in rows[1:]] == ["2", "1"]
    for row, run in zip(rows[1:], runs(two_runs / "logs"), strict=True):
        assert row[3] == str(run.directory)
        assert int(row[2]) == run.size() > 0
    assert rows[2][1] == "2027-01-15T08:00:00+00:00"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--run", "7"), 1, "The logs of run 7 are not kept; these are: 1, 2."),
        (("--run", "0"), 1, "The logs of run 0 are not kept"),
        (("--trace", "nobody"), 1, "No kept record has the trace id nobody"),
        (("--trace", "early", "--run", "2"), 1, "No kept record has the trace id early"),
        (("--lines", "0"), 2, "--lines"),
        (("--run", "x"), 2, "--run"),
    ],
)
def test_what_is_not_there_is_said(
    two_runs: Path, command: Command, words: tuple[str, ...], code: int, sentence: str
) -> None:
    done, lines, complaints = command(two_runs, *words)
    assert (done, lines) == (code, [])
    assert sentence in " ".join(complaints.split())
    assert "Traceback" not in complaints


def test_a_data_directory_without_logs_is_said(tmp_path: Path, command: Command) -> None:
    code, _, complaints = command(tmp_path / "nowhere")
    assert code == 5
    assert "holds no logs of a run yet; `aragora-cp up` writes them." in " ".join(complaints.split())


def test_a_reader_that_has_enough_is_no_error(two_runs: Path) -> None:
    for n in range(161, 3000):
        log(runs(two_runs / "logs")[0], API, n, error="x" * 50)
    environment = clean_environment(ARAGORA_DATA_DIR=str(two_runs))
    with subprocess.Popen(
        [COMMAND, "logs", "--lines", "3000"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"\n")
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


@asynccontextmanager
async def following(data_dir: Path, *words: str) -> AsyncIterator[list[str]]:
    """What the command has printed so far. It ends as by Ctrl-C."""
    seen: list[str] = []
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "logs",
        "--follow",
        *words,
        env=clean_environment(ARAGORA_DATA_DIR=str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A shell that starts the tests in the background lets them ignore it, and what they start would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    output = process.stdout

    async def read() -> None:
        async for line in output:
            seen.append(line.decode().rstrip("\n").rpartition(" ")[2])

    reading = asyncio.create_task(read())
    try:
        yield seen
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 30)
        await reading
    assert process.returncode == 130
    assert process.stderr is not None
    assert await process.stderr.read() == b""


async def test_following_goes_on_across_renames_and_into_the_next_run(two_runs: Path) -> None:
    async with following(two_runs, "--lines", "1") as seen:
        await eventually(lambda: seen == ["160"])
        for n in range(161, 200):
            log(runs(two_runs / "logs")[0], API, n, most_bytes=4000)
        assert older(runs(two_runs / "logs")[0].log(API)).exists()
        await eventually(lambda: seen == [str(n) for n in range(160, 200)])
        log(begin_run(two_runs / "logs", AT), ACTORS, 200)
        await eventually(lambda: seen[-1] == "200")


def test_logs_cannot_be_read_by_others(two_runs: Path) -> None:
    for path in (two_runs / "logs").rglob("*"):
        assert os.stat(path).st_mode & 0o077 == 0
