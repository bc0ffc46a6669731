"""A whole control plane in processes of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.ports import require_free
from cluster.embedded.processes import ProcessId, end, session_members, wait_until
from cluster.embedded.run_file import RunFile, read_run_file
from tests.support.reaper import after_us_end

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))
START_S = 180.0


def clean_environment(**changes: str) -> dict[str, str]:
    """The caller's environment without what would change the system under test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARAGORA_", "RAY_", "OPENAI_", "ANTHROPIC_", "PYTEST_"))
        and name != "PYTHONDONTWRITEBYTECODE"  # thirty processes would each compile whatever they import
    }
    # A developer's own contexts would send commands to another control plane.
    return kept | {"ARAGORA_CONTEXTS_FILE": "/nonexistent/contexts.json"} | changes


def system_ports() -> tuple[int, int]:
    """Two free ones that stay free while the system is down: below those of Ray's windows and of the kernel, which tests
    that run beside this one are given."""
    while True:
        http = random.randrange(10_000, 11_000, 2)
        with contextlib.suppress(EmbeddedError):
            for port in (http, http + 1):
                require_free("127.0.0.1", port, "the port")
            return http, http + 1


@dataclass
class RunningSystem:
    """``aragora-cp up`` on free ports with a data directory of its own. ``command`` may be another build's."""

    data_dir: Path
    settings: dict[str, str] = field(default_factory=dict)
    command: str = COMMAND
    start_s: float = START_S
    process: subprocess.Popen[str] | None = None
    output: list[str] = field(default_factory=list)
    #: What commands have printed and calls were answered, whichever test made them.
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        http, prometheus = system_ports()
        self.environment = clean_environment(
            ARAGORA_DATA_DIR=str(self.data_dir),
            ARAGORA_HTTP_PORT=str(http),
            ARAGORA_PROMETHEUS_PORT=str(prometheus),
            **self.settings,
        )
        self.api_url = f"http://127.0.0.1:{http}"
        self.metrics_url = f"http://127.0.0.1:{prometheus}/metrics"
        self.layout = Layout.of(self.data_dir)

    def start(self) -> None:
        """Returns once the command says that it is ready."""
        self.output = []
        after_us_end("system", self.environment)
        ready = threading.Event()
        process = subprocess.Popen(
            [self.command, "up"], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.process = process
        assert process.stdout is not None

        def read() -> None:
            for line in process.stdout or ():
                self.output.append(line.rstrip())
                self.told.append(line)
                if line.startswith("Ready."):
                    ready.set()
            ready.set()

        threading.Thread(target=read, daemon=True).start()
        assert ready.wait(self.start_s), self.output
        assert process.poll() is None, self.output

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def kill_everything(self) -> None:
        """kill -9 of ``up``, of the stores and of everything in Ray's session, all at once."""
        run = self.run_file
        everybody = [member for name in run.processes for member in session_members(self._id(run, name))]
        everybody += [self._id(run, "up")]
        for process in everybody:
            process.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(30)
        assert wait_until(lambda: not any(process.alive() for process in everybody), 30)

    def clean_up(self) -> None:
        """Whatever a failed test left."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        subprocess.run([self.command, "down"], env=self.environment, check=False, capture_output=True)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    @staticmethod
    def _id(run: RunFile, name: str) -> ProcessId:
        found = run.process(name)
        assert found is not None
        return found

    @property
    def run_file(self) -> RunFile:
        found = read_run_file(self.layout)
        assert found is not None
        return found

    def processes(self) -> dict[str, ProcessId]:
        run = self.run_file
        return {name: self._id(run, name) for name in run.processes}

    def members(self) -> list[ProcessId]:
        """Every process of the system."""
        return [member for process in self.processes().values() for member in session_members(process)]

    def cli(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.command, *words], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        self.told += [done.stdout, done.stderr]
        return done

    def actors(self) -> dict[str, int]:
        """Name → pid of the living named actors, as Ray's dashboard has them."""
        return living_actors(self.run_file.dashboard_url, self.layout.ray_token.read_text().strip())

    def logs(self) -> dict[Path, str]:
        """Text of every log of the system, Ray's included."""
        files = [*self.layout.logs.rglob("*.log"), *self.layout.ray.glob("session_2*/logs/**/*")]
        return {file: file.read_text(errors="replace") for file in files if file.is_file() and not file.is_symlink()}

    def wait_healthy(self, timeout_s: float = 90.0) -> None:
        def healthy() -> bool:
            try:
                health = httpx.get(f"{self.api_url}/health", timeout=5)
                return health.status_code == 200 and bool(health.json()["status"] == "ok")
            except httpx.HTTPError:
                return False

        assert wait_until(healthy, timeout_s), "the system did not become healthy again"

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        answer = httpx.request(method, f"{self.api_url}{path}", json=body, timeout=60, **options)
        self.told.append(f"{answer.headers} {answer.text}")
        return answer


def living_actors(dashboard_url: str, token: str) -> dict[str, int]:
    """Name → pid of the living named actors, as Ray's dashboard has them; Serve's own among them."""
    response = httpx.get(
        f"{dashboard_url}/api/v0/actors",
        params={"detail": "1", "limit": "1000"},
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    rows = response.raise_for_status().json()["data"]["result"]["result"]
    return {row["name"]: row["pid"] for row in rows if row["name"] and row["state"] == "ALIVE"}


def new_text(before: dict[Path, str], after: dict[Path, str]) -> Iterator[tuple[Path, str]]:
    """What was logged between two looks."""
    for path, text in after.items():
        yield path, text[len(before.get(path, "")) :]


def kill(pid: int) -> ProcessId:
    found = ProcessId.of(pid)
    assert found is not None
    found.signal(signal.SIGKILL)
    end([found])
    return found


def epoch() -> float:
    return time.time()
