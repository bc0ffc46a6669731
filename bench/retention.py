"""What submits cost while 10^6 old tasks go, and how fast those go."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.harness import Goal, Row, against, bench
from bench.stand import Stand
from cluster.domain.base.log import Origin
from cluster.domain.tasks.task import NewTask
from cluster.ports.tasks import SubmitItem
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores

#: Tasks that ended long ago, every tenth with metadata that can be searched, each with three rows of the log, one of them with
#: words.
_FILL = """
with filled as (
    insert into tasks (
        id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
        created_at, run_at, started_at, completed_at, assigned_agent, principal, region_routing_mode, origin_region,
        fallback_regions, required_capabilities, payload, metadata, result)
    select 'task_' || lpad(n::text, 26, '0'), 'default', 1, 'default', 'type-' || n % 20, 50, 'completed', 'completed',
           1, 0, 3, 300, 1.6e9 + n, 1.6e9 + n, 1.6e9 + n, 1.6e9 + n, 'agent-' || n % 1000, 'user:bench', 'any', 'bench', '[]',
           '[]', '{"n": 1}', case when n % 10 = 0 then json_build_object('pr', n) else '{}' end, '{"ok": true}'
    from generate_series($1::bigint, $2::bigint) n
)
insert into log (seq, epoch, at, workspace, kind, entity, principal, cause, zone, data, private, private_digest, digest, v)
select 3 * n + k, 1, 1.6e9 + n, 'default', (array['task.submitted', 'task.claimed', 'task.completed'])[k + 1],
       'task_' || lpad(n::text, 26, '0'), 'user:bench', '', 'bench', '{"status": "completed"}',
       case k when 2 then '{"salt": "00", "words": {"summary": "as it was written"}}' end, case k when 2 then '\\x00'::bytea end,
       '\\x00', 2
from generate_series($1::bigint, $2::bigint) n cross join generate_series(0, 2) k order by 1
"""
STEP = 20_000
#: Writers of submits, and tasks of one of their commits.
WRITERS, EACH = 4, 20
_numbers = itertools.count(1)


def _items() -> list[SubmitItem]:
    origin, now = Origin(workspace="default"), time.time()
    return [
        SubmitItem(task=NewTask(id=f"new_{next(_numbers):026}", origin=origin, task_type="echo", created_at=now))
        for _ in range(EACH)
    ]


async def _submits(stores: Stores, goes_on: Callable[[float], bool]) -> float:
    """ms per commit of submits, in the mean, for as long as ``goes_on`` says of the seconds that have passed."""
    took, started = list[float](), time.perf_counter()

    async def writer() -> None:
        while goes_on(time.perf_counter() - started):
            items, began = _items(), time.perf_counter()
            await stores.tasks.submit(items)
            took.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    return sum(took) / len(took)


async def _measured(stand: Stand, total: int) -> tuple[float, float, float]:
    """ms per commit without and with retention, and the tasks that it removed per second."""
    schema = stand.name()
    await migrate(stand.database_url, schema)
    stores = await open_stores(stand.database_url, schema, "bench")
    try:
        await stores.pool.execute("select log_make_room($1)", 3 * total + 3)
        for first in range(1, total + 1, STEP):
            await stores.pool.execute(_FILL, first, min(first + STEP - 1, total))
        await stores.pool.execute("vacuum analyze tasks, log")
        await stores.pool.execute("checkpoint")
        seconds = stand.size(10, 1)
        await _submits(stores, lambda passed: passed < seconds)  # warms up
        before = await _submits(stores, lambda passed: passed < seconds)
        with stand.part("bench.parts.retention", schema) as part, ThreadPoolExecutor(1) as threads:
            answer = threads.submit(part.ask, op="remove")
            during = await _submits(stores, lambda _: not answer.done())
            removed = await stores.pool.value("select count(*) from task_stubs")
            after = await _submits(stores, lambda passed: passed < seconds)
        assert removed == total, f"{removed} of {total} are removed"
        return (before + after) / 2, during, total / answer.result()["seconds"]
    finally:
        await stores.close()


@bench("retention.submits", "submits while 10^6 old tasks are removed")
def submits(stand: Stand) -> Iterator[Row]:
    total = stand.size(1_000_000, 2_000)
    without, during, rate = asyncio.run(_measured(stand, total))  # once: it takes as long as all of them need to go
    first = Row(name="a commit of 20 submits, 4 writers", unit="ms", runs=(without,), note="before and after")
    yield first
    then = Row(name=f"a commit of 20 submits, 4 writers, while {total:,} tasks go", unit="ms", runs=(during,))
    yield against(then, first, Goal(bound=1.2, at_most=True))
    yield Row(name="old tasks removed meanwhile", unit="tasks/s", runs=(rate,))
