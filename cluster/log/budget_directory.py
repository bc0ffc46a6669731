"""A process's copy of all budgets, and what was spent of them a moment ago, so that a submit costs no read of the database while
its workspace has no budget that stops it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cluster.domain.budgets.accounts import BudgetSums
from cluster.domain.budgets.budget import CHANGES, Budget, window_of
from cluster.log.workspace_copies import WorkspaceCopies
from cluster.ports.budgets import Budgets
from cluster.ports.clock import Clock
from cluster.ports.log import LogFilter

#: The rows that a follower has to read to keep a directory.
BUDGET_ROWS = LogFilter(kinds=CHANGES)
#: How old the sums may be by which a submit is refused, in seconds. The shard, which starts tasks, has exact ones.
SUMS_S: Final = 1.0


class BudgetDirectory(WorkspaceCopies[Budget]):
    """The budgets of a workspace, by memory."""

    def __init__(self, store: Budgets, clock: Clock) -> None:
        super().__init__(store, CHANGES)
        self._budgets = store
        self._clock = clock
        #: Budget id → when its sums were read, and these. Holds budgets that submits have asked for, and no deleted ones.
        self._sums: dict[str, tuple[float, BudgetSums]] = {}

    async def refresh(self, ids: Sequence[str]) -> None:
        """As of any copies; what was spent is read again too. Raises: `StoreUnavailable`."""
        await super().refresh(ids)
        for each in ids:
            self._sums.pop(each, None)

    async def sums(self, workspace: str, budgets: Sequence[Budget]) -> Mapping[str, BudgetSums]:
        """What is spent and reserved of these budgets of a workspace in their present periods, as of a second ago at most.

        Raises: `StoreUnavailable`."""
        now = self._clock.now()
        old = [each for each in budgets if each.id not in self._sums or now - self._sums[each.id][0] >= SUMS_S]
        if old:
            windows = {each.id: window_of(each.period, now) for each in old}
            found = await self._budgets.sums(workspace, windows)
            self._sums.update((budget_id, (now, sums)) for budget_id, sums in found.items())
        return {each.id: self._sums[each.id][1] for each in budgets if each.id in self._sums}
