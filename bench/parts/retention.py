"""The part that removes old tasks: ``python -m bench.parts.retention SCHEMA``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from actors.retention import RetentionKeeper
from bench.parts.loop import Handlers, run
from cluster.domain.audit.retention import RetentionRule
from cluster.postgres.stores import open_stores
from cluster.process.clock import SystemClock

RULE = RetentionRule(task_days=30, task_count=0, deliberation_days=0, deliberation_count=0)


async def make() -> Handlers:
    stores = await open_stores(os.environ["BENCH_DATABASE_URL"], sys.argv[1], "bench", max_connections=2)
    keeper = RetentionKeeper(
        store=stores.retention, region=stores.region, default=RULE, window_s=86_400.0, clock=SystemClock()
    )

    async def remove() -> dict[str, Any]:
        started = time.perf_counter()
        await keeper.look()
        return {"seconds": time.perf_counter() - started}

    return {"remove": remove}


if __name__ == "__main__":
    run(make)
