"""The output: one whole line per finished item, appended in the order in which they finish.

If a kill left half a line, it is dropped when the file is opened again. Its item is asked again, with the same answer.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.domain.base.errors import Conflict, InvalidRequest


class Output:
    """An output file. ``done`` counts the lines of earlier drivers that were not taken yet, by key: an item that occurs twice
    in the input has two lines."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.done: Counter[str] = Counter()
        self.summary = Summary()
        self.torn = False

    def take(self, key: str) -> bool:
        """Whether the output has a line for this occurrence of the item; each line is taken once."""
        if self.done[key] == 0:
            return False
        self.done[key] -= 1
        return True

    def write(self, entry: Mapping[str, Any]) -> None:
        """Appends a line, by one write call, so that other readers see whole lines."""
        line = json.dumps(entry, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        written = os.write(self._descriptor, line)
        while written < len(line):
            written += os.write(self._descriptor, line[written:])
        self.summary.add(entry)

    def load(self) -> None:
        """Reads the lines that earlier drivers finished, and cuts off half a line. Raises: `InvalidRequest` if a line is no
        outcome."""
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    self.torn = True
                    break
                self._count(number, line)
                end += len(line)
        if self.torn:
            os.ftruncate(self._descriptor, end)

    def _count(self, number: int, line: bytes) -> None:
        try:
            entry = json.loads(line)
            self.done[entry["key"]] += 1
            self.summary.add(entry)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidRequest(
                f"{self._path}, line {number}, is not the outcome of an item; was it written by a batch?",
                "invalid_output",
            ) from None


class Summary:
    """Counts of all lines of an output, including those of earlier drivers."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self.calls = 0
        self.tokens = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        self.by_status[str(entry["status"])] += 1
        result = entry.get("result") or {}
        self.calls += int(result.get("agent_calls") or 0)
        self.tokens += int(result.get("total_tokens") or 0)

    @property
    def items(self) -> int:
        return self.by_status.total()


@contextmanager
def opened(path: Path, resume: bool) -> Iterator[Output]:
    """Opens an output for one driver. Raises: `Conflict` if it exists and ``resume`` is not set, or while another driver writes
    it; `InvalidRequest` if it is no output of a batch."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(f"Another batch is writing {path}.", "output_in_use") from None
        output = Output(path, descriptor)
        if os.fstat(descriptor).st_size:
            if not resume:
                raise Conflict(f"{path} exists; go on with it by --resume, or name another file.", "output_exists")
            output.load()
        yield output
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
