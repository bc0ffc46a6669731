"""What authentication, authorisation and the sealed audit cost together: the same system with and without them, in turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from cluster.embedded.ports import free_ports

CALLERS = 16


@dataclass(slots=True)
class _System:
    """``run`` measures tasks/s (each is submitted, claimed and completed by a call) and CPU seconds per 1,000 tasks."""

    name: str
    server: Part
    client: Part
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, stand: Stand, total: int) -> tuple[float, float]:
        cpu = stand.cpu(self.server, self.client)
        answer = self.client.ask(op="batches", total=total, callers=CALLERS, each=1, agent_id="bench")
        return total / answer["seconds"], cpu() / total * 1000

    def measure(self, stand: Stand, total: int) -> None:
        rate, cpu = self.run(stand, total)
        self.rates.append(rate)
        self.cpu.append(cpu)

    def rows(self) -> tuple[Row, Row]:
        return (
            Row(name=self.name, unit="tasks/s", runs=tuple(self.rates)),
            Row(name=f"{self.name}: CPU of all processes", unit="s per 1,000 tasks", runs=tuple(self.cpu)),
        )


@contextmanager
def _system(stand: Stand, mode: str) -> Iterator[_System]:
    http, metrics = free_ports(2)
    schema = stand.name()
    with stand.part("bench.parts.whole", mode, schema, str(stand.base / schema), str(http), str(metrics)) as server:
        key = server.ask(op="key")["key"] if mode == "on" else ""
        url = f"http://127.0.0.1:{http}"
        with stand.part("bench.parts.http", url, schema, env={"BENCH_API_KEY": key}) as client:
            yield _System(f"API over HTTP, authentication and audit {mode}", server, client)


@bench(
    "security.cost", "keys, permissions and the sealer, beside none of them; one task per call, 16 callers, without Ray"
)
def cost(stand: Stand) -> Iterator[Row]:
    total = stand.size(3_000, 50)
    with _system(stand, "on") as secured, _system(stand, "off") as open_to_all:
        for system in (secured, open_to_all):
            system.run(stand, max(1, total // 10))
        for _ in range(stand.runs):
            for system in (secured, open_to_all):
                system.measure(stand, total)
        (rate, cpu), (open_rate, open_cpu) = secured.rows(), open_to_all.rows()
    yield against(rate, open_rate, Goal(bound=0.9))
    yield against(cpu, open_cpu, Goal(bound=1.12, at_most=True))
    yield open_rate
    yield open_cpu
