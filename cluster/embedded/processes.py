"""Processes by identity (pid and start time), so that none is ever ended by its name or by a pid that was reused."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from cluster.embedded.layout import EmbeddedError

#: Two start times that differ by less are the same: the kernel tells them with a resolution of 10 ms.
_SAME_START_S = 0.05
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process. ``started`` is its start time in epoch seconds, as the kernel tells it."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now, or None."""
        try:
            return cls(pid=pid, started=psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(pid=int(value["pid"]), started=float(value["started"]))

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "started": self.started}

    def alive(self) -> bool:
        """Whether the process still runs: it is no zombie, and its pid has not gone to another process."""
        try:
            process = psutil.Process(self.pid)
            same: bool = abs(process.create_time() - self.started) < _SAME_START_S
            zombie: bool = process.status() == psutil.STATUS_ZOMBIE
            return same and not zombie
        except psutil.Error:
            return False

    def command(self) -> list[str]:
        """Its command line; empty if it is gone."""
        try:
            return list(psutil.Process(self.pid).cmdline())
        except psutil.Error:
            return []

    def signal(self, number: int) -> None:
        """Sends a signal, if the process still runs."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Polls until the condition holds and returns True, or returns False after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def end(processes: Sequence[ProcessId], *, first: int = signal.SIGTERM, grace_s: float = 10.0) -> None:
    """Sends ``first`` to the processes, and kills those that still run after ``grace_s``. Returns when all have ended.

    Raises: `EmbeddedError` if one does not end even then."""
    for process in processes:
        process.signal(first)
    exited = wait_until(lambda: not _alive(processes), grace_s)
    if not exited:
        for process in processes:
            process.signal(signal.SIGKILL)
        if not wait_until(lambda: not _alive(processes), 10.0):
            left = [process.pid for process in _alive(processes)]
            raise EmbeddedError(f"Processes {left} do not end even when killed; look at what holds them (D state).")


def _alive(processes: Sequence[ProcessId]) -> list[ProcessId]:
    """The processes that still run. Reaps zombies afterwards, since other programs take a zombie for a living process."""
    left = [process for process in processes if process.alive()]
    _reap()
    return left


def _reap() -> None:
    """Waits for children that have ended, so that they are no zombies any more."""
    for child in psutil.Process().children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            continue


def spawn(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> ProcessId:
    """Starts a process in a session of its own, so that Ctrl-C of a terminal does not reach it. Appends its output to ``log``.

    Raises: `EmbeddedError` if it ends at once."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    child.returncode = 0  # ended by identity, not through this object: keeps Popen from warning about a live child
    found = ProcessId.of(child.pid)
    if found is None:
        raise EmbeddedError(f"{command[0]} ended at once; see {log}.")
    return found


def session_members(leader: ProcessId) -> list[ProcessId]:
    """The processes in the session that ``leader`` started, including the leader if it still runs.

    A session's number is not reused while it has members. If a later process has reused it, its start time is another.
    """
    now = ProcessId.of(leader.pid)
    if now is not None and not leader.alive() and abs(now.started - leader.started) >= _SAME_START_S:
        return []
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader.pid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(ProcessId(pid=process.pid, started=process.create_time()))
        except (psutil.Error, OSError):
            continue
    return members


def tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log, for the text of an error."""
    try:
        text = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return " | ".join(text[-lines:])
