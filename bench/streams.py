"""What streams of events cost: how late events arrive, the memory of idle streams, and how they slow the claims of others."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from bench.system import Running, shared

#: A task of this bench is submitted, claimed and completed.
EVENTS_OF_A_TASK = 3
EVENTS_A_SECOND = 200
SETTLE_S = 5


def _resident_mb(running: Running) -> float:
    """Of the API's replicas; there is one."""
    return sum(process.memory_info().rss for process in running.roles()["replica"]) / 1e6


def _work(stand: Stand, agents: Part, capability: str) -> float:
    """Works at the rate of the goal; the p50 in ms from a submit to its agent having the task."""
    rate = EVENTS_A_SECOND / EVENTS_OF_A_TASK
    seconds = stand.size(20, 2)
    got: float = agents.ask(op="submit", rate=rate, seconds=seconds, capability=capability)["p50"]
    return got


@bench("streams.fanout", "2,000 streams of all events of one replica, 200 events a second, through HAProxy", ray=True)
def fanout(stand: Stand) -> Iterator[Row]:
    running, total = shared(stand), stand.size(2_000, 40)
    alone: list[float] = []
    beside: list[float] = []
    one: list[float] = []
    lags: list[float] = []
    memory: list[float] = []
    events = 0
    with stand.part("bench.parts.http", running.api_url, stand.name()) as agents:
        agents.ask(op="wait", agents=stand.size(50, 5), capability="streams")
        _work(stand, agents, "streams")  # the first run warms up
        for _ in range(stand.runs):
            with stand.part("bench.parts.streams", running.api_url) as streams:
                alone.append(_work(stand, agents, "streams"))
                streams.ask(op="open", total=1)
                _work(stand, agents, "streams")
                one.append(streams.ask(op="lags")["p99"])
                before = _resident_mb(running)
                streams.ask(op="open", total=total)
                time.sleep(SETTLE_S if not stand.quick else 0)
                memory.append(max(0.0, _resident_mb(running) - before))
                streams.ask(op="forget")
                beside.append(_work(stand, agents, "streams"))
                answer = streams.ask(op="lags")
                lags.append(answer["p99"])
                events = answer["events"]
                streams.ask(op="leave")
    a_second = events / stand.size(20, 2)
    yield Row(
        name="event to a stream, one stream, p99",
        unit="ms",
        runs=tuple(one),
        goal=Goal(bound=50, of="median", at_most=True),
        note="from the time of its row, so with its commit",
    )
    yield Row(
        name=f"memory of {total:,} idle streams",
        unit="MB",
        runs=(memory[0],),
        goal=Goal(bound=60, of="median", at_most=True),
        note="the replica, in the first run: later ones find memory that it has freed",
    )
    yield Row(
        name=f"event to a stream, {total:,} streams, p99",
        unit="ms",
        runs=tuple(lags),
        goal=Goal(bound=150, of="median", at_most=True),
        note=f"each stream gets all events: {a_second:.0f} a second",
    )
    without = Row(name="submit to agent has it, no streams, p50", unit="ms", runs=tuple(alone))
    busy = Row(name=f"submit to agent has it, beside {total:,} streams, p50", unit="ms", runs=tuple(beside))
    yield against(busy, without, Goal(bound=1.2, at_most=True))
    yield without
