"""Wake-ups of those who follow the log."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from cluster.ports.tasks import SubmitItem


class WakeTopic(StrEnum):
    """What somebody may have to know of at once. Everything else is found at the next look."""

    #: Tasks were submitted: the shard's matter. Those that name their agent are its host's as well.
    TASKS = "tasks"
    NAMED = "named"
    #: A turn of an agent that pulls has ended.
    PULL_CALLS = "turns"
    AGENTS = "agents"
    CONTROLS = "controls"
    DELIBERATIONS = "deliberations"


def topics_for(items: Sequence[SubmitItem]) -> tuple[WakeTopic, ...]:
    """Who has to know of new tasks."""
    named = any(item.task.target_agent is not None for item in items)
    return (WakeTopic.TASKS, WakeTopic.NAMED) if named else (WakeTopic.TASKS,)


class Doorbell(Protocol):
    """Wakes those who follow the log. Rings may be lost or doubled: followers re-read from their cursor."""

    async def notify(self, *topics: WakeTopic) -> None:
        """Wakes whoever waits for one of ``topics``.

        Never raises for an unreachable store: a doorbell that cannot ring costs latency only.
        """

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = tuple(WakeTopic)) -> bool:
        """True when one of ``topics`` was rung since the last wait; False after the timeout. An unreachable store waits
        for the timeout."""
