"""Deliberations of no-op agents beside LangGraph and AutoGen, and what one agent call costs the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.harness import Goal, Row, against, bench
from bench.parts.deliberate import CALLS
from bench.scheduler import schema
from bench.stand import Part, Stand
from cluster.embedded.ports import free_ports

AT_ONCE = 50
WORKERS = 2
_UNIT = "deliberations/s"
_BUDGET = 12_000


@dataclass(slots=True, kw_only=True)
class _Engine:
    """Deliberation workers that share a schema."""

    parts: Sequence[Part]

    @classmethod
    def start(cls, stack: ExitStack, stand: Stand, workers: int) -> _Engine:
        name = schema(stand)
        module = "bench.parts.deliberate"
        parts = [stack.enter_context(stand.part(module, name, str(n), str(workers))) for n in range(workers)]
        return cls(parts=parts)

    def deliberate(self, total: int, delay_s: float = 0.0) -> tuple[float, float]:
        """(seconds, CPU seconds of the workers); every call of every deliberation was made once."""
        for part in self.parts:
            part.ask(op="expect", delay_s=delay_s)
        seconds = self.parts[0].ask(op="deliberate", total=total)["seconds"]
        spent = [part.ask(op="spent") for part in self.parts]
        assert sum(figures["calls"] for figures in spent) == total * CALLS, spent
        return seconds, sum(figures["cpu"] for figures in spent)


@dataclass(slots=True, kw_only=True)
class _System:
    name: str
    total: int
    run: Callable[[int], float]
    rates: list[float] = field(default_factory=list)

    def row(self) -> Row:
        return Row(name=self.name, unit=_UNIT, runs=tuple(self.rates))


def _langgraph(stack: ExitStack, stand: Stand, processes: int) -> Callable[[int], float]:
    name = stand.name()
    parts = [stack.enter_context(stand.part("bench.peers.on_langgraph", name)) for _ in range(processes)]

    def run(total: int) -> float:
        for part in parts:
            part.start(op="deliberate", total=total // processes, at_once=AT_ONCE // processes)
        return max(float(part.answer()["seconds"]) for part in parts)

    return run


@bench("deliberation.rate", "3 agents that answer at once, 3 rounds, 21 calls, durable", peers=True)
def rate(stand: Stand) -> Iterator[Row]:
    (port,) = free_ports(1)
    module = "bench.peers.on_autogen"
    with ExitStack() as stack:
        single, several = _Engine.start(stack, stand, 1), _Engine.start(stack, stand, WORKERS)
        stack.enter_context(stand.part(module, "agents", str(port)))
        autogen = stack.enter_context(stand.part(module, "caller", str(port)))
        ours = _System(
            name="deliberations of 21 calls, durable, 1 worker",
            total=stand.size(200, 4),
            run=lambda total: single.deliberate(total)[0],
        )
        both = _System(
            name=f"deliberations of 21 calls, durable, {WORKERS} workers",
            total=stand.size(400, 4),
            run=lambda total: several.deliberate(total)[0],
        )
        durable = _System(
            name="LangGraph, Postgres checkpointer, 1 process",
            total=stand.size(40, 2),
            run=_langgraph(stack, stand, 1),
        )
        durable_too = _System(
            name=f"LangGraph, Postgres checkpointer, {WORKERS} processes",
            total=stand.size(80, 2),
            run=_langgraph(stack, stand, WORKERS),
        )
        volatile = _System(
            name="AutoGen on its gRPC runtime, not durable",
            total=stand.size(100, 2),
            run=lambda total: float(autogen.ask(op="deliberate", total=total, at_once=AT_ONCE)["seconds"]),
        )
        systems = (ours, durable, both, durable_too, volatile)
        for turn in range(stand.runs + 1):
            for system in systems:
                seconds = system.run(system.total)
                if turn:  # the first is a warm-up
                    system.rates.append(system.total / seconds)
    yield against(ours.row(), durable.row(), Goal(bound=8))
    yield against(both.row(), durable_too.row(), Goal(bound=8))
    yield against(both.row(), volatile.row(), Goal(bound=2))
    yield from (durable.row(), durable_too.row(), volatile.row())


@bench("deliberation.crowd", "500 deliberations at once, agents that take 200 ms")
def crowd(stand: Stand) -> Iterator[Row]:
    total = stand.size(500, 5)
    cpu, stores, seconds = [], [], []
    with ExitStack() as stack:
        engine = _Engine.start(stack, stand, 1)
        for turn in range(stand.runs + 1):
            number = total if turn else total // 5
            spent = stand.cpu()
            took, used = engine.deliberate(number, 0.2)
            if turn:
                cpu.append(used / (number * CALLS) * 1000)
                stores.append(spent() / (number * CALLS) * 1000)
                seconds.append(took)
    label = f"{total} deliberations at once, 200 ms agents"
    goal = Goal(bound=3, of="median", at_most=True)
    yield Row(name=f"engine CPU per agent call, {label}", unit="ms", runs=tuple(cpu), goal=goal)
    yield Row(name=f"CPU of the stores per agent call, {label}", unit="ms", runs=tuple(stores))
    yield Row(name=f"time until the last has ended, {label}", unit="s", runs=tuple(seconds))


@bench("deliberation.faults", "10 % of calls hang, 10 % are answered with nonsense, 5 % fail: deadlines and budgets")
def faults(stand: Stand) -> Iterator[Row]:
    """Deadlines are 6 s, which slow deliberations reach; budgets are 12,000 tokens, which are too few for some."""
    late, breaches, still_open = [], [], []
    total = stand.size(200, 5)
    for _ in range(stand.runs):
        with ExitStack() as stack:
            (part,) = _Engine.start(stack, stand, 1).parts
            part.ask(op="expect", delay_s=0.05, faulty=True)
            part.ask(op="deliberate", total=total, timeout_s=6.0, budget_tokens=_BUDGET)
            found = part.ask(op="kept_to")
            late.append(found["late_ms"])
            breaches.append(float(found["breaches"]))
            still_open.append(float(found["open"]))
    label = f"{total} deliberations amid faults"
    none = Goal(bound=0, of="median", at_most=True)
    limit = Goal(bound=250, of="median", at_most=True)
    yield Row(name=f"latest end after the deadline, {label}", unit="ms", runs=tuple(late), goal=limit)
    yield Row(name=f"budgets exceeded at any event, {label}", unit="deliberations", runs=tuple(breaches), goal=none)
    yield Row(name=f"without a terminal state, {label}", unit="deliberations", runs=tuple(still_open), goal=none)
