"""Learns weights from outcomes: in the process that needs them, when it needs them.

Whether a fit is due is read from the database. So no process is the one that learns, nothing is lost if a process ends,
and an idle system does nothing. A fit takes a fraction of a second, and the same outcomes give the same snapshot: if two
processes fit at once, one of two equal snapshots is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cluster.domain.base.errors import TryLater
from cluster.domain.consensus.drift import Alarm
from cluster.domain.consensus.learning import (
    FIT_WINDOW,
    MAX_AGENTS,
    MAX_NEW,
    StoredSnapshot,
    alarms,
    due,
    fit,
    panel_of,
)
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.consensus.weights import DEFAULT_OWNER_CAP
from cluster.ports.agents import WorkspaceAgents
from cluster.ports.clock import Clock
from cluster.ports.outcomes import OutcomeStore

_logger = logging.getLogger("cluster.learning.weight_learner")

#: Panels of a workspace that a refresh fits.
MAX_PANELS = 16
Owners = Callable[[str, Sequence[str]], Awaitable[Mapping[str, str]]]


def owners_from(agents: WorkspaceAgents) -> Owners:
    """The owner that each agent's registration states under ``options.owner``."""

    async def owners(workspace: str, names: Sequence[str]) -> Mapping[str, str]:
        known = await agents.get_many([(workspace, name) for name in names])
        return {name: agent.options.owner for (_, name), agent in known.items() if agent.options.owner}

    return owners


class Learner:
    """A ``WeightSource`` that fits weights from an ``OutcomeStore``."""

    def __init__(
        self,
        store: OutcomeStore,
        owners: Owners,
        clock: Clock,
        *,
        owner_cap: float | None = DEFAULT_OWNER_CAP,
    ) -> None:
        self._store = store
        self._owners = owners
        self._clock = clock
        self._owner_cap = owner_cap
        #: Fits under way by workspace and panel, so that all who need a fit share it. A task removes itself at its end.
        self._fitting: dict[tuple[str, tuple[str, ...]], asyncio.Task[bool]] = {}
        #: Refreshes under way by workspace, at most one each. A task removes itself at its end.
        self._checking: dict[str, asyncio.Task[None]] = {}

    async def snapshot_for(self, workspace: str, agents: Sequence[str]) -> WeightSnapshot | None:
        """The newest weights that cover a panel. The first fit of a panel is waited for; later fits run after the answer,
        which may then be one fit behind."""
        panel = panel_of(agents)
        found = await self._store.covering(workspace, panel)
        known = found is not None and found.head.panel == panel
        if await self._is_due(workspace, panel, found):
            fitting = self._fit_once(workspace, panel)
            if not known and await asyncio.shield(fitting):
                found = await self._store.covering(workspace, panel)
        return None if found is None else found.snapshot

    async def _is_due(
        self, workspace: str, panel: tuple[str, ...], found: StoredSnapshot | None, *, any_of: bool = False
    ) -> bool:
        if len(panel) > MAX_AGENTS:
            return False
        after, fitted = 0, 0
        if found is not None and found.head.panel == panel:
            after, fitted = found.head.through_n, found.snapshot.outcomes
        return due(await self._store.count(workspace, panel, after, MAX_NEW, any_of=any_of), fitted)

    def refresh(self, workspace: str) -> asyncio.Task[None]:
        """Starts to fit every panel of the workspace that is due; if that is under way already, returns its task."""
        running = self._checking.get(workspace)
        if running is None:
            running = asyncio.create_task(self._refresh(workspace))
            self._checking[workspace] = running
            running.add_done_callback(lambda _: self._checking.pop(workspace, None))
        return running

    async def _refresh(self, workspace: str) -> None:
        """Fits all agents together first, from all outcomes; then the panels that were fitted before, from theirs."""
        try:
            everybody = await self._everybody(workspace)
            panels = [head.panel for head in await self._store.heads(workspace) if head.panel != everybody]
            for panel in [everybody, *panels[: MAX_PANELS - 1]]:
                any_of = panel == everybody
                found = await self._store.covering(workspace, panel)
                if await self._is_due(workspace, panel, found, any_of=any_of):
                    await self._fit_once(workspace, panel, any_of=any_of)
        except TryLater as error:
            _logger.warning("weights of %s are fitted later: %s", workspace, error)

    async def _everybody(self, workspace: str) -> tuple[str, ...]:
        return panel_of((await self._store.agents(workspace, FIT_WINDOW))[:MAX_AGENTS])

    async def alarms(self, workspace: str) -> list[Alarm]:
        """The alarms of this moment, over every agent in the newest outcomes."""
        everybody = await self._everybody(workspace)
        stored = await self._store.recent(workspace, everybody, FIT_WINDOW, any_of=True)
        return await asyncio.to_thread(alarms, [row.outcome for row in stored], everybody)

    def _fit_once(self, workspace: str, panel: tuple[str, ...], *, any_of: bool = False) -> asyncio.Task[bool]:
        """The task of a fit; one that is under way is shared."""
        key = (workspace, panel)
        running = self._fitting.get(key)
        if running is None:
            running = asyncio.create_task(self._fit(workspace, panel, any_of))
            self._fitting[key] = running
            running.add_done_callback(lambda _: self._fitting.pop(key, None))
        return running

    async def _fit(self, workspace: str, panel: tuple[str, ...], any_of: bool) -> bool:
        """Fits in a thread, since numpy would block the event loop. False if there is nothing to fit or a store is away."""
        try:
            stored = await self._store.recent(workspace, panel, FIT_WINDOW, any_of=any_of)
            if not stored:
                return False
            owners = await self._owners(workspace, panel)
            now = self._clock.now()
            new = await asyncio.to_thread(fit, workspace, now, panel, stored, owners, self._owner_cap)
            await self._store.save([new])
        except TryLater as error:
            _logger.warning("weights of %s are fitted later: %s", workspace, error)
            return False
        return True

    async def close(self) -> None:
        tasks = [*self._checking.values(), *self._fitting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
