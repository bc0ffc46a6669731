"""The states of a shard, one after the other: each is read from the store under a new generation, and dropped if it is wrong."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from actors.scheduler.rereads import Count, Rereads
from actors.scheduler.settled_memory import settled_memory
from actors.scheduler.state import Asker, ShardState
from cluster.domain.base.errors import ActorUnavailable, TryLater
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.tasks.retries import RetryPolicy
from cluster.ports.access import WorkspaceStates
from cluster.ports.agents import AgentStore
from cluster.ports.budgets import Budgets
from cluster.ports.clock import Clock
from cluster.ports.log import Region
from cluster.ports.operations import ControlStore
from cluster.ports.quotas import AllQuotas
from cluster.ports.tasks import TaskStore
from cluster.process.loops import Loops

_logger = logging.getLogger(__name__)

REBUILD_RETRY_S: Final = 0.5
STAND_BY_S: Final = 1.0
_SHARD_AWAY: Final = "The scheduler is reading its state again; try again in a moment."


def shard_away() -> ActorUnavailable:
    """The error for whatever rests on a state that was dropped: it is to be asked again."""
    return ActorUnavailable(_SHARD_AWAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSource:
    """Where states are read from. ``shard`` and ``owner``: which shard this is, and the actor's name, which the store notes
    beside the generation that it takes."""

    shard: str
    owner: str
    tasks: TaskStore
    region: Region
    controls: ControlStore
    workspaces: WorkspaceStates
    agents: AgentStore
    budgets: Budgets
    quotas: AllQuotas
    clock: Clock
    lease_ttl_s: float
    policy: RetryPolicy

    async def read(self, replaced: Callable[[], None]) -> tuple[ShardState, int]:
        """A new state, and the row of the log up to which it was read. It takes a new generation first, so that no older one can
        still change what is read. ``replaced`` is called before most of it is read, and frees the state before.

        Raises: what the store raises."""
        await self.region.epoch()
        fence = await self.tasks.take_generation(self.shard, self.owner)
        cursor, batches = await self.tasks.open_tasks(self.shard)
        core = SchedulerCore(lease_ttl_s=self.lease_ttl_s, policy=self.policy)
        core.load_controls(await self.controls.load(), self.clock.now())
        budgets, now = await self.budgets.all(), self.clock.now()
        sums, reservations = await self.budgets.all_sums(budgets, now), await self.budgets.open_reservations()
        core.load_budgets(budgets, sums, reservations, now)
        core.load_quotas(await self.quotas.all())
        core.load_states(await self.workspaces.closed())
        replaced()
        with settled_memory():
            async for batch in batches:
                core.load(batch, self.clock.now())
        core.load_agents(await self.agents.unschedulable())
        core.loaded(fence.generation)
        core.end_deleted(self.clock.now())
        return ShardState(fence, core), cursor


class Generations:
    """Which state is present. ``serve`` begins to serve a new one from a row of the log on, ``drop`` tells those who waited for
    something in a state that is dropped, ``is_published`` says whether this shard may serve."""

    def __init__(
        self,
        source: StateSource,
        *,
        serve: Callable[[ShardState, int], None],
        drop: Callable[[Sequence[Asker]], None],
        is_published: Callable[[], Awaitable[bool]],
        count_reread: Count,
        loops: Loops,
        work: Loops,
    ) -> None:
        self._source = source
        self._serve = serve
        self._drop = drop
        # Asked before a failed state is read again: a shard that another has replaced must not take the generation back.
        self._is_published = is_published
        self._loops, self._work = loops, work
        self._clock = source.clock
        # None before the first one and while a new one is loaded; until then one that has failed stays here. ``serving`` returns
        # it only if it has not failed.
        self.present: ShardState | None = None
        # When the state was read again: operators are told if it is often.
        self._rereads, self._count_reread = Rereads(), count_reread
        # True while ``_reread`` runs, so that several failures start it once.
        self._rereading = False

    async def read(self) -> None:
        """Reads a new state and serves it. Raises: what the store raises."""
        state, cursor = await self._source.read(self._forget_present)
        self.present = state
        self._serve(state, cursor)
        shard, tasks, generation = self._source.shard, state.core.open_tasks, state.fence.generation
        _logger.info("shard %s serves %d tasks, generation %d", shard, tasks, generation)

    def _forget_present(self) -> None:
        self.present = None

    def serving(self) -> ShardState:
        """Raises: `ActorUnavailable` if the state is being read."""
        if self.present is None or self.present.failed:
            raise shard_away()
        return self.present

    def fail(self, state: ShardState, pause_s: float = 0.0) -> None:
        """Drops a state that is ahead of the store: all who wait are told to ask again. After a pause a new one is read."""
        if state.failed:
            return
        askers = state.askers()
        state.forget()
        self._drop(askers)
        if not self._rereading:
            self._rereading = True
            self._loops.start(self._reread(pause_s))

    def broke(self, state: ShardState, error: Exception) -> None:
        """Drops a state that a bug has left half-changed. The pause bounds the cost of a bug that comes up again at once."""
        _logger.error(
            "shard %s forgets its state, which a bug has left half-changed", self._source.shard, exc_info=error
        )
        self.fail(state, REBUILD_RETRY_S)

    async def _reread(self, pause_s: float) -> None:
        """Reads a new state. While another shard is published, that one owns the tasks and this one waits."""
        await self._clock.sleep(pause_s)
        while True:
            try:
                if await self._is_published():
                    await self.read()
                    self._rereads.add(self._clock.now())
                    self._work.start(self._count_reread())
                    if self.present is not None and not self.present.failed:
                        break
                    await self._clock.sleep(REBUILD_RETRY_S)
                    continue
                _logger.info("shard %s is served by another, standing by", self._source.shard)
                await self._clock.sleep(STAND_BY_S)
            except TryLater as error:
                _logger.warning("shard %s cannot read its state yet: %s", self._source.shard, error)
                await self._clock.sleep(REBUILD_RETRY_S)
        self._rereading = False

    def status(self) -> dict[str, Any]:
        """How often the state was read again lately, for operators."""
        return self._rereads.status(self._clock.now())
