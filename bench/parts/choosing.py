"""Chooses among many called agents, as a host does for every task: a choice, then a changed load or latency."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import replace
from typing import Any

from bench.parts.loop import Handlers, run
from cluster.domain.agents.selection import Candidate, Ranking, Strategy

SLOTS = 4
#: One in so many choices also changes the chosen agent's latency and success.
LEARNS_EVERY = 10


def _fleet(agents: int, dice: random.Random) -> dict[str, Candidate]:
    return {
        f"agent-{number}": Candidate(
            agent_id=f"agent-{number}",
            slots=SLOTS,
            latency_ms=dice.uniform(10, 2000),
            success=dice.random(),
            cost=dice.uniform(0.1, 60),
            region=f"r{number % 3}",
        )
        for number in range(agents)
    }


async def choose(strategy: str, agents: int, choices: int) -> dict[str, Any]:
    """Milliseconds of a choice with its changes, and of the first ranking of all agents."""
    dice = random.Random(7)
    fleet = _fleet(agents, dice)
    started = time.perf_counter()
    ranking = Ranking(Strategy(strategy), region="r1")
    for candidate in fleet.values():
        ranking.put(candidate)
    first = (time.perf_counter() - started) * 1000
    took: list[float] = []
    busy: list[str] = []
    for number in range(1, choices + 1):
        draw, latency = dice.random(), dice.uniform(10, 3000)
        started = time.perf_counter()
        chosen = ranking.choose(draw=draw)
        assert chosen is not None
        fleet[chosen] = replace(fleet[chosen], load=fleet[chosen].load + 1, chosen=number)
        ranking.put(fleet[chosen])
        busy.append(chosen)
        if len(busy) > agents:
            done = busy.pop(0)
            fleet[done] = replace(fleet[done], load=fleet[done].load - 1)
            ranking.put(fleet[done])
        if number % LEARNS_EVERY == 0:
            fleet[chosen] = replace(fleet[chosen], latency_ms=latency, success=draw)
            ranking.put(fleet[chosen])
        took.append((time.perf_counter() - started) * 1000)
    return {"p50": statistics.median(took), "p99": statistics.quantiles(took, n=100)[98], "first": first}


async def make() -> Handlers:
    return {"choose": choose}


if __name__ == "__main__":
    run(make)
