"""Ten thousand agents over HTTP: registering them, listing them, hearing from them."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Goal, Row, bench
from bench.stand import Stand
from bench.system import shared
from cluster.domain.selection import Strategy

BEATS_PER_S = 5_000


@bench("agents.registry", "10,000 agents registered in batches, then a filtered list of them", ray=True)
def registry(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    number = stand.size(10_000, 100)
    seconds, p50, p99 = [], [], []
    with stand.part("bench.parts.http", running.api_url, stand.name()) as client:
        for turn in range(stand.runs):
            answer = client.ask(op="register", agents=number, each=500, prefix=f"fleet-{turn}" if turn else "fleet")
            seconds.append(answer["seconds"])
            if turn == 0:  # the lists see exactly this many
                for _ in range(stand.runs):
                    answer = client.ask(op="lists", times=stand.size(300, 10), capability="rare-7")
                    assert answer["agents"] == number // 100
                    p50.append(answer["p50"])
                    p99.append(answer["p99"])
    label = f"{number:,} agents"
    yield Row(
        name=f"register {label} over HTTP, 500 per call",
        unit="s",
        runs=tuple(seconds),
        goal=Goal(bound=30, of="median", at_most=True),
    )
    name = f"list by capability over HTTP, 1 % of {label}"
    yield Row(name=f"{name}, p50", unit="ms", runs=tuple(p50))
    yield Row(name=f"{name}, p99", unit="ms", runs=tuple(p99), goal=Goal(bound=20, of="median", at_most=True))


@bench("agents.heartbeats", "5,000 heartbeats a second in batches of 500", ray=True)
def heartbeats(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    number, seconds = stand.size(10_000, 500), stand.size(5, 1)
    cores, shares = [], []
    with stand.part("bench.parts.http", running.api_url, stand.name()) as client:
        client.ask(op="register", agents=number, each=500, prefix="beating")
        for _ in range(stand.runs):
            idle = running.cpu(stand)
            client.ask(op="rest", seconds=2)
            at_rest = idle()["all"] / 2
            spent = running.cpu(stand, client)
            answer = client.ask(
                op="beats", agents=number, each=500, rate=BEATS_PER_S, seconds=seconds, prefix="beating"
            )
            used = spent()
            cores.append((used["all"] - used["client"]) / answer["seconds"])
            shares.append(at_rest)
    yield Row(
        name=f"CPU of the control plane at {BEATS_PER_S:,} heartbeats/s",
        unit="cores",
        runs=tuple(cores),
        goal=Goal(bound=0.5, of="median", at_most=True),
        note="all of Ray, the actors, Postgres and Redis",
    )
    yield Row(name="CPU of the control plane at rest", unit="cores", runs=tuple(shares))


@bench("agents.selection", "who gets the next task, among 10,000 agents that are called")
def selection(stand: Stand) -> Iterator[Row]:
    number, choices = stand.size(10_000, 100), stand.size(20_000, 500)
    with stand.part("bench.parts.choosing") as part:
        for strategy in Strategy:
            answers = [
                part.ask(op="choose", strategy=strategy.value, agents=number, choices=choices)
                for _ in range(stand.runs)
            ]
            yield Row(
                name=f"choose among {number:,} agents, {strategy.value}, p99",
                unit="ms",
                runs=tuple(answer["p99"] for answer in answers),
                goal=Goal(bound=20, of="median", at_most=True),
                note=f"p50 {answers[0]['p50']:.4f} ms, ranking everybody {answers[0]['first']:.0f} ms",
            )
