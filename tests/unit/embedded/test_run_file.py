"""The run file: one system for a data directory, and where it is."""

from __future__ import annotations

import json
import os
import stat

import pytest

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.processes import ProcessId
from cluster.embedded.run_file import RunFile, is_held, only_one, read_run_file


def _run_file(**changes: object) -> RunFile:
    names = ("api_url", "docs_url", "metrics_url", "dashboard_url", "ray_address", "ray_token_path")
    return RunFile(**{**{name: f"http://{name}" for name in names}, **changes})  # type: ignore[arg-type]


def test_only_one_system_runs_on_a_data_directory(layout: Layout) -> None:
    assert read_run_file(layout) is None
    assert not is_held(layout.lock_file)
    with only_one(layout):
        _run_file(api_url="http://127.0.0.1:8080").write(layout)
        assert is_held(layout.lock_file)
        with pytest.raises(EmbeddedError, match=r"http://127\.0\.0\.1:8080"), only_one(layout):
            pass
    assert not is_held(layout.lock_file)
    with only_one(layout):
        pass


def test_a_run_file_reads_back_as_written_and_damage_is_named(layout: Layout) -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    written = _run_file(processes={"up": me.to_json()}, ports={"http": 1})
    written.write(layout)
    assert stat.S_IMODE(layout.run_file.stat().st_mode) == 0o600
    read = read_run_file(layout)
    assert read == written
    assert read.process("up") == me
    assert read.process("ray") is None
    for content in ("{", json.dumps({"nothing": 1}), "[]"):
        layout.run_file.write_text(content)
        with pytest.raises(EmbeddedError, match="damaged"):
            read_run_file(layout)
