"""The guard of one HAProxy process: if it dies, a stopgap answers at the same port until Ray has started the next.

Ray finds out after three failed checks that HAProxy has died, and starts it again with a new actor, which takes four
seconds and more. Shorter checks alone were tried: with one per second the API was away for 7 to 8 s. The stopgap has the
configuration of the dead one but no admin socket, so Ray's checks fail as before, and Ray's next HAProxy takes the port
over (``-sf``, which `cluster.process.haproxy` adds). Until then the list of replicas is that of the dead one.

An HAProxy that hangs (one that was stopped) keeps its port, so callers wait for it, and each of Ray's three checks waits 5 s.
The guard kills it, and the rest is as above. A process that only waits for its turn on a busy machine does not count as one
that hangs, however long it takes: the kernel says of each thread whether it could run.

Run as a program: ``stopgap.py DIRECTORY PID``. It imports the standard library only, to be small: there is one per HAProxy.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Beside HAProxy's configuration: the process ids of the newest HAProxy and of the stopgap, and what is run with which file.
CURRENT: Final = "current.pid"
STOPGAP: Final = "stopgap.pid"
GUARDED: Final = "guarded.json"
#: How long a stopgap waits for Ray's next HAProxy. On a machine that has ended Ray it must not stay for long.
STOPGAP_S: Final = 60.0
WAIT_AGAIN_S: Final = 0.25
#: Between two looks at a process, and how long its admin socket may take to answer.
LOOK_S: Final = 0.5
ANSWER_S: Final = 0.75
#: So many bad looks in a row are a hang. With the times above, it takes 1.5 s to see that a process was stopped, and less
#: than 4 s to see any other hang.
BAD_LOOKS: Final = 3
#: The kernel's letters for a thread: it runs or waits for a processor, and it waits for a disk; it was stopped.
_COULD_RUN: Final = frozenset("RD")
_STOPPED: Final = frozenset("T")


def pid_in(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def write_whole(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def _threads(pid: int) -> frozenset[str]:
    """The states of a process's threads, by the kernel's letters."""
    found = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, IndexError):
                found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return frozenset(found)


def _answer(admin: Path) -> bytes | None:
    """What HAProxy says about itself; None if it does not answer in time. It answers here also while all its connections for
    clients are taken."""
    answer = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(admin))
            connection.sendall(b"show info\n")
            while more := connection.recv(65_536):
                answer += more
        except (TimeoutError, BlockingIOError):  # the latter: too many wait already
            return None
    return answer


class Looks:
    """What was seen of one process. ``admin`` is None for a process without an admin socket.

    No dataclass: importing those would make the guard a tenth larger."""

    def __init__(self, pid: int, admin: Path | None) -> None:
        self.pid = pid
        self.admin = admin
        # Whether its admin socket has answered; before that it starts.
        self.answered = False
        # Bad looks in a row.
        self.bad = 0

    def hangs(self) -> bool:
        """Looks once more, and says whether the process hangs."""
        self.bad = self.bad + 1 if self._is_bad() else 0
        return self.bad >= BAD_LOOKS

    def _is_bad(self) -> bool:
        if _threads(self.pid) == _STOPPED:
            return True
        answer = _answer(self.admin) if self.admin is not None else b""
        if answer is None:
            return self.answered and not _threads(self.pid) & _COULD_RUN
        # The socket belongs to the newest HAProxy; one that was replaced is not asked any more.
        self.answered = f"\nPid: {self.pid}\n".encode() in answer
        return False


def _wait_for_end(pid: int, timeout_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], timeout_s)
        finally:
            os.close(descriptor)


def watch(pid: int, admin: Path | None, renew: Callable[[], None] | None = None) -> None:
    """Returns when the process has ended. A process that hangs is killed. ``renew`` is called at every look."""
    looks = Looks(pid, admin)
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            while not select.select([descriptor], [], [], LOOK_S)[0]:
                if renew is not None:
                    renew()
                if looks.hangs():
                    print(f"HAProxy (process {pid}) hangs and is killed.", file=sys.stderr, flush=True)
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _admin_socket(config: str) -> Path | None:
    found = re.search(r"(?m)^ *stats socket (/\S+)", config)
    return Path(found[1]) if found else None


def _renewal(directory: Path, pid: int, files: list[str] | None, admin: Path | None) -> Callable[[], None] | None:
    """What hands certificates that have changed to the HAProxy ``pid``; None without TLS."""
    if not files or admin is None:
        return None
    # Isolated Python knows no package; without TLS the guard needs none, and is smaller.
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from cluster.process.front import FrontTls
    from cluster.process.renewal import Renewal

    renewal = Renewal(directory, FrontTls(*files), admin)

    def renew() -> None:
        if pid_in(directory / CURRENT) == pid:  # else the admin socket is another's
            renewal.look()

    return renew


def guard(directory: Path, pid: int) -> None:
    """Waits for the end of the HAProxy ``pid``, which it kills if it hangs, and, unless another has replaced it, answers in its
    place until Ray's next."""
    guarded = json.loads((directory / GUARDED).read_text())
    binary, config = guarded["binary"], Path(guarded["config"])
    admin = _admin_socket(config.read_text())
    watch(pid, admin, _renewal(directory, pid, guarded["tls"], admin))
    if pid_in(directory / CURRENT) != pid:
        return
    own = directory / "stopgap.cfg"
    own.write_text(re.sub(r"(?m)^ *stats socket .*\n", "", config.read_text()))
    deadline = time.monotonic() + STOPGAP_S

    def is_needed() -> bool:
        return pid_in(directory / CURRENT) == pid and time.monotonic() < deadline

    stopgap, looks = None, Looks(0, None)
    while is_needed():
        if stopgap is None or os.waitpid(stopgap, os.WNOHANG)[0]:
            if stopgap is not None:
                time.sleep(WAIT_AGAIN_S)  # it was killed too, or does not start
            stopgap = os.posix_spawn(binary, [binary, "-db", "-f", str(own), "-dR"], os.environ)  # noqa: TID251 - a child inherits it
            looks = Looks(stopgap, None)
            write_whole(directory / STOPGAP, str(stopgap))
        if looks.hangs():
            os.kill(stopgap, signal.SIGKILL)
        _wait_for_end(stopgap, WAIT_AGAIN_S)
    if stopgap is not None and pid_in(directory / CURRENT) == pid:
        os.kill(stopgap, signal.SIGTERM)  # else Ray's next one lets it finish its open calls


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        guard(Path(sys.argv[1]), int(sys.argv[2]))
