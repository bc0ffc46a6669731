"""A process's tally of tasks: it begins with the stored one, and is kept up to date by the log.

Not a `LogFollower`: an answer adds the open tasks to the ended ones, so both must be of one moment. Each read of the log's
tail brings the open tasks of its own snapshot, and nothing is applied between that and the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.tasks.tally import TYPES_KEPT, OpenCount, Tally
from cluster.ports.clock import Clock
from cluster.ports.tally import TallyPage, TallyStore

_logger = logging.getLogger(__name__)

T = TypeVar("T")
#: After so many rows of the log the tally is stored. A process that starts reads at most about so many.
SAVE_ROWS = 10_000
#: Between two reads of the log, so that an answer has little left to read.
POLL_S = 1.0
#: Rows of one read. The first reads after an upgrade may have many before them.
BATCH = 5000
#: A workspace that nobody has: its open tasks cost nothing.
NOBODY = ""


class TaskTally:
    """``wait_s``: how long an answer may wait until the log was read to its end."""

    def __init__(
        self,
        store: TallyStore,
        clock: Clock,
        *,
        wait_s: float,
        batch: int = BATCH,
        save_rows: int = SAVE_ROWS,
        types_kept: int = TYPES_KEPT,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wait_s = wait_s
        self._batch = batch
        self._save_rows = save_rows
        #: ``_read`` alone changes the tally and its cursor, both at once.
        self._tally = Tally(types_kept=types_kept)
        self.cursor = 0
        #: The cursor of the stored tally, as far as this process knows.
        self._saved_cursor = 0
        #: Held while the log is read and an answer is made of it.
        self._reading = asyncio.Lock()

    async def load(self) -> None:
        """Takes the stored tally. Raises: `StoreUnavailable`."""
        self.cursor, stored = await self._store.load()
        self._saved_cursor = self.cursor
        self._tally = Tally.restore(stored, self._tally.types_kept)

    async def run(self) -> None:
        """Keeps the tally near the end of the log until it is cancelled. Waits for a store that is away."""
        while True:
            try:
                async with self._reading:
                    page = await self._read(NOBODY)
                await self.save()
            except StoreUnavailable as error:
                _logger.warning("the tally of tasks cannot read on, will try again: %s", error)
                page = None
            if page is None or page.whole:
                await self._clock.sleep(POLL_S)

    async def save(self) -> None:
        """Stores the tally if it is far ahead of the stored one. Raises: `StoreUnavailable`."""
        cursor = self.cursor
        if cursor - self._saved_cursor >= self._save_rows:
            await self._store.save(cursor, self._tally.snapshot())
            self._saved_cursor = cursor  # also if another process has stored a later one

    async def _read(self, workspace: str, kept: Sequence[str] = ()) -> TallyPage:
        page = await self._store.page(self.cursor, self._batch, workspace, kept, self._tally.types_kept)
        for row in page.rows:
            self._tally.apply(row)
        self.cursor = page.cursor
        return page

    async def _at_the_end(self, workspace: str, answer: Callable[[Sequence[OpenCount]], T]) -> T:
        """What ``answer`` makes of the open tasks, once the tally has every row that was committed before the call.

        If the last rows bring a type that is kept, the open tasks are counted again, by the names of now. That happens no more
        often than types are kept."""
        try:
            async with asyncio.timeout(self._wait_s), self._reading:
                while True:
                    kept = self._tally.kept(workspace)
                    page = await self._read(workspace, kept)
                    if page.whole and self._tally.kept(workspace) == kept:
                        return answer(page.open_counts)
        except TimeoutError as error:
            raise StoreUnavailable("The tasks are still being counted; try again in a moment.") from error

    async def counts(self, workspace: str) -> dict[str, Any]:
        """`Tally.counts` of now. Raises: `StoreUnavailable` if the log cannot be read to its end in time."""
        return await self._at_the_end(workspace, lambda found: self._tally.counts(workspace, found))

    async def queue_metrics(self, workspace: str, now: float) -> dict[str, float]:
        """`Tally.queue_metrics` of now. Raises: `StoreUnavailable` if the log cannot be read to its end in time."""
        return await self._at_the_end(workspace, lambda found: self._tally.queue_metrics(workspace, found, now))

    async def today(self, workspace: str, now: float) -> tuple[dict[str, float], int]:
        """`Tally.queue_metrics` and the tokens used today. Raises: `StoreUnavailable` if the log cannot be read in time."""
        return await self._at_the_end(
            workspace,
            lambda found: (
                self._tally.queue_metrics(workspace, found, now),
                self._tally.tokens_today(workspace, now),
            ),
        )
