"""The name of a batch's Ray job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.cli.commands.batch import submission_id


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_the_job_is_named_by_what_it_asks_and_where_it_writes(tmp_path: Path) -> None:
    source, other, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(_line(content="q"))
    other.write_bytes(_line(content="r"))
    job = submission_id(source, out, "")
    assert submission_id(source, out, "") == job
    assert (
        len({job, submission_id(other, out, ""), submission_id(source, source, ""), submission_id(source, out, "r")})
        == 4
    )
