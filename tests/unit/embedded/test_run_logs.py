"""The logs of the last runs are kept, private and bounded; those of older ones are deleted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.embedded.run_logs import KEPT, begin_run, bound_output, keep_ray_logs, runs, share_log
from cluster.telemetry.log_files import OWN, older

AT = 1_800_000_000.0


def test_the_newest_runs_are_kept_although_the_clock_is_set_back(tmp_path: Path) -> None:
    made = [begin_run(tmp_path, AT - 1000 * n) for n in range(KEPT + 3)]
    assert [run.number for run in runs(tmp_path)] == list(range(KEPT + 3, 3, -1))
    assert [run.directory.exists() for run in made] == [False] * 3 + [True] * KEPT
    assert runs(tmp_path)[0] == made[-1]
    assert runs(tmp_path / "nowhere") == []


def test_a_run_begins_with_private_logs_that_exist(tmp_path: Path) -> None:
    run = begin_run(tmp_path, AT)
    assert stat.S_IMODE(run.directory.stat().st_mode) == 0o700
    for name in OWN:
        assert stat.S_IMODE(run.log(name).stat().st_mode) == 0o600


def test_what_else_lies_there_stays_and_old_logs_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "000009-odd").mkdir()
    (tmp_path / "postgres.log").write_text("of an earlier build\n")
    run = begin_run(tmp_path, AT)
    before = runs(tmp_path)[1]
    assert before.log("postgres").read_text() == "of an earlier build\n"
    assert run.number == before.number + 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("notes", "000009"))) == [
        "000009-odd",
        "notes",
    ]


def test_the_log_of_an_adopted_store_has_a_name_in_each_run(tmp_path: Path) -> None:
    first = begin_run(tmp_path, AT)
    with first.log("postgres").open("a") as log:
        for _ in range(KEPT + 2):
            run = begin_run(tmp_path, AT)
            share_log(run, "postgres")
            share_log(run, "redis")  # there is none
            log.write(f"run {run.number}\n")
            log.flush()
            assert run.log("postgres").read_text().endswith(f"run {run.number}\n")
            assert not run.log("redis").exists()
    assert not first.directory.exists()


def test_the_output_of_a_store_is_bounded_while_it_writes(tmp_path: Path) -> None:
    run = begin_run(tmp_path, AT)
    program = "import sys\nfor line in sys.stdin: print(line.strip() * 100, flush=True); print('ok', file=sys.stderr, flush=True)"
    with run.log("redis").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, text=True
        )
    assert process.stdin is not None
    assert process.stderr is not None
    for number in range(200):
        process.stdin.write(f"{number:03d}\n")
        process.stdin.flush()
        assert process.stderr.readline() == "ok\n"
        bound_output(run, 10_000)
    process.stdin.close()
    assert process.wait(10) == 0
    process.stderr.close()
    both = older(run.log("redis")).read_text() + run.log("redis").read_text()
    assert len(both) <= 10_000 + 301
    assert both.endswith("199" * 100 + "\n")
    assert "\0" not in both
    assert all(len(line) == 300 for line in both.splitlines()[1:])
    assert stat.S_IMODE(older(run.log("redis")).stat().st_mode) == 0o600


def test_logs_that_processes_bound_themselves_are_left_alone(tmp_path: Path) -> None:
    run = begin_run(tmp_path, AT)
    for name in OWN:
        run.log(name).write_text("x" * 1000)
    bound_output(run, 100)
    assert {run.log(name).stat().st_size for name in OWN} == {1000}


def test_what_rays_processes_said_last_is_kept_within_the_bound(tmp_path: Path) -> None:
    logs = tmp_path / "ray" / "session_2026" / "logs"
    (logs / "serve").mkdir(parents=True)
    (logs / "events").mkdir()
    for number, (name, text) in enumerate(
        {
            "old.out": "o" * 900,
            "raylet.out": "r" * 300_000 + "the end",
            "worker-1.err": ":job_id:01\n:actor_name:ActorHost\n",
            "worker-2.err": ":job_id:01\nFatal Python error: Aborted\n",
            "empty.err": "",
            "serve/proxy.log": "proxy",
            "events/event.log": "event",
        }.items()
    ):
        (logs / name).write_text(text)
        os.utime(logs / name, (AT + number, AT + number))
    (logs / "link.log").symlink_to(logs / "raylet.out")
    run = begin_run(tmp_path / "logs", AT)
    keep_ray_logs(tmp_path / "ray", run, 300_000)
    kept = {path.name: path for path in (run.directory / "ray").rglob("*") if path.is_file()}
    assert set(kept) == {"old.out", "raylet.out", "worker-2.err", "proxy.log"}
    assert kept["raylet.out"].read_text().endswith("the end")
    assert kept["raylet.out"].stat().st_size == 262_144
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.values()} == {0o600}
    other = begin_run(tmp_path / "logs", AT)
    keep_ray_logs(tmp_path / "ray", other, 1000)
    assert {path.name for path in other.directory.rglob("*.*")} - {f"{name}.log" for name in OWN} == {
        "worker-2.err",
        "proxy.log",
    }
    keep_ray_logs(tmp_path / "nowhere", other, 1000)


@pytest.mark.parametrize("size", [0, 1, 5_000])
def test_the_size_of_a_run_is_that_of_its_files(tmp_path: Path, size: int) -> None:
    run = begin_run(tmp_path, AT)
    run.log("ray").write_bytes(b"x" * size)
    assert run.size() == size
