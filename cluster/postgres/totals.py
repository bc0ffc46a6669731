"""Counts what a list's filters match: truly up to a bound, beyond that by the planner's estimate."""

from __future__ import annotations

import json
from typing import Any

from cluster.ports.totals import EXACT_TO, Total
from cluster.postgres.pool import Pool


async def total_of(pool: Pool, matching: str, *filters: Any, first: str = "") -> Total:
    """The total of ``matching``, a statement with a row for each entry. ``first`` is the one to count up to the bound, if that
    is another. Raises: `StoreUnavailable`."""
    counted = int(
        await pool.value(f"select count(*) from ({first or matching} limit {EXACT_TO + 1}) as counted", *filters)
    )
    if counted <= EXACT_TO:
        return Total(counted)
    plan = json.loads(await pool.value(f"explain (format json) {matching}", *filters))
    return Total(max(int(plan[0]["Plan"]["Plan Rows"]), counted), exact=False)
