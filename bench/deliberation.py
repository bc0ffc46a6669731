"""Deliberations of no-op agents beside LangGraph and AutoGen, and what one agent call costs the engine."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Goal, Row, against, bench
from bench.scheduler import schema
from bench.stand import Stand
from cluster.embedded.ports import free_ports

AT_ONCE = 50


@bench("deliberation.rate", "3 agents that answer at once, 3 rounds, 21 calls, durable", peers=True)
def rate(stand: Stand) -> Iterator[Row]:
    (port,) = free_ports(1)
    sizes = {"ours": stand.size(200, 4), "langgraph": stand.size(40, 2), "autogen": stand.size(100, 2)}
    rates: dict[str, list[float]] = {name: [] for name in sizes}
    module = "bench.peers.on_autogen"
    with (
        stand.part("bench.parts.deliberate", schema(stand)) as ours,
        stand.part("bench.peers.on_langgraph", stand.name()) as langgraph,
        stand.part(module, "agents", str(port)),
        stand.part(module, "caller", str(port)) as autogen,
    ):
        for turn in range(stand.runs + 1):
            seconds = {
                "ours": ours.ask(op="deliberate", total=sizes["ours"], delay_s=0)["seconds"],
                "langgraph": langgraph.ask(op="deliberate", total=sizes["langgraph"], at_once=AT_ONCE)["seconds"],
                "autogen": autogen.ask(op="deliberate", total=sizes["autogen"], at_once=AT_ONCE)["seconds"],
            }
            if turn:  # the first is a warm-up
                for name, took in seconds.items():
                    rates[name].append(sizes[name] / took)
    unit = "deliberations/s"
    row = Row(name="deliberations of 21 calls, durable", unit=unit, runs=tuple(rates["ours"]))
    durable = Row(name="LangGraph with its Postgres checkpointer", unit=unit, runs=tuple(rates["langgraph"]))
    volatile = Row(name="AutoGen on its gRPC runtime, not durable", unit=unit, runs=tuple(rates["autogen"]))
    yield against(row, durable, Goal(bound=8))
    yield against(row, volatile, Goal(bound=2))
    yield from (durable, volatile)


@bench("deliberation.crowd", "500 deliberations at once, agents that take 200 ms")
def crowd(stand: Stand) -> Iterator[Row]:
    total = stand.size(500, 5)
    cpu, stores, seconds = [], [], []
    with stand.part("bench.parts.deliberate", schema(stand)) as ours:
        for turn in range(stand.runs + 1):
            spent = stand.cpu()
            answer = ours.ask(op="deliberate", total=total if turn else total // 5, delay_s=0.2)
            if turn:
                cpu.append(answer["cpu"] / answer["calls"] * 1000)
                stores.append(spent() / answer["calls"] * 1000)
                seconds.append(answer["seconds"])
    label = f"{total} deliberations at once, 200 ms agents"
    goal = Goal(bound=3, of="median", at_most=True)
    yield Row(name=f"engine CPU per agent call, {label}", unit="ms", runs=tuple(cpu), goal=goal)
    yield Row(name=f"CPU of the stores per agent call, {label}", unit="ms", runs=tuple(stores))
    yield Row(name=f"time until the last has ended, {label}", unit="s", runs=tuple(seconds))
