"""Files of bodies, one JSON object on each line, which are sent in batches of the API's greatest size."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cluster.cli.calls import post_under
from cluster.domain.base.errors import InvalidRequest

#: The API takes 1,000 in one call.
BATCH: Final = 1000
Lines = Annotated[
    Path,
    typer.Argument(help="One JSON object on each line; - is standard input."),
]


def send_lines(file: Path, path: str, name: str, run: str) -> Iterator[dict[str, Any]]:
    """Sends what a file holds, and yields the API's answer to each batch. All lines are read first, so that a bad one sends
    nothing. A repeat of the same file and ``run`` sends the same keys, so that it changes nothing twice.

    Raises: `BadParameter` if there is no such file, `InvalidRequest` if a line is no JSON object, or there is none; `ApiError` if
    the API refuses one.
    """
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"{file} is no file; give one, or - for standard input.")
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    found = [_object(line, number) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not found:
        raise InvalidRequest(f"{file} holds nothing; give one JSON object on each line.", "no_lines")
    for start in range(0, len(found), BATCH):
        yield post_under(_key(run, start, found), path, {name: found[start : start + BATCH]})


def _key(run: str, start: int, found: Sequence[Any]) -> str:
    whole = json.dumps([run, start, found], sort_keys=True, ensure_ascii=False)
    return f"lines-{hashlib.sha256(whole.encode()).hexdigest()[:40]}"


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(f"Line {number} is no JSON object; correct it.", "invalid_line")
    return value
