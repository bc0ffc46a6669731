"""What it takes to learn weights: a large fit, and what the learner does as outcomes come in."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Goal, Row, bench
from bench.scheduler import schema
from bench.stand import Stand


@bench("learning.fit", "100,000 outcomes of 100 agents and 20 kinds of questions at once")
def fit(stand: Stand) -> Iterator[Row]:
    outcomes, agents, kinds = stand.size(100_000, 2_000), stand.size(100, 10), stand.size(20, 4)
    answers = []
    for _ in range(stand.runs):
        with stand.part("bench.parts.learn") as part:  # the peak of memory is that of a process
            answers.append(part.ask(op="fit", outcomes=outcomes, agents=agents, kinds=kinds))
    label = f"fit weights on {outcomes:,} outcomes of {agents} agents and {kinds} kinds"
    yield Row(
        name=f"{label}: CPU",
        unit="s",
        runs=tuple(answer["seconds"] for answer in answers),
        goal=Goal(bound=10, of="median", at_most=True),
    )
    yield Row(
        name=f"{label}: peak memory of the process",
        unit="MB",
        runs=tuple(answer["peak"] for answer in answers),
        goal=Goal(bound=500, of="median", at_most=True),
        note=f"{answers[0]['before']:.0f} before the fit, with the outcomes",
    )


@bench(
    "learning.update", "a learner that has fitted 5,000 outcomes of 7 agents and 14 kinds of questions, on PostgreSQL"
)
def update(stand: Stand) -> Iterator[Row]:
    first, due = stand.size(5_000, 400), 100
    size = {"agents": 7, "kinds": stand.size(14, 2)}
    checks, fits = [], []
    with stand.part("bench.parts.learn", schema(stand)) as part:
        part.ask(op="record", outcomes=first, **size)
        for _ in range(stand.runs):
            checks.append(part.ask(op="record", outcomes=1, **size)["ms"])
            fits.append(part.ask(op="record", outcomes=due - 1, **size)["ms"])
    goal = Goal(bound=50, of="median", at_most=True)
    yield Row(name="an outcome more, after which no fit is due: the learner", unit="ms", runs=tuple(checks), goal=goal)
    yield Row(name=f"{due} outcomes more, after which one is: the learner", unit="ms", runs=tuple(fits), goal=goal)
