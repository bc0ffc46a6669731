"""One region as a process of its own, without Ray: ``python -m tests.support.region_process``, with settings in its environment.

What the API would do stands in it: ``submit`` commits tasks by the commit function and answers when they are replicated, and
``follow`` reads the log behind the gate that the API reads behind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from actors.composition.region_process import region_process
from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.tasks.task import IdempotencyKey
from cluster.log.replication_gate import ReplicationGate
from cluster.ports.tasks import SubmitItem
from cluster.postgres.migrate import migrate
from cluster.postgres.replication_statuses import PostgresReplicationStatuses
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from cluster.process.loops import end_process
from cluster.settings import Settings, load_settings
from regions.control import ControlSocket
from regions.process import ZONE, RegionProcess
from tests.support.region_mutants import CURSOR_RESET, is_made, make_mistake, make_mistake_in
from tests.support.samples import new_task
from tests.support.shells import Bell

#: Longer than any answer that is not lost.
ANSWER_S = 20.0
READ_S = 3.0
_FOLLOW = "select seq, epoch, encode(digest, 'hex') from log where seq > $1 order by seq limit 500"


def work_socket(control: Path) -> Path:
    """Where the region takes tasks."""
    return control.with_name(f"{control.name}.work")


class Work:
    def __init__(self, stores: Stores, process: RegionProcess, settings: Settings) -> None:
        self._stores = stores
        self._shell = process.shell
        self._settings = settings
        self._epoch, self._cursor = 0, 0
        self._anew = asyncio.Event()

    async def run(self) -> None:
        """A gate after the other: when the region is copied anew, a process of the API ends, and the next one has a new gate."""
        while True:
            self._anew.clear()
            self._gate = ReplicationGate(
                PostgresReplicationStatuses(self._stores.pool, ZONE),
                Bell(),
                SystemClock(),
                heartbeat_s=self._settings.region_heartbeat,
                stale_s=self._settings.stale_leader_threshold,
                urls={},
                on_fatal=lambda error: self._anew.set(),
            )
            try:
                await self._gate.start()
                self._cursor = await self._stores.log.head()
                await self._anew.wait()
            except StoreUnavailable:
                await asyncio.sleep(self._settings.region_heartbeat)
            finally:
                await self._gate.stop()

    async def submit(self, ids: list[str], key: str | None = None, stubborn: bool = False) -> dict[str, Any]:
        """``key``: of idempotency, for one task. ``stubborn``: as a process that does not ask, and remembers its epoch."""
        refused = self._shell.why_not_write()
        if refused is not None and not stubborn:
            raise refused
        if not stubborn:
            self._epoch = await self._stores.region.epoch()
        epoch = self._epoch
        idempotency = None if key is None else IdempotencyKey(route="tasks", key=key, body_digest=b"")
        tasks = [new_task(id=name, created_at=time.time(), payload={"key": key}) for name in ids]
        outcomes = await self._stores.tasks.submit([SubmitItem(task=task, idempotency=idempotency) for task in tasks])
        head = await self._stores.log.head()  # a repeated answer rests on a row that this call has not written
        self._shell.committed(head)
        await self._shell.replicated(epoch, head, ANSWER_S)
        return {"epoch": epoch, "seq": head, "ids": [outcome.task_id for outcome in outcomes]}

    async def follow(self, after: int) -> list[list[Any]]:
        """The rows of the log after one, each as (seq, epoch, digest)."""
        refused = self._gate.why_not_read()
        if refused is not None:
            raise refused
        if is_made(CURSOR_RESET):
            after = max(after, self._cursor)
        found = await self._stores.pool.rows(_FOLLOW, after)
        await self._gate.passed(READ_S)
        return [list(row) for row in found]

    async def tasks(self) -> list[str]:
        return sorted(row["id"] for row in await self._stores.pool.rows("select id from tasks"))


async def main() -> None:
    make_mistake()
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.region_socket is not None
    url = settings.database_url.get_secret_value()
    await migrate(url, settings.database_schema)
    stores = await open_stores(url, settings.database_schema, ZONE, max_connections=6, alone=False)
    await make_mistake_in(stores)
    process = region_process(settings, {ZONE: stores}, Bell(), SystemClock(), end_process)
    work = Work(stores, process, settings)
    await process.start()
    commands = {"submit": work.submit, "follow": work.follow, "tasks": work.tasks}
    await ControlSocket(work_socket(settings.region_socket), commands).start()
    await work.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(main())
