"""What a page of a search costs with 10^6 tasks: found or not, first or last, from the store that the API asks."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping

from bench.harness import Goal, Row, bench
from bench.stand import Stand
from cluster.domain.base.conditions import parse_search
from cluster.ports.tasks import TaskQuery
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores

#: Every tenth task is of another environment, every third of a tenant, each value of ``pr`` on 20 of a million.
_FILL = """
insert into tasks (
    id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
    created_at, run_at, started_at, completed_at, assigned_agent, principal, region_routing_mode, origin_region,
    fallback_regions, required_capabilities, payload, metadata, rules, result)
select 'task_' || lpad(n::text, 26, '0'), 'default', 1, 'default', 'type-' || n % 20, 50, 'completed', 'completed',
       1, 0, 3, 300, 1.7e9 + n, 1.7e9 + n, 1.7e9 + n, 1.7e9 + n, 'agent-' || n % 1000, 'user:bench', 'any', 'bench', '[]', '[]',
       '{"n": 1}',
       json_build_object('env', case when n % 10 = 0 then 'dev' else 'prod' end, 'half', n % 2, 'pr', n % 50000,
                         'tags', json_build_array('nightly')),
       case when n % 3 = 0 then '{"tenant": "acme"}'::json end, '{"ok": true}'
from generate_series($1::bigint, $2::bigint) n
"""
STEP = 20_000
BEGIN = 1.7e9


def _searches(total: int) -> Mapping[str, tuple[str, ...]]:
    return {
        "metadata, 20 tasks of 10^6": ("metadata.pr=17",),
        "metadata, nearly all tasks": ("metadata.env=prod",),
        "metadata, no task": ("metadata.pr=none",),
        "tag, all tasks": ("tag=nightly",),
        "tenant, a third": ("tenant=acme",),
        "agent, one in a thousand": ("agent=agent-17",),
        "agent, no task": ("agent=none",),
        "two halves that exclude each other": ("metadata.half=0", "metadata.half=1"),
        "metadata and agent": ("metadata.env=dev", "agent=agent-17"),
        "created within a hundred seconds": (
            f"created>={BEGIN + total / 2:.0f}",
            f"created<{BEGIN + total / 2 + 100:.0f}",
        ),
        "ended within a hundred seconds": (f"ended>={BEGIN + total / 2:.0f}", f"ended<{BEGIN + total / 2 + 100:.0f}"),
        "part of an id, no task": ("id~none",),
        "part of a type, one in twenty": ("type~type-17",),
        "part of a type, no task": ("type~none",),
    }


async def _p99s(stores: Stores, where: tuple[str, ...], total: int, times: int) -> float:
    """The p99 in ms of a search's first, middle and last pages."""
    search, took = parse_search(where), []
    for before in (None, (BEGIN + total / 2, "task"), (BEGIN + min(150, total / 2), "task")):
        for _ in range(times):
            started = time.perf_counter()
            await stores.tasks.search(TaskQuery(workspace="default", before=before), search)
            took.append((time.perf_counter() - started) * 1000)
    return statistics.quantiles(took, n=100)[98]


async def _measured(stand: Stand, total: int) -> dict[str, list[float]]:
    schema = stand.name()
    await migrate(stand.database_url, schema)
    stores = await open_stores(stand.database_url, schema, "bench")
    try:
        for first in range(1, total + 1, STEP):
            await stores.pool.execute(_FILL, first, min(first + STEP - 1, total))
        await stores.pool.execute("checkpoint")  # else what was written reaches the disk while searches are measured
        times, found = stand.size(100, 5), dict[str, list[float]]()
        for what, where in _searches(total).items():
            runs = [await _p99s(stores, where, total, times) for _ in range(stand.runs + 1)]
            found[what] = runs[1:]
        return found
    finally:
        await stores.close()


@bench("search.pages", "pages of searches with 10^6 tasks, of which the planner has no statistics yet")
def pages(stand: Stand) -> Iterator[Row]:
    total = stand.size(1_000_000, 2_000)
    for what, runs in asyncio.run(_measured(stand, total)).items():
        goal = Goal(bound=50, of="median", at_most=True)
        yield Row(
            name=f"search: {what}, p99", unit="ms", runs=tuple(runs), goal=goal, note="without the API's own time"
        )
