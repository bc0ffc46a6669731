"""Reads the logs of a run: several files as one, in order of time, while processes write and rename them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from cluster.telemetry.log_files import older
from cluster.telemetry.log_lines import LoggedRecord, RecordParser

#: Files of one log that are read on: the newest, the one before, to which a process may still write while it is renamed,
#: and one more for a second rename at the same time.
READ_ON = 3


class _OpenFile:
    """A file and what was read of it: a line without its end is kept until the rest is there."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.inode = os.fstat(file.fileno()).st_ino
        self._begun = b""

    def lines(self) -> list[str]:
        *whole, self._begun = (self._begun + self.file.read()).split(b"\n")
        return [line.decode("utf-8", "backslashreplace") for line in whole]


class FollowedLog:
    """One log (``api.log`` with its older half), from its beginning on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: In order of age. While a file is open, no other one has its inode.
        self._files: list[_OpenFile] = []
        self._parser = RecordParser()

    def read(self) -> list[LoggedRecord]:
        """The records that were written since the last call."""
        for path in (older(self._path), self._path):
            self._open(path)
        found = [record for file in self._files for record in self._parser.feed(file.lines())]
        for file in self._files[:-READ_ON]:
            file.file.close()
        del self._files[:-READ_ON]
        return found

    def _open(self, path: Path) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        opened = _OpenFile(file)
        if any(known.inode == opened.inode for known in self._files):
            file.close()
        else:
            self._files.append(opened)

    def close(self) -> None:
        for file in self._files:
            file.file.close()
        self._files.clear()


class MergedLogs:
    """Several logs as one. Records that are read together are in order of time."""

    def __init__(self) -> None:
        self._logs: dict[Path, FollowedLog] = {}

    def add(self, paths: Iterable[Path]) -> None:
        """Follows these logs too; each once."""
        for path in paths:
            self._logs.setdefault(path, FollowedLog(path))

    def read(self, trace: str | None = None) -> Sequence[LoggedRecord]:
        """The records since the last call, with ``trace`` those of this request only."""
        found = [
            record for log in self._logs.values() for record in log.read() if trace is None or record.trace == trace
        ]
        return sorted(found, key=lambda record: record.at)

    def close(self) -> None:
        for log in self._logs.values():
            log.close()
