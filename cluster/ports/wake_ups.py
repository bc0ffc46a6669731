"""Wake-ups of those who follow the log."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from cluster.ports.tasks import SubmitItem


class Ring(StrEnum):
    """What somebody may have to know of at once. Everything else is found at the next look."""

    #: Tasks were submitted: the shard's matter. Those that name their agent are its host's as well.
    TASKS = "tasks"
    NAMED = "named"
    #: A turn of an agent that pulls has ended.
    TURNS = "turns"
    AGENTS = "agents"
    CONTROLS = "controls"
    DELIBERATIONS = "deliberations"


def rings_for(items: Sequence[SubmitItem]) -> tuple[Ring, ...]:
    """Who has to know of new tasks."""
    named = any(item.task.target_agent is not None for item in items)
    return (Ring.TASKS, Ring.NAMED) if named else (Ring.TASKS,)


class Doorbell(Protocol):
    """Wakes those who follow the log. Rings may be lost or doubled: followers re-read from their cursor."""

    async def ring(self, *rings: Ring) -> None:
        """Wakes whoever waits for one of ``rings``.

        Never raises for an unreachable store: a doorbell that cannot ring costs latency only.
        """

    async def wait(self, timeout_s: float, rings: Sequence[Ring] = tuple(Ring)) -> bool:
        """True when one of ``rings`` was rung since the last wait; False after the timeout. An unreachable store waits
        for the timeout."""
