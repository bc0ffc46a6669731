"""Keeps what budgets and policies leave behind small: entries of attempts that have ended are added to their days, and days,
levels of budgets, violations and versions of policies that are old go.

It keeps nothing: what is due is read from the database, and a commit takes only what is still there. So one that is killed
anywhere loses nothing, and of two at once each takes what the other has left.
"""

from __future__ import annotations

import itertools
import logging
from datetime import UTC, datetime
from typing import Any, Final

from actors.while_primary import WhilePrimary, give_way
from cluster.domain.audit.retention import DAY_S, RetentionRule
from cluster.domain.base.errors import TryLater
from cluster.domain.budgets.entries import folding, forgetting, forgetting_levels
from cluster.domain.policies.policy import removing_versions
from cluster.domain.policies.violations import removing
from cluster.ports.budgets import Budgets
from cluster.ports.clock import Clock
from cluster.ports.log import Region
from cluster.ports.policies import Policies
from cluster.ports.retention import WorkspaceRetention
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

LOOK_S: Final = 60.0
#: Between the ends of two looks for what is too old.
PASS_S: Final = 900.0
#: An entry is added to its day so long after its attempt has ended: what people look at is still one row for each attempt.
FOLD_AFTER_S: Final = 600.0
BATCH: Final = 500


class SettlingKeeper:
    """``default``: what workspaces keep that have no rule of their own."""

    def __init__(
        self,
        *,
        budgets: Budgets,
        policies: Policies,
        rules: WorkspaceRetention,
        region: Region,
        default: RetentionRule,
        clock: Clock,
        batch: int = BATCH,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._budgets = budgets
        self._policies = policies
        self._rules = rules
        self._default = default
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
        """Adds what has ended to its days, and deletes what is too old when it is time.

        Raises: `TryLater` if the store does not answer."""
        await self._while_primary.do(self._settle)

    async def _settle(self) -> None:
        await self._fold()
        if self._clock.now() >= self._next_pass:
            await self._forget()
            self._next_pass = self._clock.now() + PASS_S

    async def _fold(self) -> None:
        while True:
            began = self._clock.now()
            entries = await self._budgets.settled(began - FOLD_AFTER_S, self._batch)
            for workspace, some in itertools.groupby(entries, lambda entry: entry.workspace):
                of_one = list(some)
                await self._budgets.fold(of_one, folding(workspace, of_one, self._clock.now()))
            if len(entries) < self._batch:
                return
            await give_way(self._clock, began)

    async def _forget(self) -> None:
        for workspace in await self._budgets.with_days():
            days = (await self._rule(workspace)).spending_days
            if days > 0:
                oldest = datetime.fromtimestamp(self._clock.now() - days * DAY_S, UTC).date().isoformat()
                while old := await self._budgets.old_days(workspace, oldest, self._batch):
                    began = self._clock.now()
                    await self._budgets.forget_days(old, forgetting(workspace, old, began))
                    await give_way(self._clock, began)
        for workspace in await self._budgets.with_levels():
            before = self._before((await self._rule(workspace)).spending_days)
            while before is not None and (reached := await self._budgets.old_levels(workspace, before, self._batch)):
                began = self._clock.now()
                await self._budgets.forget_levels(reached, before, forgetting_levels(workspace, reached, began))
                await give_way(self._clock, began)
        await self._forget_violations()
        # After those, which keep the versions that they name.
        for workspace in await self._policies.with_versions():
            before = self._before((await self._rule(workspace)).policy_version_days)
            while before is not None and (
                old_ones := await self._policies.old_versions(workspace, before, self._batch)
            ):
                began = self._clock.now()
                await self._policies.remove_versions(old_ones, removing_versions(workspace, old_ones, began))
                await give_way(self._clock, began)

    async def _forget_violations(self) -> None:
        for workspace in await self._policies.with_violations():
            before = self._before((await self._rule(workspace)).violation_days)
            while before is not None and (ids := await self._policies.old_violations(workspace, before, self._batch)):
                began = self._clock.now()
                await self._policies.remove_violations(ids, removing(workspace, ids, began))
                await give_way(self._clock, began)

    def _before(self, days: float) -> float | None:
        """The time before which something is too old; None if nothing is."""
        return self._clock.now() - days * DAY_S if days > 0 else None

    async def _rule(self, workspace: str) -> RetentionRule:
        return self._default.changed((await self._rules.state(workspace)).rule or {})

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except TryLater as error:
                _logger.warning("entries of budgets cannot be added up, will try again: %s", error)
            await self._clock.sleep(LOOK_S)
