"""Wake-ups of the log's followers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from cluster.ports.tasks import SubmitItem


class WakeTopic(StrEnum):
    """A kind of change that a follower has to see at once. Other changes are found by the next poll."""

    #: Tasks were submitted, which the shard has to see; those of `NAMED` name their agent, so its host has to see them too.
    TASKS = "tasks"
    NAMED = "named"
    #: A pull call has ended. (Its value is part of a Redis channel's name: "turn" was a word for a pull call.)
    PULL_CALLS = "turns"
    AGENTS = "agents"
    CONTROLS = "controls"
    #: Chunks of a running task were written, which its followers read.
    CHUNKS = "chunks"
    DELIBERATIONS = "deliberations"
    #: A task that asks a person for a deliberation has ended.
    PEOPLE = "people"
    #: A run of a workflow was started, is to be cancelled or has more to start, or a task of one has ended.
    WORKFLOWS = "workflows"
    ACCESS = "access"
    #: Something may have to be told to channels or to clients of A2A at once: a task that ended without a result, a test.
    NOTIFICATIONS = "notifications"
    #: Of one region of several. Somebody waits until what was committed is replicated; more of it is; and its leader has told
    #: something else that is new.
    COMMITTED = "committed"
    REPLICATED = "replicated"
    LED = "led"


#: What a region's processes and its leader tell each other, beside what rows of the log tell.
OF_REGIONS = frozenset((WakeTopic.COMMITTED, WakeTopic.REPLICATED, WakeTopic.LED))


def topics_for(items: Sequence[SubmitItem]) -> tuple[WakeTopic, ...]:
    """The topics of new tasks."""
    named = any(item.task.target_agent is not None for item in items)
    return (WakeTopic.TASKS, WakeTopic.NAMED) if named else (WakeTopic.TASKS,)


class Doorbell(Protocol):
    """Wakes the log's followers. A notification may be lost or doubled, since followers read on from their cursor."""

    async def notify(self, *topics: WakeTopic) -> None:
        """Wakes whoever waits for one of ``topics``. Does not raise if the store is away, which costs latency only."""

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = tuple(WakeTopic)) -> bool:
        """Waits until one of ``topics`` is notified; one that was notified since the last wait counts. False after the
        timeout, also if the store is away."""
