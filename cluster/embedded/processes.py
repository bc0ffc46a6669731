"""Processes by identity (pid and start time), so that nothing is ever ended by a name or a recycled number."""

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

#: Start times are read from the kernel with a resolution of 10 ms.
_SAME_START_S = 0.05
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """``started`` in epoch seconds, as the kernel tells it."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self | None:
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
        """Running, and the same process: not a zombie, not another one with its number."""
        try:
            process = psutil.Process(self.pid)
            same: bool = abs(process.create_time() - self.started) < _SAME_START_S
            zombie: bool = process.status() == psutil.STATUS_ZOMBIE
            return same and not zombie
        except psutil.Error:
            return False

    def command(self) -> list[str]:
        try:
            return list(psutil.Process(self.pid).cmdline())
        except psutil.Error:
            return []

    def signal(self, number: int) -> None:
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Polls; True as soon as the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def end(processes: Sequence[ProcessId], *, first: int = signal.SIGTERM, grace_s: float = 10.0) -> None:
    """Asks, waits for the grace, then kills. Returns when all are gone."""
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
    """Reaps after the look, so that what was seen to be gone has no zombie left: others take one for a living process."""
    left = [process for process in processes if process.alive()]
    _reap()
    return left


def _reap() -> None:
    """Children that have ended stop being zombies once somebody asks for them."""
    for child in psutil.Process().children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            continue


def spawn(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> ProcessId:
    """A process in its own session (Ctrl-C of a terminal does not reach it), its output appended to ``log``."""
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
    """What runs in the session that ``leader`` started, itself included, also when it is gone itself.

    A session's number is not given out again while it has members; that a later process reused it is told by its
    start time.
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
    """The end of a log, for an error that has to say why."""
    try:
        text = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return " | ".join(text[-lines:])
