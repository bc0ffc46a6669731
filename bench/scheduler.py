"""The scheduler's rows: throughput beside the peers, the cost of a claim, starts, memory, latency."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from cluster.postgres.migrate import migrate

SLOTS, PREFETCH, CALLERS = 64, 192, 256


@dataclass(slots=True)
class Throughput:
    """A submitter, a worker, and the processes between them. ``run`` measures tasks/s and CPU seconds per 1,000 tasks."""

    name: str
    worker: Part
    client: Part
    total: int
    callers: int = CALLERS
    each: int = 1
    others: tuple[Part, ...] = ()
    cpu_of: Callable[..., Callable[[], dict[str, float]]] | None = None
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, stand: Stand, total: int | None = None) -> None:
        number = total or self.total
        self.worker.start(op="expect", total=number)
        cpu = self._count(stand)
        started = time.perf_counter()
        self.client.ask(op="submit", total=number, callers=self.callers, each=self.each)
        self.worker.answer()
        if total is None:
            self.rates.append(number / (time.perf_counter() - started))
            self.cpu.append(cpu() / number * 1000)

    def _count(self, stand: Stand) -> Callable[[], float]:
        if self.cpu_of is None:
            return stand.cpu(self.worker, self.client, *self.others)
        spent = self.cpu_of(stand, self.worker, self.client)
        return lambda: spent()["all"]

    def rows(self) -> tuple[Row, Row]:
        return (
            Row(name=self.name, unit="tasks/s", runs=tuple(self.rates)),
            Row(name=f"{self.name}: CPU of all processes", unit="s per 1,000 tasks", runs=tuple(self.cpu)),
        )


def in_turns(stand: Stand, systems: Sequence[Throughput]) -> None:
    """Warms every system up, then runs each once per round, so that changes of the machine's speed affect all alike."""
    for system in systems:
        system.run(stand, total=max(system.each, system.total // 10))
    for _ in range(stand.runs):
        for system in systems:
            system.run(stand)


def schema(stand: Stand) -> str:
    name = stand.name()
    asyncio.run(migrate(stand.database_url, name))
    return name


@contextmanager
def without_ray(stand: Stand, total: int, *, callers: int = CALLERS, each: int = 1) -> Iterator[Throughput]:
    """Shard, worker and client in three processes; their calls go over actor channels."""
    name, address = schema(stand), str(stand.base / stand.name())
    slots = (str(SLOTS), str(PREFETCH)) if each == 1 else ("400", "400")
    with (
        stand.part("bench.parts.shard", name, address) as shard,
        stand.part("bench.parts.tasks", "worker", name, address, *slots) as worker,
        stand.part("bench.parts.tasks", "client", name, address) as client,
    ):
        label = "ours without Ray" if each == 1 else f"ours without Ray, {each} per call"
        yield Throughput(label, worker, client, total, callers, each, (shard,))


@contextmanager
def pgqueuer(stand: Stand, total: int, *, callers: int = CALLERS, each: int = 1) -> Iterator[Throughput]:
    module = "bench.peers.on_pgqueuer"
    with stand.part(module, "worker", str(each)) as worker, stand.part(module, "client") as client:
        yield Throughput(
            "pgqueuer" if each == 1 else f"pgqueuer, {each} per call", worker, client, total, callers, each
        )


@contextmanager
def taskiq(stand: Stand, total: int) -> Iterator[Throughput]:
    module, queue = "bench.peers.on_taskiq", stand.name()
    with stand.part(module, "worker", "1", queue) as worker, stand.part(module, "client", "1", queue) as client:
        yield Throughput("taskiq on Redis streams", worker, client, total)


def beside_peers(stand: Stand, ours: Throughput, peers: Sequence[Throughput], goals: Sequence[Goal]) -> Iterator[Row]:
    """Ours against each peer by rate, and against the first by CPU; then the peers' own rows."""
    in_turns(stand, [ours, *peers])
    rate, cpu = ours.rows()
    for peer, goal in zip(peers, goals, strict=True):
        yield against(rate, peer.rows()[0], goal)
    yield against(cpu, peers[0].rows()[1], Goal(bound=1.0, at_most=True))
    for peer in peers:
        yield from peer.rows()


@bench("scheduler.core", "one task at a time, 256 callers and 64 slots, without Ray's calls", peers=True)
def core(stand: Stand) -> Iterator[Row]:
    with ExitStack() as stack:
        ours = stack.enter_context(without_ray(stand, stand.size(10_000, 200)))
        peers = [
            stack.enter_context(pgqueuer(stand, stand.size(2_000, 100))),
            stack.enter_context(taskiq(stand, stand.size(3_000, 100))),
        ]
        yield from beside_peers(stand, ours, peers, (Goal(bound=4), Goal(bound=2)))


@bench("scheduler.batches", "batches of 50, beside pgqueuer and Postgres alone", peers=True)
def batches(stand: Stand) -> Iterator[Row]:
    with ExitStack() as stack:
        total = stand.size(20_000, 400)
        ours = stack.enter_context(without_ray(stand, total, callers=8, each=50))
        peer = stack.enter_context(pgqueuer(stand, stand.size(5_000, 200), callers=8, each=50))
        raw = stack.enter_context(stand.part("bench.parts.raw", stand.name()))
        rates: list[float] = []
        in_turns(stand, [ours, peer])
        for _ in range(stand.runs):
            started = time.perf_counter()
            raw.ask(op="submit", total=total, each=50)
            rates.append(total / (time.perf_counter() - started))
        rate, cpu = ours.rows()
        alone = Row(name="Postgres alone, same rows, 50 per call, 4 connections", unit="tasks/s", runs=tuple(rates))
        yield against(rate, peer.rows()[0], Goal(bound=8))
        yield against(rate, alone, Goal(bound=0.6))
        yield against(cpu, peer.rows()[1])
        yield from (*peer.rows(), alone)


@bench("scheduler.claim", "one claim with 100, 10^4 and 10^6 tasks pending in front of the matching work")
def claim(stand: Stand) -> Iterator[Row]:
    sizes = (100, 10_000, 1_000_000) if not stand.quick else (100, 1_000)
    number = stand.size(2_000, 50)
    spread = (1, 100, 1000) if not stand.quick else (1, 10)
    p99: dict[tuple[int, int], list[float]] = defaultdict(list)
    longest: dict[tuple[int, int], list[float]] = defaultdict(list)
    with stand.part("bench.parts.core") as core:
        for size in sizes:  # filled once: at a million that takes longer than all claims
            core.ask(op="fill", pending=size)
            for sets in spread:
                for _ in range(stand.runs):
                    answer = core.ask(op="claims", pending=size, sets=sets, claims=number)
                    p99[sets, size].append(answer["p99_us"])
                    longest[sets, size].append(answer["longest_ms"])
    for sets in spread:
        of_set = ({size: found[sets, size] for size in sizes} for found in (p99, longest))
        yield from _claim_rows(sets, sizes, *of_set)


def _claim_rows(
    sets: int, sizes: Sequence[int], p99: dict[int, list[float]], longest: dict[int, list[float]]
) -> Iterator[Row]:
    rows = [Row(name=f"claim, R = {sets}, {size:,} pending, p99", unit="µs", runs=tuple(p99[size])) for size in sizes]
    yield from rows[:-1]
    goal = Goal(bound=1.5, at_most=True) if sets == 1 else None
    yield against(rows[-1], rows[0], goal)
    size = sizes[-1]
    yield Row(name=f"claim and report, R = {sets}, {size:,} pending, longest", unit="ms", runs=tuple(longest[size]))


_FILL = """
insert into tasks (
    id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
    created_at, run_at, principal, region_routing_mode, origin_region, fallback_regions, required_capabilities, payload,
    metadata)
select 'task_' || lpad(n::text, 26, '0'), 'bench', 1, 'default', 'noop', 50, 'pending', 'queued', 0, 0, 3, 300,
       1.7e9 + n * 1e-3, 1.7e9 + n * 1e-3, 'user:bench', 'any', 'bench', '[]', ('["other-' || n % 10 || '"]')::json, '{}', '{}'
from generate_series(1, $1) n
"""


async def _fill(url: str, schema: str, number: int) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, server_settings={"search_path": schema, "synchronous_commit": "off"})
    try:
        await connection.execute(_FILL, number)
        await connection.execute("analyze tasks")
    finally:
        await connection.close()


@bench("scheduler.start", "a shard starts with 10^6 tasks pending, and holds them")
def start(stand: Stand) -> Iterator[Row]:
    number = stand.size(1_000_000, 2_000)
    name = schema(stand)
    asyncio.run(_fill(stand.database_url, name, number))
    seconds, memory, worst = [], [], []
    with stand.part("bench.parts.tasks", "client", name, "none") as client:
        for _ in range(stand.runs):
            address = str(stand.base / stand.name())
            started = time.perf_counter()
            client.start(op="steadily", rate=20, seconds=stand.size(5, 1))
            with stand.part("bench.parts.shard", name, address) as shard:
                seconds.append(time.perf_counter() - started)
                worst.append(client.answer()["p99"])
                memory.append(shard.ask(op="status")["rss"] / 2**20)
    label = f"{number:,} pending"
    yield Row(
        name=f"start of a shard, {label}", unit="s", runs=tuple(seconds), goal=Goal(bound=15, of="median", at_most=True)
    )
    yield Row(name=f"submits while it starts, {label}, p99", unit="ms", runs=tuple(worst), note="all accepted")
    yield Row(
        name=f"memory of the shard's process, {label}",
        unit="MiB",
        runs=tuple(memory),
        goal=Goal(bound=1024, of="median", at_most=True),
    )
