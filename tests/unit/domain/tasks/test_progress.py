"""What a holder may report, and what two reports of one attempt are together."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.tasks.progress import (
    MAX_CHECKPOINT_BYTES,
    MAX_MESSAGE_CHARS,
    Progress,
    ProgressReport,
    checked_progress,
    stored_records,
)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, None),
        ({"percent": 0}, Progress(percent=0.0)),
        ({"percent": 100, "message": ""}, Progress(percent=100.0, message="")),
        ({"message": "é" * MAX_MESSAGE_CHARS}, Progress(message="é" * MAX_MESSAGE_CHARS)),
        ({"checkpoint": False}, Progress(checkpoint_json="false")),
        ({"checkpoint": {"at": [1, "é"]}}, Progress(checkpoint_json='{"at":[1,"é"]}')),
        (
            {"checkpoint": "x" * (MAX_CHECKPOINT_BYTES - 2)},
            Progress(checkpoint_json=f'"{"x" * (MAX_CHECKPOINT_BYTES - 2)}"'),
        ),
    ],
    ids=["nothing", "zero", "end", "longest_message", "false", "object", "largest_checkpoint"],
)
def test_what_can_be_stored_is_kept(given: dict[str, Any], kept: Progress | None) -> None:
    assert checked_progress(**given) == kept


@pytest.mark.parametrize(
    ("given", "says"),
    [
        *(({"percent": odd}, "0 to 100") for odd in (-0.1, 100.1, math.nan, math.inf, 10**400, True, "5")),
        ({"message": "x" * (MAX_MESSAGE_CHARS + 1)}, "1000 characters"),
        ({"message": 5}, "must be a text"),
        ({"message": "\x00"}, "cannot be stored"),
        ({"checkpoint": "é" * (MAX_CHECKPOINT_BYTES // 2)}, "16384 bytes"),
        ({"checkpoint": [math.nan]}, "NaN"),
        ({"checkpoint": {1: 2}}, "texts as keys"),
        ({"checkpoint": "\ud800"}, "cannot be stored"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_stored_is_refused_with_a_reason(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        checked_progress(**given)


def test_what_a_report_leaves_out_stays_as_it_was() -> None:
    first = Progress(percent=1.0, message="one", checkpoint_json="1")
    assert first.followed_by(Progress()) == first
    assert first.followed_by(Progress(percent=2.0)) == Progress(percent=2.0, message="one", checkpoint_json="1")
    assert Progress(message="one").followed_by(Progress(checkpoint_json="2")) == Progress(
        message="one", checkpoint_json="2"
    )


def test_a_commit_has_one_row_for_each_workspace() -> None:
    reports = [
        ProgressReport(workspace=workspace, task_id=task_id, attempt=1, at=at, progress=Progress(message="secret"))
        for workspace, task_id, at in (("v", "t2", 5.0), ("w", "t3", 6.0), ("v", "t1", 4.0))
    ]
    rows = [(row.kind, row.workspace, row.entity, row.at, row.data, row.private) for row in stored_records(reports)]
    assert rows == [
        ("progress.stored", "v", "v", 5.0, {"task_ids": ["t1", "t2"]}, None),
        ("progress.stored", "w", "w", 6.0, {"task_ids": ["t3"]}, None),
    ]
