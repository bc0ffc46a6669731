"""The guard of one HAProxy process: if it dies, a stopgap answers at the same port until Ray has started the next.

Ray finds out after three failed checks that HAProxy has died, and starts it again with a new actor, which takes four
seconds and more. Shorter checks alone were tried: with one per second the API was away for 7 to 8 s. The stopgap has the
configuration of the dead one but no admin socket, so Ray's checks fail as before, and Ray's next HAProxy takes the port
over (``-sf``, which `cluster.process.haproxy` adds). Until then the list of replicas is that of the dead one.

Run as a program: ``stopgap.py DIRECTORY PID``. It imports the standard library only, to be small: there is one per HAProxy.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

#: Beside HAProxy's configuration: the process ids of the newest HAProxy and of the stopgap, and what is run with which file.
CURRENT: Final = "current.pid"
STOPGAP: Final = "stopgap.pid"
GUARDED: Final = "guarded.json"
#: How long a stopgap waits for Ray's next HAProxy. On a machine that has ended Ray it must not stay for long.
STOPGAP_S: Final = 60.0
WAIT_AGAIN_S: Final = 0.25


def pid_in(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def write_whole(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def _wait_for_end(pid: int, timeout_s: float | None = None) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], timeout_s)
        finally:
            os.close(descriptor)


def guard(directory: Path, pid: int) -> None:
    """Waits for the end of the HAProxy ``pid`` and, unless another has replaced it, answers in its place until Ray's next."""
    guarded = json.loads((directory / GUARDED).read_text())
    binary, config = guarded["binary"], Path(guarded["config"])
    _wait_for_end(pid)
    if pid_in(directory / CURRENT) != pid:
        return
    own = directory / "stopgap.cfg"
    own.write_text(re.sub(r"(?m)^ *stats socket .*\n", "", config.read_text()))
    deadline = time.monotonic() + STOPGAP_S

    def is_needed() -> bool:
        return pid_in(directory / CURRENT) == pid and time.monotonic() < deadline

    stopgap = None
    while is_needed():
        if stopgap is None or os.waitpid(stopgap, os.WNOHANG)[0]:
            if stopgap is not None:
                time.sleep(WAIT_AGAIN_S)  # it was killed too, or does not start
            stopgap = os.posix_spawn(binary, [binary, "-db", "-f", str(own), "-dR"], os.environ)
            write_whole(directory / STOPGAP, str(stopgap))
        _wait_for_end(stopgap, WAIT_AGAIN_S)
    if stopgap is not None and pid_in(directory / CURRENT) == pid:
        os.kill(stopgap, signal.SIGTERM)  # else Ray's next one lets it finish its open calls


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        guard(Path(sys.argv[1]), int(sys.argv[2]))
