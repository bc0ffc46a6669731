"""Removes what ended long ago, as the rules of the workspaces say: in small commits, slower than the database could.

It keeps nothing. What may go is read from the database, and a commit removes only what is still there and has ended. So one that
is killed anywhere loses nothing, and of two at once each removes what the other has left.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from actors.while_primary import WhilePrimary, give_way
from cluster.domain.audit.retention import (
    DELIBERATIONS_REMOVED,
    LISTS,
    RUNS_REMOVED,
    TASKS_REMOVED,
    Bounds,
    RetentionRule,
    removal,
)
from cluster.domain.base.errors import TryLater
from cluster.ports.clock import Clock
from cluster.ports.erasure import Position
from cluster.ports.log import Region
from cluster.ports.retention import Pass, RetentionStore, WorkspaceRetention
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Between two looks for requests of a run, and between the ends of two passes over all workspaces.
LOOK_S: Final = 5.0
PASS_S: Final = 900.0
#: Tasks, deliberations or runs that are read, and removed, at once.
BATCH: Final = 500
START: Final[Position] = (float("-inf"), "")


async def removable(
    store: WorkspaceRetention, workspace: str, kind: str, within: Bounds, batch: int = BATCH
) -> AsyncGenerator[Sequence[str], None]:
    """The ids of each window that may go; there may be none. Close the iterator (``aclosing``).

    Raises: `StoreUnavailable`."""
    if within.all_stay:
        return
    too_many = await store.oldest_kept(workspace, kind, within)
    if within.ended_before is None and too_many is None:
        return
    after: Position | None = START
    while after is not None:
        window = await store.window(workspace, kind, within, too_many, after, batch)
        ids = window.ids
        if ids:
            referred = await store.referred(workspace, kind, ids)
            ids = [entity for entity in ids if entity not in referred]
        yield ids
        after = window.last


class RetentionKeeper:
    """``default``: the rule of workspaces that have none of their own. ``window_s``: for how long keys are remembered."""

    def __init__(
        self,
        *,
        store: RetentionStore,
        region: Region,
        default: RetentionRule,
        window_s: float,
        clock: Clock,
        batch: int = BATCH,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._store = store
        self._default = default
        self._window_s = window_s
        self._clock = clock
        self._batch = batch
        self._while_primary = WhilePrimary(region)
        self._next_pass = float("-inf")
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(self._run())

    async def stop(self) -> None:
        await self._loops.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory."""
        return {"serving": self._loops.running, "warnings": []}

    async def look(self) -> None:
        """Goes through the workspaces for which somebody has asked, and through all when it is time.

        Raises: `TryLater` if the store does not answer."""
        await self._while_primary.do(self._go_through)

    async def _go_through(self) -> None:
        is_time = self._clock.now() >= self._next_pass
        for workspace in await (self._store.workspaces() if is_time else self._store.requested()):
            await self._pass(workspace)
        if is_time:
            self._next_pass = self._clock.now() + PASS_S

    async def _pass(self, workspace: str) -> None:
        state = await self._store.state(workspace)
        rule = self._default.changed(state.rule or {})
        removed = dict.fromkeys(LISTS, 0)
        kinds = rule.bounds(self._clock.now(), self._window_s)
        for kind, within in kinds.items():
            async with aclosing(removable(self._store, workspace, kind, within, self._batch)) as windows:
                began = self._clock.now()
                async for ids in windows:
                    if ids:
                        record = removal(workspace, kind, ids, self._clock.now(), "")
                        removed[kind] += await self._store.remove(kind, record)
                    await give_way(self._clock, began)
                    began = self._clock.now()
        last = Pass(
            ended_at=self._clock.now(),
            requested_at=state.requested_at,
            tasks=removed[TASKS_REMOVED],
            deliberations=removed[DELIBERATIONS_REMOVED],
            workflow_runs=removed[RUNS_REMOVED],
        )
        await self._store.passed(workspace, last)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except TryLater as error:
                _logger.warning("retention cannot go on, will try again: %s", error)
            await self._clock.sleep(LOOK_S)
