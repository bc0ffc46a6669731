"""The maker of the supervisor's memory keeper."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from actors.composition.resources import ActorResolver, Resources
from actors.memory_keeper import ActorProcesses, MemoryKeeper
from actors.roles import TELEMETRY, Role
from cluster.domain.actor_memory import MIB
from cluster.domain.metrics import Increment, Labels

CALL_S: Final = 5.0


class _ToTelemetry:
    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call

    async def show(self, gauge: str, series: Mapping[Labels, float]) -> None:
        await self._call("show", gauge, series, timeout_s=CALL_S)

    async def push(self, increments: Sequence[Increment]) -> None:
        await self._call("push", increments, timeout_s=CALL_S)


def memory_keeper(resources: Resources, processes: ActorProcesses, resolve: ActorResolver) -> MemoryKeeper:
    async def open_tasks() -> int:
        return sum((await resources.stores.tasks.waiting()).values())

    return MemoryKeeper(
        bound=resources.settings.actor_memory_mb * MIB,
        processes=processes,
        open_tasks=open_tasks,
        metrics=_ToTelemetry(resolve(Role(kind=TELEMETRY), resources.stores.names)),
        clock=resources.clock,
    )
