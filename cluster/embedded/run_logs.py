"""The logs of one machine's system: a directory for each of the last runs of ``up``, bounded in size.

    logs/000012-20260301T120000Z/   up.log  api.log  requests.log  actors.log  postgres.log  redis.log  ray.log  model.log  ray/

Runs are numbered, since a clock may be set back. The processes of the control plane bound their files themselves
(`cluster.telemetry.log_files`). Those of stores, of Ray and of the model are their output, which they just append to: ``up``
looks after these. Ray's own directory is temporary, so what its processes said last is kept beside, when Ray has ended.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cluster.telemetry.log_files import OWN, older

KEPT: Final = 5
#: Of each of Ray's files only the end is kept.
RAY_FILE_BYTES: Final = 262_144

_NAME: Final = re.compile(r"(\d{6,})-(\d{8}T\d{6}Z)")
_STAMP: Final = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Run:
    """The logs of one run of ``up``. ``started`` is in UTC."""

    number: int
    started: datetime
    directory: Path

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in self.directory.rglob("*") if file.is_file())


def runs(logs: Path) -> list[Run]:
    """The runs that are kept, the newest first."""
    try:
        found = [(_NAME.fullmatch(path.name), path) for path in logs.iterdir()]
    except FileNotFoundError:
        return []
    kept = [Run(int(name[1]), _time(name[2]), path) for name, path in found if name is not None]
    return sorted(kept, key=lambda run: run.number, reverse=True)


def _time(stamp: str) -> datetime:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)  # somebody has renamed the directory


def begin_run(logs: Path, now: float) -> Run:
    """Makes the directory of a new run with empty logs in it, so that a sentence may name them, and deletes the oldest runs.
    Logs from before there were runs become one."""
    strays = [path for path in logs.glob("*.log") if path.is_file()]
    if strays:
        before = _make(logs, max(path.stat().st_mtime for path in strays))
        for path in strays:
            path.rename(before.directory / path.name)
    run = _make(logs, now)
    for name in OWN:
        os.close(os.open(run.log(name), os.O_WRONLY | os.O_CREAT, 0o600))
    for old in runs(logs)[KEPT:]:
        shutil.rmtree(old.directory, ignore_errors=True)
    return run


def _make(logs: Path, at: float) -> Run:
    number = max((run.number for run in runs(logs)), default=0) + 1
    started = datetime.fromtimestamp(at, UTC)
    run = Run(number, started, logs / f"{number:06d}-{started.strftime(_STAMP)}")
    run.directory.mkdir(mode=0o700, parents=True)
    return run


def share_log(run: Run, name: str) -> None:
    """Gives the log of a store that was adopted a name in this run too: its process appends to that of an earlier one."""
    before = next((other for other in runs(run.directory.parent) if other.number < run.number), None)
    if before is not None:
        with suppress(OSError):  # there is none, or the file system has no hard links
            os.link(before.log(name), run.log(name))


def bound_output(run: Run, most_bytes: int) -> None:
    """Bounds what stores, Ray and the model have written: a file that is half of the bound is copied to its older half and
    emptied. Its process goes on at its beginning (O_APPEND), which renaming would not make it do. What it writes during
    the copy is lost."""
    for file in run.directory.glob("*.log"):
        if file.stem not in OWN and not file.stem.endswith(".1"):
            with suppress(OSError):  # the disk is full: then as it is
                if file.stat().st_size > most_bytes // 2:
                    _copy_end(file, older(file), most_bytes // 2)
                    os.truncate(file, 0)


def keep_ray_logs(ray: Path, run: Run, most_bytes: int) -> None:
    """Copies what Ray's processes have logged, the newest files first: why one has ended is often only there."""
    left = most_bytes
    for file in sorted(_ray_files(ray), key=lambda file: file.stat().st_mtime, reverse=True):
        left -= min(file.stat().st_size, RAY_FILE_BYTES)
        if left < 0:
            return
        with suppress(OSError):
            _copy_end(file, run.directory / "ray" / file.relative_to(ray), RAY_FILE_BYTES)


def _ray_files(ray: Path) -> Iterator[Path]:
    """Files that tell something: events are copies, and an idle worker has only written who it is."""
    for session in ray.glob("session_2*/logs"):
        for file in session.rglob("*"):
            is_text = file.is_file() and not file.is_symlink() and "events" not in file.relative_to(session).as_posix()
            if is_text and file.stat().st_size > 0 and not _only_names(file):
                yield file


def _only_names(file: Path) -> bool:
    with file.open("rb") as opened:
        head = opened.read(4096)
    return len(head) < 4096 and all(line.startswith(b":") for line in head.splitlines())


def _copy_end(source: Path, target: Path, most_bytes: int) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with source.open("rb") as read:
        read.seek(max(0, os.fstat(read.fileno()).st_size - most_bytes))
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as write:
            shutil.copyfileobj(read, write)
