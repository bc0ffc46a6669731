"""The scheduler's rows that need the whole control plane: through Ray, and over HTTP."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import psutil

from bench.harness import Goal, Row, against, bench, number
from bench.scheduler import CALLERS, PREFETCH, SLOTS, Throughput, beside_peers, pgqueuer, taskiq
from bench.stand import Part, Stand
from bench.system import Running, shared

SDK_CLIENTS = 8


@contextmanager
def in_cluster(stand: Stand, running: Running, total: int, *, callers: int, each: int) -> Iterator[Throughput]:
    """The in-cluster client in one process, the worker in another, the shard in a Ray actor."""
    slots = (str(SLOTS), str(PREFETCH)) if each == 1 else ("400", "400")
    module, env = "bench.parts.tasks", running.environment
    with (
        stand.part(module, "worker", "-", "ray", *slots, env=env) as worker,
        stand.part(module, "client", "-", "ray", env=env) as client,
    ):
        name = "in-cluster client" if each == 1 else f"in-cluster client, {each} per call"
        throughput = Throughput(name, worker, client, total, callers, each)
        throughput.cpu_of = running.cpu
        yield throughput


@bench("scheduler.cluster", "one task at a time through Ray, 256 callers and 64 slots", peers=True, ray=True)
def cluster(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    with ExitStack() as stack:
        total = stand.size(10_000, 100)
        ours = stack.enter_context(in_cluster(stand, running, total, callers=CALLERS, each=1))
        peers = [
            stack.enter_context(pgqueuer(stand, stand.size(2_000, 100))),
            stack.enter_context(taskiq(stand, stand.size(2_000, 100))),
        ]
        yield from beside_peers(stand, ours, peers, (Goal(bound=4), Goal(bound=2)))


@bench("scheduler.cluster-batches", "batches of 50 through Ray", peers=True, ray=True)
def cluster_batches(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    with ExitStack() as stack:
        ours = stack.enter_context(in_cluster(stand, running, stand.size(20_000, 200), callers=8, each=50))
        peer = stack.enter_context(pgqueuer(stand, stand.size(5_000, 200), callers=8, each=50))
        yield from beside_peers(stand, ours, [peer], (Goal(bound=8),))


@bench("scheduler.latency", "from submit to the agent having it, 200 a second, through Ray", ray=True)
def latency(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    rate, seconds = stand.size(200, 50), stand.size(5, 1)
    with in_cluster(stand, running, 0, callers=1, each=1) as ours:
        ours.run(stand, total=stand.size(500, 20))
        p50, p99 = [], []
        for _ in range(stand.runs):
            ours.worker.start(op="expect", total=rate * seconds)
            ours.client.ask(op="steadily", rate=rate, seconds=seconds)
            answer = ours.worker.answer()
            p50.append(answer["p50"])
            p99.append(answer["p99"])
    yield from _latency_rows("in-cluster", p50, p99, 5, 25)


def _latency_rows(
    where: str, p50: Sequence[float], p99: Sequence[float], goal50: float, goal99: float
) -> Iterator[Row]:
    for name, runs, goal in (("p50", p50, goal50), ("p99", p99, goal99)):
        yield Row(
            name=f"submit to agent has it, {where}, {name}",
            unit="ms",
            runs=tuple(runs),
            goal=Goal(bound=goal, of="median", at_most=True),
        )


@bench("scheduler.longpoll", "from submit to the agent having it, 200 a second, over HTTP", ray=True)
def longpoll(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    rate, seconds = stand.size(200, 20), stand.size(5, 1)
    p50, p99 = [], []
    with stand.part("bench.parts.http", running.api_url, stand.name()) as agents:
        agents.ask(op="wait", agents=stand.size(64, 4), capability="longpoll")
        for _ in range(stand.runs + 1):
            answer = agents.ask(op="submit", rate=rate, seconds=seconds, capability="longpoll")
            p50.append(answer["p50"])
            p99.append(answer["p99"])
        agents.ask(op="leave")
    yield from _latency_rows("over HTTP long poll, 64 agents", p50[1:], p99[1:], 15, 50)


@bench("scheduler.waiting", "5,000 agents wait over HTTP on one replica", ray=True)
def waiting(stand: Stand) -> Iterator[Row]:
    agents = stand.size(5_000, 20)
    yield from _beside(stand, f"{agents:,} agents wait", agents, {"op": "wait", "agents": agents})


@bench("scheduler.results", "1,000 calls wait for results on one replica", ray=True)
def results(stand: Stand) -> Iterator[Row]:
    calls = stand.size(1_000, 20)
    yield from _beside(stand, f"{calls:,} calls wait for results", calls, {"op": "expect_results", "calls": calls})


def _beside(stand: Stand, crowd_words: str, connections: int, crowd_asks: Mapping[str, object]) -> Iterator[Row]:
    """How long submits take without a crowd that waits, and beside it."""
    running = shared(stand)
    rate, seconds = 100, stand.size(5, 1)
    alone, beside = [], []
    with (
        stand.part("bench.parts.http", running.api_url, stand.name()) as submitter,
        stand.part("bench.parts.http", running.api_url, stand.name()) as crowd,
    ):

        def p99() -> float:
            answer = submitter.ask(op="submit", rate=rate, seconds=seconds, capability="nobody")
            return float(answer["submit_p99"])

        p99()
        alone = [p99() for _ in range(stand.runs)]
        before = _replica_mib(running)
        crowd.ask(**crowd_asks, capability="crowd")
        _until_waiting(running, connections)
        beside = [p99() for _ in range(stand.runs)]
        memory = _replica_mib(running)
        crowd.ask(op="leave")
    without = Row(name=f"submit over HTTP, before {crowd_words}, p99", unit="ms", runs=tuple(alone))
    with_them = Row(name=f"submit over HTTP, {crowd_words}, p99", unit="ms", runs=tuple(beside))
    yield against(with_them, without, Goal(bound=2, at_most=True))
    yield without
    yield Row(name=f"memory of the replica, {crowd_words}", unit="MiB", runs=(memory,), note=f"{before:.0f} without")


def _replica_mib(running: Running) -> float:
    return float(sum(process.memory_info().rss for process in running.roles()["replica"])) / 2**20


def _until_waiting(running: Running, connections: int) -> None:
    """Waits until the connections of the crowd are open at the replica."""
    (replica,) = running.roles()["replica"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        open_now = sum(socket.status == psutil.CONN_ESTABLISHED for socket in replica.net_connections(kind="tcp"))
        if open_now >= connections:
            return
        time.sleep(0.5)
    raise RuntimeError(f"fewer than {connections} connections are open after a minute")


@bench("scheduler.http", "the released SDK in 8 processes, one call per step, beside no-op routes", ray=True)
def http(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    rounds = stand.size(100, 3)
    prefix = stand.name()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(stand.part("bench.parts.sdk", running.api_url, f"{prefix}-{number}"))
            for number in range(SDK_CLIENTS)
        ]
        rates: dict[str, list[float]] = {"product": [], "noop": []}
        cpu: dict[str, list[float]] = {}
        for turn in range(stand.runs + 1):
            for op, found in rates.items():
                spent = running.cpu(stand, *clients)
                seconds = _together(clients, op, rounds)
                calls = rounds * SDK_CLIENTS * 3
                if turn > 0:
                    found.append(calls / 3 / seconds)
                if turn > 0 and op == "product":
                    for role, used in spent().items():
                        cpu.setdefault(role, []).append(used / calls * 1000)
    ceiling = Row(name="three no-op routes, SDK, 8 processes", unit="rounds/s", runs=tuple(rates["noop"]))
    ours = Row(name="submit, claim, complete over HTTP, SDK, 8 processes", unit="tasks/s", runs=tuple(rates["product"]))
    ours_cpu = {role: statistics.median(runs) for role, runs in cpu.items()}
    yield against(ours, ceiling, Goal(bound=0.5))
    released = Row(name="released Aragora over HTTP (as published: 94/s)", unit="tasks/s", runs=(94.0,))
    yield against(ours, released, Goal(bound=3))
    yield ceiling
    for role, runs in cpu.items():
        note = f"{number(ours_cpu[role] / ours_cpu['all'] * 100)} %" if role != "all" else ""
        yield Row(name=f"CPU per HTTP call, {role}", unit="ms", runs=tuple(runs), note=note)


def _together(clients: Sequence[Part], op: str, rounds: int) -> float:
    started = time.perf_counter()
    for client in clients:
        client.start(op=op, rounds=rounds)
    for client in clients:
        client.answer()
    return time.perf_counter() - started


@bench("scheduler.http-batches", "the batch endpoints, beside the in-cluster client", ray=True)
def http_batches(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    total = stand.size(10_000, 100)
    rates: list[float] = []
    with (
        in_cluster(stand, running, stand.size(20_000, 200), callers=8, each=50) as inside,
        stand.part("bench.parts.http", running.api_url, stand.name()) as outside,
    ):
        inside.run(stand, total=50)
        for turn in range(stand.runs + 1):
            size = total if turn else 100
            answer = outside.ask(op="batches", total=size, callers=8, each=50, agent_id="bench-batches")
            inside.run(stand, total=None if turn else 100)
            if turn:
                rates.append(size / answer["seconds"])
    over_http = Row(name="batch endpoints over HTTP, 50 per call", unit="tasks/s", runs=tuple(rates))
    yield against(over_http, inside.rows()[0], Goal(bound=0.5))
