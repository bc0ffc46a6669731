"""Rows of the log as they leave: JSON that can be verified, CSV for people, syslog (RFC 5424) for collectors.

An export in JSON is a text of lines: a head, the checkpoints in order, the rows in order. ``data`` and ``private`` are the stored
texts, because digests are made of those.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.domain.audit.checkpoint import Checkpoint, parse_checkpoint
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import LogRow

SCHEMA_VERSION = "aragora-audit-export/1"

#: Column of a row → its type in an export.
_COLUMNS: Mapping[str, type | tuple[type, ...]] = {
    "seq": int,
    "epoch": int,
    "at": (int, float),
    "workspace": str,
    "kind": str,
    "entity": str,
    "attempt": (int, type(None)),
    "principal": str,
    "cause": str,
    "zone": str,
    "data": str,
    "private": (str, type(None)),
    "private_digest": (str, type(None)),
    "digest": str,
    "v": int,
}
CSV_COLUMNS = (
    *("seq", "timestamp", "workspace", "kind", "entity", "attempt", "principal", "cause", "epoch", "zone", "data"),
    *("private", "digest", "previous_hash", "entry_hash"),
)
#: What a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Facility 13 (log audit) with severity 6 (informational).
_PRIORITY = 13 * 8 + 6
#: The number that RFC 5612 keeps for descriptions: the control plane has none of its own.
_STRUCTURE = "aragora@32473"
_HOST_CHARS, _MESSAGE_ID_CHARS = 255, 32


def timestamp(at: float) -> str:
    """Epoch seconds as ISO 8601 in UTC; the number itself if it is no time, as somebody may have changed a row so."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(at)


def head_line(zone: str, after: int, at: float) -> str:
    """The first line of an export of the rows after ``after``."""
    return json.dumps({"schema_version": SCHEMA_VERSION, "zone": zone, "after": after, "at": at})


def checkpoint_line(checkpoint: Checkpoint) -> str:
    return f'{{"checkpoint":{checkpoint.text()}}}'


def row_line(row: LogRow, words: bool) -> str:
    """``words``: whether the private part goes along. Without it the row still verifies."""
    columns = {
        name: getattr(row, name) for name in _COLUMNS if name not in ("data", "private", "private_digest", "digest")
    }
    columns |= {
        "data": row.data_json,
        "private": row.private_json if words else None,
        "private_digest": None if row.private_digest is None else row.private_digest.hex(),
        "digest": row.digest.hex(),
    }
    return json.dumps({"row": columns}, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Export:
    """An export that is being read. ``rows`` can be read once, and raises `InvalidRequest` where a line is no row."""

    after: int
    checkpoints: list[Checkpoint]
    rows: Iterator[LogRow]


def read_export(lines: Iterable[str]) -> Export:
    """Raises: `InvalidRequest` if the lines do not begin as an export does, or a checkpoint among them is none."""
    numbered = enumerate(lines, 1)
    head = _line(next(numbered, (1, "")))
    if head.get("schema_version") != SCHEMA_VERSION or not isinstance(head.get("after"), int):
        raise InvalidRequest(
            "This is not an export of the audit; make one with `aragora-cp audit export --format json`.",
            "invalid_export",
        )
    checkpoints: list[Checkpoint] = []
    for line in numbered:
        entry = _line(line)
        if "checkpoint" not in entry:
            return Export(head["after"], checkpoints, _rows(line, numbered))
        try:
            checkpoints.append(parse_checkpoint(json.dumps(entry["checkpoint"])))
        except InvalidRequest as error:
            raise InvalidRequest(f"Line {line[0]} of the export: {error.message}", error.code) from error
    return Export(head["after"], checkpoints, iter(()))


def read_row(line: str) -> LogRow:
    """The row of one line. Raises: `InvalidRequest` if it has none."""
    return _row((1, line))


def _rows(first: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[LogRow]:
    yield _row(first)
    for line in rest:
        yield _row(line)


def _line(line: tuple[int, str]) -> dict[str, Any]:
    number, text = line
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidRequest(f"Line {number} of the export is not a JSON object.", "invalid_export")
    return found


def _row(line: tuple[int, str]) -> LogRow:
    found = _line(line).get("row")
    try:
        if not isinstance(found, dict) or set(found) != set(_COLUMNS):
            raise ValueError(f"a row must have exactly {', '.join(_COLUMNS)}")
        for name, kind in _COLUMNS.items():
            if not isinstance(found[name], kind) or isinstance(found[name], bool):
                raise ValueError(f"{name} has the wrong type")
            if isinstance(found[name], str):
                found[name].encode()
        float(found["at"])
        hashed = found["private_digest"]
        return LogRow(
            **{name: found[name] for name in _COLUMNS if name not in ("data", "private", "private_digest", "digest")},
            data=json.loads(found["data"]),
            data_json=found["data"],
            private_json=found["private"],
            private_digest=None if hashed is None else bytes.fromhex(hashed),
            digest=bytes.fromhex(found["digest"]),
        )
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"Line {line[0]} of the export is not a row: {error}.", "invalid_export") from error


def csv_cells(row: LogRow, words: bool, previous_hash: str | None, entry_hash: str | None) -> list[str]:
    """The cells of a row, in the order of ``CSV_COLUMNS``. Before a text that a spreadsheet would compute stands a quote."""
    values = {
        "seq": row.seq,
        "timestamp": timestamp(row.at),
        "data": row.data_json,
        "private": row.private_json if words else None,
        "digest": row.digest.hex(),
        "previous_hash": previous_hash,
        "entry_hash": entry_hash,
    }
    return [csv_cell(values[name] if name in values else getattr(row, name)) for name in CSV_COLUMNS]


def csv_line(cells: Sequence[str]) -> str:
    """Cells as a line, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def csv_cell(value: Any) -> str:
    """A value as a cell. Before a text that a spreadsheet would compute stands a quote."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def syslog_line(row: LogRow, words: bool, entry_hash: str | None) -> str:
    """A row as RFC 5424 has it: its columns as structured data, its data and words as the message."""
    columns = {
        "seq": row.seq,
        "workspace": row.workspace,
        "entity": row.entity,
        "attempt": row.attempt,
        "principal": row.principal,
        "cause": row.cause,
        "epoch": row.epoch,
        "digest": row.digest.hex(),
        "entryHash": entry_hash,
    }
    structure = "".join(
        f' {name}="{_escaped(str(value))}"' for name, value in columns.items() if value not in (None, "")
    )
    message = row.data_json if not words or row.private_json is None else f"{row.data_json} {row.private_json}"
    host, kind = _header(row.zone, _HOST_CHARS), _header(row.kind, _MESSAGE_ID_CHARS)
    return f"<{_PRIORITY}>1 {timestamp(row.at)} {host} aragora-cp - {kind} [{_STRUCTURE}{structure}] \ufeff{_one_line(message)}"


def _header(text: str, most: int) -> str:
    """A field of the header: printable ASCII without spaces."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text[:most]) or "-"


def _escaped(text: str) -> str:
    return _one_line(text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]"))


def _one_line(text: str) -> str:
    """Control characters would end the line, or forge another one."""
    return "".join(char if char.isprintable() else " " for char in text)
