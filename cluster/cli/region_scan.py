"""Markers for ``aragora-cp region scan-residency``, and the process that looks for them.

The search is a process of its own (`regions.scanner`): the command line is below that room, and markers come to it by standard
input, which no list of processes shows.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cluster.cli.database import opened_pool
from cluster.domain.base.errors import Conflict, InvalidRequest

_MODULE: Final = "regions.scanner"
#: Characters of a sample: shorter ones are in files by chance, and of longer ones the beginning is enough.
SHORTEST_SAMPLE, LONGEST_SAMPLE = 20, 200
_OF_ONE_FIELD: Final = 3
#: Ids, names, numbers and times: other regions may hold these.
_IDENTITY: Final = re.compile(r"[\w.:@/+-]*")
#: No column of PostgreSQL has these in UTF-8.
_ODD: Final = re.compile("[\0\ud800-\udfff]")
#: What the scanner's process ends with if it did its work.
_ENDS: Final = frozenset({0, 1, 5})
_INTERRUPTED: Final = 130


def given_markers(texts: Sequence[str], file: Path | None) -> list[dict[str, str]]:
    """The markers of options and of a file: one of each line, or JSON lines with ``id`` and ``text`` if its name ends so.

    Raises: `InvalidRequest` for a line that is not such JSON; `OSError`, `UnicodeError`."""
    found = [{"id": f"marker {number}", "text": text} for number, text in enumerate(texts, 1)]
    if file is None:
        return found
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            text = line.removesuffix("\r")
            found.append(_of_json(line, number) if file.suffix == ".jsonl" else {"id": f"line {number}", "text": text})
    return found


def _of_json(line: str, number: int) -> dict[str, str]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str) or not isinstance(value.get("id"), str):
        raise InvalidRequest(f'Line {number} is not JSON such as {{"id": "m1", "text": "…"}}.', "invalid_marker")
    return {"id": value["id"], "text": value["text"]}


async def sampled_markers(zone: str, most: int) -> list[dict[str, str]]:
    """Texts that the newest resident tasks of a zone hold, from this region's own database. They are known by the task's id.

    Raises: `Conflict` (``no_samples``) if there are none here; `SettingsError`, `StoreUnavailable`."""
    from cluster.postgres.residency_samples import resident_texts  # the other commands load no driver

    async with opened_pool() as pool:
        rows = await resident_texts(pool, zone, most)
    found = [
        {"id": f"{task_id} {field} {number}", "text": text}
        for task_id, field, stored in rows
        for number, text in enumerate(_samples(json.loads(stored)), 1)
    ]
    if not found:
        raise Conflict(
            f"No task that is resident in {zone} has a text of {SHORTEST_SAMPLE} characters here; run this at a region of the "
            "zone that has some, or give --marker or --markers.",
            "no_samples",
        )
    return found


def _samples(value: Any) -> Iterable[str]:
    """The longest texts in a JSON value that no region outside may hold."""
    texts = {text[:LONGEST_SAMPLE] for text in _texts(value) if len(text) >= SHORTEST_SAMPLE}
    words = (text for text in texts if not _IDENTITY.fullmatch(text) and _ODD.search(text) is None)
    return sorted(words, key=lambda text: (-len(text), text))[:_OF_ONE_FIELD]


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def scanned(markers: Sequence[dict[str, str]], paths: Sequence[Path]) -> dict[str, Any]:
    """The report of the scanner's process.

    Raises: `InvalidRequest` for markers that cannot be looked for; `KeyboardInterrupt`; `RuntimeError` if the process fails."""
    asked = json.dumps({"markers": markers, "paths": [str(path.absolute()) for path in paths]})
    process = subprocess.run(
        [sys.executable, "-P", "-m", _MODULE], input=asked, capture_output=True, text=True, check=False
    )
    if process.returncode == _INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode == 2:
        raise InvalidRequest(process.stderr.strip(), "invalid_marker")
    if process.returncode not in _ENDS:
        raise RuntimeError(f"The scanner ended with {process.returncode}: {process.stderr.strip()[-2000:]}")
    report: dict[str, Any] = json.loads(process.stdout)
    return report
