"""Exports: JSON that is read back exactly, and text that no row can break out of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.audit.export import (
    CSV_COLUMNS,
    checkpoint_line,
    csv_cells,
    head_line,
    read_export,
    row_line,
    syslog_line,
)
from cluster.domain.audit.verify import verifiers
from cluster.domain.base.errors import InvalidRequest
from tests.support.audit import a_row, checkpoints_over
from tests.support.samples import NOW

ROWS = [a_row(1), a_row(2, "tâche\u2028\n", words='Say "hi", ünd\nmore.'), a_row(3)]
(CHECKPOINT,) = checkpoints_over(ROWS, 3)
HEAD = head_line("z", 0, NOW)


def exported(words: bool = True) -> list[str]:
    return [HEAD, checkpoint_line(CHECKPOINT), *(row_line(row, words) for row in ROWS)]


def test_an_export_is_read_back_exactly() -> None:
    export = read_export(exported())
    assert export.checkpoints == [CHECKPOINT]
    assert list(export.rows) == ROWS
    assert all("\n" not in line for line in exported())


def test_an_export_without_words_has_none_and_verifies() -> None:
    assert "hi" not in "".join(exported(words=False))
    export = read_export(exported(words=False))
    (verifier,) = verifiers(None, export.checkpoints, None, export.after)
    for row in export.rows:
        verifier.add(row)
    assert verifier.report().valid


def test_an_export_may_begin_after_any_covered_row() -> None:
    export = read_export([head_line("z", 2, NOW), row_line(ROWS[2], True)])
    kept, own = verifiers([CHECKPOINT], export.checkpoints, None, export.after)
    for row in export.rows:
        kept.add(row)
        own.add(row)
    assert kept.report().valid
    assert own.report().valid
    with pytest.raises(InvalidRequest):
        verifiers(None, [], None, 2)


def _changed(**columns: Any) -> str:
    return json.dumps({"row": {**json.loads(row_line(ROWS[0], True))["row"], **columns}})


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1",
        "{}",
        '{"row": 1}',
        "[" * 100_000,
        _changed(seq="1"),
        _changed(seq=True),
        _changed(data="{"),
        _changed(digest="zz"),
        _changed(more=1),
        _changed(entity="\ud800"),
        _changed(data='"\udcff"'),
        _changed(at=10**400),
    ],
)
def test_a_line_that_is_no_row_is_named(line: str) -> None:
    with pytest.raises(InvalidRequest, match="Line 2"):
        list(read_export([HEAD, line]).rows)


@pytest.mark.parametrize("lines", [[], [""], ["{}"], ["null"], ['{"schema_version": "aragora-audit-export/1"}']])
def test_what_is_no_export_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        read_export(lines)


def test_csv_has_every_column_and_no_formula() -> None:
    cells = dict(zip(CSV_COLUMNS, csv_cells(a_row(1, "=1+1", words="Some"), True, None, "ab"), strict=True))
    assert cells["entity"] == "'=1+1"
    assert cells["timestamp"] == "2023-11-14T22:13:21.000000Z"
    assert (cells["previous_hash"], cells["entry_hash"]) == ("", "ab")
    assert "Some" in cells["private"]
    assert csv_cells(a_row(1, words="Some"), False, None, None)[CSV_COLUMNS.index("private")] == ""


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1e300])
def test_a_row_whose_time_was_changed_leaves_as_it_is(at: float) -> None:
    changed = replace(ROWS[0], at=at)
    assert csv_cells(changed, True, None, None)[CSV_COLUMNS.index("timestamp")].lstrip("'") == str(at)
    assert f" {at} " in syslog_line(changed, True, None)


def test_syslog_has_a_header_by_its_standard() -> None:
    line = syslog_line(ROWS[0], True, "ab")
    assert line.startswith(
        '<110>1 2023-11-14T22:13:21.000000Z z aragora-cp - task.submitted [aragora@32473 seq="1" workspace="w" '
    )
    assert line.endswith('entryHash="ab"] \ufeff{"task_type":"echo"}')


def test_no_row_breaks_out_of_its_syslog_line() -> None:
    evil = replace(a_row(1, 'a"] <110>1 forged\n<110>1'), kind="k " + "é" * 40, zone="")
    line = syslog_line(evil, True, None)
    assert "\n" not in line
    assert 'entity="a\\"\\] <110>1 forged <110>1"' in line
    assert line.split(" ")[2:6] == ["-", "aragora-cp", "-", "k" + "_" * 31]
