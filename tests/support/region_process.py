"""One region as a process of its own, without Ray: ``python -m tests.support.region_process``, with settings in its environment.

What the API would do stands in it: ``submit`` commits tasks by the commit function and answers when they are replicated.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from actors.composition.region_process import region_process
from cluster.ports.tasks import SubmitItem
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from cluster.process.loops import end_process
from cluster.settings import load_settings
from regions.control import ControlSocket
from regions.process import ZONE, RegionProcess
from tests.support.samples import new_task
from tests.support.shells import Bell

#: Longer than any answer that is not lost.
ANSWER_S = 20.0


def work_socket(control: Path) -> Path:
    """Where the region takes tasks."""
    return control.with_name(f"{control.name}.work")


class Work:
    def __init__(self, stores: Stores, process: RegionProcess) -> None:
        self._stores = stores
        self._shell = process.shell

    async def submit(self, ids: list[str]) -> dict[str, Any]:
        refused = self._shell.why_not_write()
        if refused is not None:
            raise refused
        epoch = await self._stores.region.epoch()
        outcomes = await self._stores.tasks.submit([SubmitItem(task=new_task(id=name)) for name in ids])
        head = max(outcome.seq for outcome in outcomes if outcome.seq is not None)
        self._shell.committed(head)
        await self._shell.replicated(epoch, head, ANSWER_S)
        return {"epoch": epoch, "seq": head}

    async def tasks(self) -> list[str]:
        return sorted(row["id"] for row in await self._stores.pool.rows("select id from tasks"))


async def main() -> None:
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.region_socket is not None
    url = settings.database_url.get_secret_value()
    await migrate(url, settings.database_schema)
    stores = await open_stores(url, settings.database_schema, ZONE, max_connections=6, alone=False)
    process = region_process(settings, stores, Bell(), SystemClock(), end_process)
    work = Work(stores, process)
    await process.start()
    await ControlSocket(work_socket(settings.region_socket), {"submit": work.submit, "tasks": work.tasks}).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(main())
