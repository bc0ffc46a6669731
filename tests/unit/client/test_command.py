"""``aragora-worker``: wrong usage is one sentence, and what is right becomes a worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aragora_worker.command import main
from aragora_worker.worker import Worker

MODULE = """
from aragora_worker import Job, Worker

def double(job: Job) -> int:
    return job.payload * 2

handlers = {"double": double}
empty = {}
odd = {"double": 5}
number = 5
worker = Worker("w")
"""


@pytest.fixture(autouse=True)
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "light_jobs.py").write_text(MODULE)
    (tmp_path / "odd_worker.py").write_text("from aragora_worker import Worker\nworker = Worker('w', drain_s=-1)\n")
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "light_jobs", raising=False)
    monkeypatch.setenv("ARAGORA_API_URL", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required"),
        (["run"], "the following arguments are required: target"),
        (["run", "light_jobs"], "write it as module:name"),
        (["run", "no_such_module:f"], "cannot be loaded: No module named"),
        (["run", "light_jobs:none"], "cannot be loaded: module"),
        (["run", "odd_worker:worker"], "drain_s of a worker must be"),
        (["run", "light_jobs:number"], "is a int; name a function"),
        (["run", "light_jobs:empty"], "is a dict; name a function"),
        (["run", "light_jobs:odd"], "is a dict; name a function"),
        (["run", "light_jobs:worker", "--queues", "q", "--concurrency", "2"], "without --concurrency and --queues"),
        (["run", "light_jobs:handlers", "--task-types", "x"], "leave --task-types out"),
        (["run", "light_jobs:double", "--concurrency", "0"], "concurrency of a worker must be"),
        (["run", "light_jobs:double", "--concurrency", "x"], "invalid int value"),
        (["run", "light_jobs:double", "--drain-seconds", "nan"], "drain_s of a worker must be"),
        (["run", "light_jobs:double", "--agent-id", "a b"], "agent_id must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_answered_by_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_bad_setting_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ARAGORA_WORKER_CONCURRENCY", "none")
    with pytest.raises(SystemExit) as ended:
        main(["run", "light_jobs:double"])
    assert ended.value.code == 5
    assert capsys.readouterr().err.startswith("error: ARAGORA_WORKER_CONCURRENCY=none is not accepted")


@pytest.mark.parametrize(
    ("words", "claimed"),
    [
        (["light_jobs:handlers"], {"task_types": ["double"]}),
        (["light_jobs:double"], {}),
        (["light_jobs:double", "--task-types", "b, a", "--queues", "q"], {"task_types": ["a", "b"], "queues": ["q"]}),
        (["light_jobs:double", "--version", "1.4"], {"version": "1.4"}),
        (["light_jobs:worker"], {}),
    ],
    ids=["handlers", "function", "types and queue", "version", "worker"],
)
def test_a_target_becomes_the_handlers_of_a_worker(
    words: list[str], claimed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Worker] = []
    monkeypatch.setattr(Worker, "run_forever", lambda worker: started.append(worker))
    main(["run", *words])
    assert started[0]._session._narrowed() == claimed


def test_the_package_can_be_run_as_a_module() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "aragora_worker", "run", "--help"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0
    assert "module:name" in ran.stdout
