"""What tasks of resident workspaces hold, as samples to look for elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("residency")


async def resident_texts(pool: Pool, zone: str, most: int) -> Sequence[tuple[str, str, str]]:
    """(task id, which field, its JSON) of the newest ``most`` tasks that are resident in a zone.

    Raises: `StoreUnavailable`."""
    rows = await pool.rows(_SQL["samples"], zone, most)
    return [(row["id"], name, row[name]) for row in rows for name in ("payload", "result") if row[name] is not None]
