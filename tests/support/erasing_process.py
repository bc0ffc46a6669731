"""Erases a workspace in a process of its own, as a replica does, until a test kills it:
``python -m tests.support.erasing_process URL SCHEMA REGION WORKSPACE BATCH``."""

from __future__ import annotations

import asyncio
import sys

from cluster.domain.audit.erasure import Scope
from cluster.domain.base.log import Origin
from cluster.postgres.stores import open_stores
from cluster.process.clock import SystemClock
from serve_app import erasing
from serve_app.signing import ReceiptSigner


async def main(url: str, schema: str, region: str, workspace: str, batch: str) -> None:
    stores = await open_stores(url, schema, region, max_connections=2)
    clock = SystemClock()
    eraser = erasing.Eraser(
        erasures=stores.erasures,
        deliberations=stores.deliberations,
        schedules=stores.schedules,
        workflows=stores.workflows,
        hooks=stores.hooks(()),
        signing=ReceiptSigner(stores.signing_keys(()), None),
        clock=clock,
        asker=Origin(workspace=workspace),
        scope=Scope.WORKSPACE,
        target=workspace,
        dry_run=False,
    )
    erasing.BATCH = int(batch)  # type: ignore[misc]
    await eraser.run(erasing.Progress(erasure="erasure_killed", until=clock.now()), begins=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
