"""The shard's core alone: what a claim costs with so many tasks pending in front of the matching work."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from typing import Any

from bench.parts.loop import Handlers, run
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.events import Complete, Reporter
from cluster.domain.tasks.task import NewTask, TaskHead

ORIGIN = Origin(workspace="bench", principal="user:bench")
NOW = 1_700_000_000.0


def _head(number: int, created_at: float, required: tuple[str, ...]) -> TaskHead:
    return NewTask(
        id=f"task_{number:026d}", origin=ORIGIN, task_type="noop", created_at=created_at, required_capabilities=required
    ).head()


_rounds = itertools.count()
_cores: list[SchedulerCore] = []


def _settled() -> None:
    gc.collect()
    gc.freeze()


async def fill(pending: int) -> dict[str, Any]:
    """A new core with ``pending`` tasks for nobody here, in place of the one before."""
    _cores.clear()
    gc.unfreeze()
    gc.collect()
    started = time.perf_counter()
    core = SchedulerCore(lease_ttl_s=30.0)
    core.load((_head(n, NOW + n * 1e-6, (f"other-{n % 10}",)) for n in range(pending)), NOW + 3)
    _cores.append(core)
    return {"seconds": time.perf_counter() - started}


async def claims(pending: int, sets: int, claims: int) -> dict[str, Any]:
    """p99 of a claim with its decision, in microseconds, and the longest stop of everything, in milliseconds.

    The matching work, spread over ``sets`` requirement sets, is younger than all that is pending, and is used up.
    """
    (core,) = _cores
    first = pending + next(_rounds) * claims
    core.load((_head(first + n, NOW + 2 + n * 1e-6, (f"mine-{n % sets}",)) for n in range(claims)), NOW + 3)
    _settled()
    capabilities = frozenset(f"mine-{n}" for n in range(sets))
    stops: list[float] = []
    took = [_claim(core, number, capabilities, stops) for number in range(claims)]
    return {
        "p50_us": statistics.median(took) * 1e6,
        "p99_us": statistics.quantiles(took, n=100)[98] * 1e6,
        "longest_ms": max(stops) * 1e3,
    }


def _claim(core: SchedulerCore, number: int, capabilities: frozenset[str], stops: list[float]) -> float:
    """One claim and its report. The claim is timed; the whole is a candidate for the longest stop."""
    now = NOW + 3 + number * 1e-3
    request = ClaimRequest(
        workspace="bench",
        agent_id="worker",
        principal=ORIGIN.principal,
        capabilities=capabilities,
        max_concurrency=8,
        max_tasks=1,
        claim_id=f"claim_{number}",
        client_claim_id=True,
    )
    started = time.perf_counter()
    grants = core.claim(request, None, now)
    core.take_output(now)
    took = time.perf_counter() - started
    assert grants is not None
    (grant,) = grants
    by = Reporter(principal=ORIGIN.principal, agent_id="worker", attempt=grant.head.attempt)
    core.report(grant.head.id, "bench", Complete(by=by), now)
    core.take_output(now)
    stops.append(time.perf_counter() - started)
    return took


async def make() -> Handlers:
    return {"fill": fill, "claims": claims}


if __name__ == "__main__":
    run(make)
