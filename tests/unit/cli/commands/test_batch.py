"""The name of a batch's Ray job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.cli.commands.batch import submission_id


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_the_job_is_named_by_what_it_asks_and_where_it_writes(tmp_path: Path) -> None:
    one, other, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "out.jsonl"
    one.write_bytes(_line(content="q"))
    other.write_bytes(_line(content="r"))
    job = submission_id(one, out, "")
    assert submission_id(one, out, "") == job
    assert len({job, submission_id(other, out, ""), submission_id(one, one, ""), submission_id(one, out, "r")}) == 4
