"""Tells of the levels that budgets reach, soon after the commits that bring them there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from actors.scheduler.state import ShardState
from cluster.domain.base.errors import TryLater
from cluster.domain.budgets.levels import LevelReached
from cluster.ports.budgets import Budgets
from cluster.ports.clock import Clock

_logger = logging.getLogger(__name__)

TELL_S: Final = 1.0


async def tell_levels(budgets: Budgets, clock: Clock, present: Callable[[], ShardState | None]) -> None:
    """Stores a row for each level that a budget of the present state reaches, for ever. Not in the commit of a claim, which would
    have to know what was told; the store keeps each level once, whoever tells of it again."""
    while True:
        await clock.sleep(TELL_S)
        state = present()
        if state is None or state.failed or not state.core.accounts:
            continue
        now = clock.now()
        levels = [LevelReached.of(account, now) for account in state.core.accounts.untold(now)]
        if not levels:
            continue
        try:
            await budgets.tell(levels)
        except TryLater as error:
            _logger.warning("levels of budgets cannot be stored, will try again: %s", error)
            continue
        for level in levels:
            state.core.accounts.tell(level.budget_id, level.period_start, level.level)
