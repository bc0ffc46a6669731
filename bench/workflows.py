"""What a fan-out of 10^4 costs: how fast its tasks are done beside plain ones, and what other tenants notice of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from bench.system import shared

RATE = 50


@bench("workflows.fan-out", "a fan-out of 10^4 with 64 workers over HTTP, beside 10^4 plain tasks", ray=True)
def fan_out(stand: Stand) -> Iterator[Row]:
    running = shared(stand)
    total, agents, seconds = stand.size(10_000, 100), stand.size(64, 4), stand.size(4, 1)
    rates: dict[str, list[float]] = {"plain": [], "fan_out": []}
    claims: dict[str, list[float]] = {"rest": [], "plain": [], "fan_out": []}
    with (
        stand.part("bench.parts.http", running.api_url, stand.name()) as fleet,
        stand.part("bench.parts.http", running.api_url, stand.name()) as others,
    ):
        fleet.ask(op="wait", agents=agents, capability="fan")
        others.ask(op="wait", agents=4, capability="other")
        for run in range(stand.runs + 1):
            found = {"rest": _claims(others, seconds)}
            for op in ("plain", "fan_out"):
                fleet.start(op=op, total=total, capability="fan")
                found[op] = _claims(others, seconds)
                if run > 0:
                    rates[op].append(total / fleet.answer()["seconds"])
                else:
                    fleet.answer()  # warms up
            for name, p99 in found.items():
                if run > 0:
                    claims[name].append(p99)
        others.ask(op="leave")
        fleet.ask(op="leave")
    workers = f"{agents} workers over HTTP"
    plain = Row(name=f"{total:,} plain tasks, {workers}", unit="tasks/s", runs=tuple(rates["plain"]))
    yield against(
        Row(name=f"a fan-out of {total:,}, {workers}", unit="tasks/s", runs=tuple(rates["fan_out"])),
        plain,
        Goal(bound=0.7),
    )
    yield plain
    beside: dict[str, Any] = {
        name: Row(name=f"claims of another tenant, {words}, p99", unit="ms", runs=tuple(claims[name]))
        for name, words in (("rest", "alone"), ("plain", "beside plain tasks"), ("fan_out", "beside a fan-out"))
    }
    yield against(beside["fan_out"], beside["plain"], Goal(bound=1.3, at_most=True))
    yield beside["plain"]
    yield beside["rest"]


def _claims(others: Part, seconds: float) -> float:
    """The p99 in ms from the submit of another tenant's tasks until its agents have them."""
    return float(others.ask(op="submit", rate=RATE, seconds=seconds, capability="other", tenant="other")["p99"])
