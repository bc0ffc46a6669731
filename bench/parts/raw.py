"""PostgreSQL alone, with the writes of the scheduler: per task an insert, two updates, and a log row for each of them.

A sequence numbers the log rows, without commit protocol, fence, readers or order, so this is an upper bound.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import Any

import asyncpg

from bench.parts.loop import Handlers, in_parallel, run
from cluster.domain.base.log import LogRecord, Origin
from cluster.domain.tasks.task import NewTask
from cluster.postgres.migrate import migrate

_numbers = itertools.count()
#: The same plans as the product's: rows are found by their key, also if the table was small when the plan was made.
_PLANS = {"random_page_cost": "1.1", "enable_seqscan": "off", "enable_bitmapscan": "off"}
_INSERT = """
insert into tasks (
    id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
    created_at, run_at, principal, region_routing_mode, origin_region, fallback_regions, required_capabilities, payload,
    metadata)
select id, 'bench', 1, 'default', 'noop', 50, 'pending', 'queued', 0, 0, 3, 300, $2, $2, 'user:bench', 'any', 'bench',
       '[]', '[]', '{}', '{}'
from unnest($1::text[]) as t (id)
"""
_CLAIM = """
update tasks set status = 'running', status_detail = 'running', attempt = 1, assigned_agent = 'bench-worker',
                 claim_id = 'claim', holder = 'user:bench', started_at = $2
where id = any ($1) and status || '' = 'pending'
"""
_COMPLETE = """
update tasks set status = 'completed', status_detail = 'completed', completed_at = $2
where id = any ($1) and status || '' = 'running'
"""
_LOG = """
insert into log (seq, at, workspace, kind, entity, attempt, principal, data, digest, epoch, cause, zone, v)
select nextval('raw_log'), $2, 'bench', $3, id, 1, 'user:bench', $4::json, $5, 1, '0123456789abcdef', 'bench', 2
from unnest($1::text[]) as t (id)
"""


def _record(kind: str, data: dict[str, Any]) -> tuple[str, str, bytes]:
    record = LogRecord(at=time.time(), workspace="bench", kind=kind, entity="task", data=data)
    text = record.data_json()
    return kind, text, record.digest(epoch=1, zone="bench", data_json=text, private_digest=None)


async def make() -> Handlers:
    schema = sys.argv[1]
    await migrate(os.environ["BENCH_DATABASE_URL"], schema)
    pool = await asyncpg.create_pool(
        os.environ["BENCH_DATABASE_URL"], min_size=4, max_size=4, server_settings={"search_path": schema, **_PLANS}
    )
    await pool.execute("create sequence raw_log cache 100")
    await pool.execute("select log_make_room($1)", 10**8)
    task = NewTask(id="task", origin=Origin(workspace="bench"), task_type="noop", created_at=time.time())
    steps = [
        (_INSERT, *_record("task.submitted", task.head().to_log())),
        (_CLAIM, *_record("task.claimed", {"agent_id": "bench-worker", "claim_id": "c" * 26, "wait_seconds": 0.01})),
        (_COMPLETE, *_record("task.completed", {"agent_id": "bench-worker", "duration_seconds": 0.01})),
    ]

    async def write(size: int) -> None:
        ids = [f"task_{next(_numbers):020d}" for _ in range(size)]
        async with pool.acquire() as connection:
            for change, kind, data, digest in steps:
                async with connection.transaction():
                    await connection.execute(change, ids, time.time())
                    await connection.execute(_LOG, ids, time.time(), kind, data, digest)

    async def submit(total: int, each: int) -> dict[str, Any]:
        await in_parallel(4, total, each, write)
        return {}

    return {"submit": submit}


if __name__ == "__main__":
    run(make)
