"""Fits weights in a process of its own: ``python -m bench.parts.learn [SCHEMA]``; with a schema, a learner on a store does."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.parts.loop import Handlers, run
from cluster.domain.base.log import Origin
from cluster.domain.consensus.learned import build_snapshot
from cluster.domain.consensus.learning import NewOutcome
from cluster.domain.consensus.outcomes import Outcome

if TYPE_CHECKING:  # a fit needs no store, and its peak of memory is measured
    from cluster.learning.weight_learner import Learner
    from cluster.ports.outcomes import OutcomeStore

OPTIONS = tuple("ABCDEFGHIJ")
ORIGIN = Origin(workspace="bench", principal="user:bench")
EACH = 1_000


def peak_mb() -> float:
    """The most memory that this process has ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def panel(agents: int) -> list[str]:
    return [f"agent-{number:03}" for number in range(agents)]


def made_up(outcomes: int, agents: int, kinds: int, seed: int) -> list[Outcome]:
    """Outcomes of agents each of which is better at some kinds than at others."""
    rng = np.random.default_rng(seed)
    skill = np.random.default_rng(0).uniform(0.3, 0.85, (kinds, agents))
    names, options = panel(agents), np.array(OPTIONS)
    found = []
    for number in range(outcomes):
        right, wrong = rng.integers(len(OPTIONS)), rng.integers(len(OPTIONS), size=agents)
        votes = options[np.where(rng.random(agents) < skill[number % kinds], right, wrong)].tolist()
        found.append(
            Outcome(
                votes=dict(zip(names, votes, strict=True)),
                right=OPTIONS[right],
                options=OPTIONS,
                kind=f"kind-{number % kinds}",
            )
        )
    return found


async def fit(outcomes: int, agents: int, kinds: int) -> dict[str, Any]:
    """CPU seconds of a fit, and the peak of memory before and after it, in MB."""
    material = made_up(outcomes, agents, kinds, seed=1)
    before, started = peak_mb(), time.process_time()
    snapshot = build_snapshot(material, panel(agents))
    spent = time.process_time() - started
    assert snapshot.kinds is not None
    assert len(snapshot.kinds.by_kind) == kinds
    return {"seconds": spent, "before": before, "peak": peak_mb()}


class Following:
    """A learner that follows outcomes as they are recorded in its store."""

    def __init__(self, learner: Learner, store: OutcomeStore) -> None:
        self._learner = learner
        self._store = store
        self._recorded = 0

    async def record(self, outcomes: int, agents: int, kinds: int) -> dict[str, Any]:
        """Records outcomes, then times what the learner does about them, in milliseconds."""
        material = made_up(outcomes, agents, kinds, seed=self._recorded)
        for first in range(0, outcomes, EACH):
            await self._store.record(
                [
                    NewOutcome(
                        id=f"outcome-{self._recorded + number}",
                        origin=ORIGIN,
                        at=time.time(),
                        outcome=outcome,
                        panel=tuple(panel(agents)),
                        source="import",
                    )
                    for number, outcome in enumerate(material[first : first + EACH], start=first)
                ]
            )
        self._recorded += outcomes
        started = time.perf_counter()
        await self._learner.refresh(ORIGIN.workspace)
        took = (time.perf_counter() - started) * 1000
        newest = await self._store.newest(ORIGIN.workspace)
        return {"ms": took, "version": newest[0].head.version, "outcomes": newest[0].snapshot.outcomes}


async def make() -> Handlers:
    if len(sys.argv) < 2:
        return {"fit": fit}
    from cluster.learning.weight_learner import Learner, owners_from
    from cluster.postgres.stores import open_stores
    from cluster.process.clock import SystemClock

    stores = await open_stores(os.environ["BENCH_DATABASE_URL"], sys.argv[1], "bench", max_connections=4)
    learner = Learner(stores.outcomes, owners_from(stores.agents), SystemClock())
    return {"record": Following(learner, stores.outcomes).record}


if __name__ == "__main__":
    run(make)
