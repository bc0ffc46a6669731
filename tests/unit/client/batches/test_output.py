"""The output file of a batch: each result once, nothing of somebody else overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.client.batches.output import Output, opened
from cluster.domain.base.errors import Conflict, InvalidRequest


def _entry(key: str, status: str = "decided", **more: Any) -> dict[str, Any]:
    return {"line": 1, "key": key, "status": status, "result": {"agent_calls": 3, "total_tokens": 9}, **more}


def _written(path: Path, *keys: str) -> None:
    with opened(path, resume=True) as output:
        for key in keys:
            output.write(_entry(key))


def test_a_finished_item_is_taken_once_for_each_occurrence(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    _written(path, "a", "b", "a")
    with opened(path, resume=True) as output:
        assert [output.take(key) for key in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
        assert (output.summary.items, output.summary.calls, output.summary.tokens) == (3, 9, 27)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out.jsonl"
    _written(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with opened(path, resume=True) as output:
        assert output.torn
        assert [output.take("a"), output.take("b")] == [True, False]
        output.write(_entry("b"))
    assert path.read_bytes() == whole


def test_an_output_is_never_overwritten_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    _written(path, "a")
    with pytest.raises(Conflict, match="--resume"), opened(path, resume=False):
        pass
    with opened(path, resume=True), pytest.raises(Conflict, match="Another batch"), opened(path, resume=True):
        pass
    assert path.read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"words\n", b'{"key": []}\n'])
def test_a_file_that_no_batch_wrote_is_left_alone(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(line)
    with pytest.raises(InvalidRequest, match="line 1"), opened(path, resume=True):
        pass
    assert path.read_bytes() == line


def test_text_that_cannot_be_encoded_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with opened(path, resume=False) as output:
        output.write(_entry("a", answer="\ud800 ä\n"))
    assert path.read_bytes().count(b"\n") == 1
    assert isinstance(json.loads(path.read_bytes()), dict)
    assert isinstance(output, Output)
