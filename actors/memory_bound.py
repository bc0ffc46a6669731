"""Which actor uses too much memory, and whether restarting it is right: decisions, without clock or I/O.

An actor above its bound is restarted as if it had died: its state is in the database. An actor that needs more than the bound
for its state alone would be above it again at once, so each restart that did not help doubles the wait for the next.

Memory grows, if the least of the last quarter of an hour is well above the most of the first, of an hour in which the number
of open tasks did not grow: an actor that has more to do, or that was started lately, may use more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1024 * 1024
#: Share of the bound from which an actor's status says so.
NEAR: Final = 0.8
#: So many looks in a row above the bound lead to a restart. One may have met a moment.
LOOKS: Final = 2
#: Between two restarts of any actors for their memory: one may wait for the other to serve.
APART_S: Final = 60.0
#: From a restart until the next of the same actor, doubled each time.
FIRST_WAIT_S: Final = 300.0
LONGEST_WAIT_S: Final = 86_400.0
#: An actor that has not answered for so long is away for another reason, and keeps no other one from its restart.
AWAY_S: Final = 300.0
#: An actor that stayed below its bound for so long after a restart was helped by it, and is as one never restarted.
HELPED_S: Final = 3600.0

HOUR_S: Final = 3600.0
QUARTER_S: Final = 900.0
#: Time from when a process was seen first until its memory counts: it loads its state and fills its caches.
SETTLES_S: Final = 600.0
SAMPLE_S: Final = 60.0
GROWS_BYTES: Final = 64 * MIB
GROWS_SHARE: Final = 1.25
#: Open tasks may grow so much without being a reason for more memory.
SAME_TASKS_SHARE: Final = 1.1
SAME_TASKS: Final = 1000


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process said: its id and its resident memory."""

    pid: int
    resident: int


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    resident: int
    open_tasks: int


@dataclass(slots=True)
class Watched:
    """What is known about one actor."""

    pid: int = 0
    #: When this process was seen first.
    since: float = 0.0
    resident: int = 0
    #: Looks in a row above the bound.
    above: int = 0
    #: Of an hour and a little more, at most one a minute, oldest first.
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=70))
    #: The restart for memory that was last, and how many there were in a row that did not help.
    restarted_at: float | None = None
    restarts: int = 0
    #: When it was last above the bound.
    above_at: float = float("-inf")
    #: From when on it has not answered; None if it has.
    silent_since: float | None = None

    def no_answer(self, now: float) -> None:
        """Notes that its process did not say anything."""
        self.silent_since = now if self.silent_since is None else self.silent_since

    def starts(self, now: float) -> bool:
        """Whether it does not answer, but may soon."""
        return self.silent_since is not None and now - self.silent_since < AWAY_S

    def look(self, seen: Memory, bound: int, open_tasks: int, now: float) -> None:
        """Takes in what its process said."""
        self.silent_since = None
        if seen.pid != self.pid:
            self.pid, self.since, self.above = seen.pid, now, 0
            self.samples.clear()
        self.resident = seen.resident
        self.above = self.above + 1 if seen.resident > bound else 0
        if self.above:
            self.above_at = now
        if now - self.since >= SETTLES_S and (not self.samples or now - self.samples[-1].at >= SAMPLE_S):
            self.samples.append(Sample(now, seen.resident, open_tasks))
        while self.samples and now - self.samples[0].at > HOUR_S + SAMPLE_S:
            self.samples.popleft()
        if self.restarted_at is not None and now - max(self.restarted_at, self.above_at) >= HELPED_S:
            self.restarted_at, self.restarts = None, 0

    def may_restart_at(self) -> float:
        """From when on a restart is right."""
        if self.restarted_at is None:
            return float("-inf")
        return self.restarted_at + min(FIRST_WAIT_S * 2.0 ** (min(self.restarts, 20) - 1), LONGEST_WAIT_S)

    def is_due(self, now: float) -> bool:
        """Whether it was above the bound for long enough, and when it was asked last, and its wait is over."""
        return self.silent_since is None and self.above >= LOOKS and now >= self.may_restart_at()

    def growth(self) -> int:
        """By how many bytes it grew within the hour although it has no more to do; 0 if it did not."""
        if not self.samples or self.samples[-1].at - self.samples[0].at < HOUR_S - SAMPLE_S:
            return 0
        begin, end = self.samples[0].at, self.samples[-1].at
        first = [sample for sample in self.samples if sample.at <= begin + QUARTER_S]
        last = [sample for sample in self.samples if sample.at >= end - QUARTER_S]
        tasks_then = max(sample.open_tasks for sample in first)
        if max(sample.open_tasks for sample in self.samples) > tasks_then * SAME_TASKS_SHARE + SAME_TASKS:
            return 0
        then, now = max(sample.resident for sample in first), min(sample.resident for sample in last)
        return now - then if now - then >= GROWS_BYTES and now >= then * GROWS_SHARE else 0


class MemoryBound:
    """The bound of all actors, and what is known about each by its name."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        # Actor name → what is known about it. ``look`` adds, and removes who is not there any more.
        self._watched: dict[str, Watched] = {}
        self._restarted_at = float("-inf")

    def look(self, seen: Mapping[str, Memory | None], open_tasks: int, now: float) -> str | None:
        """Takes in what each actor's process said (None: it does not answer). Returns the actor that is to be restarted.

        None is restarted while another does not answer: it may be the one that was restarted last."""
        self._watched = {name: self._watched.get(name) or Watched() for name in seen}
        for name, memory in seen.items():
            if memory is None:
                self._watched[name].no_answer(now)
            else:
                self._watched[name].look(memory, self._bound, open_tasks, now)
        if any(actor.starts(now) for actor in self._watched.values()) or now - self._restarted_at < APART_S:
            return None
        due = [name for name, actor in self._watched.items() if actor.is_due(now)]
        # Whom a restart may still help goes first, then who uses most.
        return max(due, key=lambda name: (-self._watched[name].restarts, self._watched[name].resident), default=None)

    def restarted(self, name: str, now: float) -> None:
        """Notes that an actor was restarted."""
        actor = self._watched[name]
        actor.restarted_at, actor.restarts, actor.above = now, actor.restarts + 1, 0
        self._restarted_at = now

    def notice(self, name: str, now: float) -> str:
        """What is to be said about an actor's memory; empty if there is nothing."""
        actor = self._watched.get(name)
        if actor is None:
            return ""
        used = f"It uses {_mib(actor.resident)} of memory"
        limit = f"the {_mib(self._bound)} of ARAGORA_ACTOR_MEMORY_MB"
        if actor.resident > self._bound:
            if actor.restarted_at is None:
                return f"{used}, more than {limit}; it is restarted if that lasts."
            wait_min = max(1, round((actor.may_restart_at() - now) / 60))
            return (
                f"{used}, more than {limit}, and restarts did not help (so far: {actor.restarts}): set "
                f"ARAGORA_ACTOR_MEMORY_MB to more than it needs for its state. The next restart is {wait_min} min away."
            )
        if actor.resident > self._bound * NEAR:
            return f"{used}, nearly {limit}, at which it is restarted."
        grown = actor.growth()
        if grown:
            return (
                f"{used}. That has grown by {_mib(grown)} within an hour in which the open tasks have not; it is restarted "
                f"at {limit}. Report it with the actor's log."
            )
        return ""


def _mib(count: int) -> str:
    return f"{count // MIB} MiB"
