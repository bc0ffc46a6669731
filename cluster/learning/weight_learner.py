"""Learning weights from outcomes as they arrive: lazily, by whoever needs them, in the process that needs them.

Whether a fit is due is read from the database, so no process has to be the one that learns, nothing is forgotten when
one dies, and an idle system does nothing. A fit takes a fraction of a second and the same outcomes give the same
snapshot, so two processes that fit at once make the same one, of which one is kept.
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
from cluster.ports.agents import AgentStore
from cluster.ports.clock import Clock
from cluster.ports.outcomes import OutcomeStore

_logger = logging.getLogger("cluster.learning.weight_learner")

#: Panels of a workspace that are kept fitted.
MAX_PANELS = 16
Owners = Callable[[str, Sequence[str]], Awaitable[Mapping[str, str]]]


def owners_from(agents: AgentStore) -> Owners:
    """The owner that each agent's registration states under ``options.owner``."""

    async def owners(workspace: str, names: Sequence[str]) -> Mapping[str, str]:
        known = await agents.get_many([(workspace, name) for name in names])
        stated = {name: agent.options.get("owner") for (_, name), agent in known.items()}
        return {name: owner for name, owner in stated.items() if isinstance(owner, str) and owner}

    return owners


class Learner:
    """A ``WeightSource`` over an ``OutcomeStore``."""

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
        self._fitting: dict[tuple[str, tuple[str, ...]], asyncio.Task[bool]] = {}
        self._checking: dict[str, asyncio.Task[None]] = {}

    async def snapshot_for(self, workspace: str, agents: Sequence[str]) -> WeightSnapshot | None:
        """A panel that was never fitted waits for its first fit; later ones are made behind the answer."""
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
        """Fits what is due of everything that the workspace uses, behind the caller's back; one at a time."""
        running = self._checking.get(workspace)
        if running is None:
            running = asyncio.create_task(self._refresh(workspace))
            self._checking[workspace] = running
            running.add_done_callback(lambda _: self._checking.pop(workspace, None))
        return running

    async def _refresh(self, workspace: str) -> None:
        """Everybody together first, from all outcomes; then every panel that was ever asked for, from its own."""
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
        """As of now, over every agent that the newest outcomes know."""
        everybody = await self._everybody(workspace)
        stored = await self._store.recent(workspace, everybody, FIT_WINDOW, any_of=True)
        return await asyncio.to_thread(alarms, [one.outcome for one in stored], everybody)

    def _fit_once(self, workspace: str, panel: tuple[str, ...], *, any_of: bool = False) -> asyncio.Task[bool]:
        """Whoever asks for a fit that is being made shares it."""
        key = (workspace, panel)
        running = self._fitting.get(key)
        if running is None:
            running = asyncio.create_task(self._fit(workspace, panel, any_of))
            self._fitting[key] = running
            running.add_done_callback(lambda _: self._fitting.pop(key, None))
        return running

    async def _fit(self, workspace: str, panel: tuple[str, ...], any_of: bool) -> bool:
        """In a thread: numpy computes without holding up the loop."""
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
