"""The stand of the benches: stores of their own with fsync on, processes that they command, and the CPU of both."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.redis import EmbeddedRedis

ROOT = Path(__file__).resolve().parent.parent
PEERS_VENV = ROOT / ".bench" / "venv"
ANSWER_S = 240.0


@dataclass(slots=True)
class Part:
    """A process of a bench. ``ask`` sends a command and waits for its answer; ``start`` and ``answer`` are its halves."""

    process: subprocess.Popen[str]
    name: str

    def start(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, **command: Any) -> dict[str, Any]:
        self.start(**command)
        return self.answer()

    def stop(self) -> None:
        with suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True, kw_only=True)
class Stand:
    """``quick`` shrinks every size, for a run that only proves that the bench works. ``runs`` is the number per figure."""

    base: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    quick: bool = False
    runs: int = 5
    #: Stops the shared system, if one runs (``bench.system.shared``).
    systems: ExitStack = field(default_factory=ExitStack)
    system: Any = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def database_url(self) -> str:
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        return self.redis.url

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def name(self) -> str:
        """A schema or prefix that nothing else of this run uses."""
        return f"b{os.getpid()}_{next(self._numbers)}"

    @contextmanager
    def part(self, *command: str, env: Mapping[str, str] | None = None) -> Iterator[Part]:
        """A process of ours, or of a peer in the peers' environment: a module and its arguments."""
        peer = command[0].startswith("bench.peers.")
        start = [str(PEERS_VENV / "bin" / "python") if peer else sys.executable, "-m"]
        environment = {**os.environ, "BENCH_DATABASE_URL": self.database_url, "BENCH_REDIS_URL": self.redis_url}
        part = Part(
            subprocess.Popen(
                [*start, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**environment, **(env or {})},
            ),
            " ".join(command),
        )
        try:
            part.answer()  # ready
            yield part
        finally:
            part.stop()

    def cpu(self, *parts: Part | int) -> Callable[[], float]:
        """Starts counting; the returned function gives the CPU seconds since then, of these process trees and both stores."""
        roots = [part.process.pid if isinstance(part, Part) else part for part in parts]
        for store in (self.postgres, self.redis):
            if store.process is not None:
                roots.append(store.process.pid)
        before = _cpu_of(roots)
        return lambda: _cpu_of(roots) - before


def _cpu_of(roots: Sequence[int]) -> float:
    """User and system time of process trees. The time of processes that have ended is in their parents' figures."""
    total = 0.0
    seen: set[int] = set()
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            for member in [process, *process.children(recursive=True)]:
                if member.pid not in seen:
                    seen.add(member.pid)
                    total += cpu_seconds(member)
    return total


def cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


@contextmanager
def standing(*, quick: bool, runs: int) -> Iterator[Stand]:
    """A stand with stores in a temporary directory, which is removed at the end."""
    base = Path(tempfile.mkdtemp(prefix="aragora-bench-"))
    sockets = base / "s"
    sockets.mkdir(mode=0o700)
    password = secrets.token_hex(16)
    postgres = EmbeddedPostgres(data=base / "postgres", sockets=sockets, log=base / "postgres.log", password=password)
    redis = EmbeddedRedis(data=base / "redis", sockets=sockets, log=base / "redis.log", password=password)
    try:
        postgres.start()
        redis.start()
        stand = Stand(base=base, postgres=postgres, redis=redis, quick=quick, runs=runs)
        with stand.systems:
            yield stand
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(base, ignore_errors=True)


def install_peers() -> None:
    """Installs the peers' packages, every hash checked, into an environment of their own."""
    pins = ROOT / "bench" / "peers.txt"
    stamp = PEERS_VENV / ".installed"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return
    python = PEERS_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(PEERS_VENV)], check=True, timeout=60)
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--require-hashes"]
    subprocess.run([*command, "--requirement", str(pins)], check=True, timeout=300)
    stamp.write_bytes(pins.read_bytes())
