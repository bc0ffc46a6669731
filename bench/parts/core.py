"""The scheduler core alone: what a claim costs while many older tasks wait that the agent cannot do."""

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
    """Replaces the core by a new one with ``pending`` tasks that no agent of this bench can do."""
    _cores.clear()
    gc.unfreeze()
    gc.collect()
    started = time.perf_counter()
    core = SchedulerCore(lease_ttl_s=30.0)
    core.load((_head(n, NOW + n * 1e-6, (f"other-{n % 10}",)) for n in range(pending)), NOW + 3)
    _cores.append(core)
    return {"seconds": time.perf_counter() - started}


async def claims(pending: int, sets: int, claims: int) -> dict[str, Any]:
    """Microseconds of a claim with its decision (p50, p99), and the longest claim with its report, in milliseconds.

    The tasks that the agent can do are spread over ``sets`` sets of required capabilities. They are younger than all
    pending tasks, and the claims take all of them.
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
    """One claim and its report; the seconds of the claim. ``stops`` gets the seconds of both."""
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
    core.carry_out(*core.consider(grant.head.id, "bench", Complete(by=by), now), now)
    core.take_output(now)
    stops.append(time.perf_counter() - started)
    return took


async def make() -> Handlers:
    return {"fill": fill, "claims": claims}


if __name__ == "__main__":
    run(make)
