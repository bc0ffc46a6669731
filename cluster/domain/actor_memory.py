"""Which actor uses too much memory, and whether restarting it is right, as a machine.

An actor above its bound is restarted as if it had died: its state is in the database. An actor that needs more than the bound
for its state alone would be above it again at once, so each restart that did not help doubles the wait for the next.

Memory grows, if the least of the last quarter of an hour is well above the most of the first, of an hour in which the number
of open tasks did not grow: an actor that has more to do, or that was started lately, may use more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
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
#: Samples that are kept: an hour and a little more.
SAMPLES: Final = 70
GROWS_BYTES: Final = 64 * MIB
GROWS_SHARE: Final = 1.25
#: Open tasks may grow so much without being a reason for more memory.
SAME_TASKS_SHARE: Final = 1.1
SAME_TASKS: Final = 1000


class MemoryPhase(StrEnum):
    """How an actor stands to its bound."""

    IN_VAIN = "in_vain"
    ABOVE = "above"
    NEAR = "near"
    GROWING = "growing"
    WITHIN = "within"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What each actor's process said, by the actor's name (None: it does not answer), and how many tasks were open."""

    seen: Mapping[str, Memory | None]
    open_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The effect: this actor is to be restarted."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is known about one actor."""

    pid: int = 0
    #: When this process was seen first.
    since: float = 0.0
    resident: int = 0
    #: Looks in a row above the bound.
    above: int = 0
    #: Of an hour and a little more, at most one a minute, oldest first.
    samples: tuple[Sample, ...] = ()
    #: The restart for memory that was last, and how many there were in a row that did not help.
    restarted_at: float | None = None
    restarts: int = 0
    #: When it was last above the bound.
    above_at: float = float("-inf")
    #: From when on it has not answered; None if it has.
    silent_since: float | None = None

    def starts(self, now: float) -> bool:
        """Whether it does not answer, but may soon."""
        return self.silent_since is not None and now - self.silent_since < AWAY_S

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWatch:
    """The bound of all actors in bytes, and what is known about each that was there at the last look, by its name."""

    bound: int
    actors: Mapping[str, Watched] = field(default_factory=dict)
    #: When any actor was last restarted for its memory.
    restarted_at: float = float("-inf")


#: The first row that holds is an actor's phase, of what is known about it and the bound. Docs and tests read this table.
PHASES: Final[tuple[tuple[MemoryPhase, Callable[[Watched, int], bool]], ...]] = (
    (MemoryPhase.IN_VAIN, lambda actor, bound: actor.resident > bound and actor.restarted_at is not None),
    (MemoryPhase.ABOVE, lambda actor, bound: actor.resident > bound),
    (MemoryPhase.NEAR, lambda actor, bound: actor.resident > bound * NEAR),
    (MemoryPhase.GROWING, lambda actor, bound: actor.growth() > 0),
    (MemoryPhase.WITHIN, lambda actor, bound: True),
)


def phase_of(actor: Watched, bound: int) -> MemoryPhase:
    return next(phase for phase, holds in PHASES if holds(actor, bound))


def step(watch: MemoryWatch, event: Looked, now: float) -> tuple[MemoryWatch, tuple[Restart, ...]]:
    """The watch after a look, and whom to restart: one actor at most. None is restarted while another does not answer: it may be
    the one that was restarted last."""
    actors = {
        name: _looked(watch.actors.get(name, Watched()), memory, watch.bound, event.open_tasks, now)
        for name, memory in event.seen.items()
    }
    watch = replace(watch, actors=actors)
    if any(actor.starts(now) for actor in actors.values()) or now - watch.restarted_at < APART_S:
        return watch, ()
    due = [name for name, actor in actors.items() if actor.is_due(now)]
    if not due:
        return watch, ()
    # Whom a restart may still help goes first, then who uses most.
    name = max(due, key=lambda name: (-actors[name].restarts, actors[name].resident))
    actors[name] = replace(actors[name], restarted_at=now, restarts=actors[name].restarts + 1, above=0)
    return replace(watch, restarted_at=now), (Restart(name=name),)


def _looked(actor: Watched, seen: Memory | None, bound: int, open_tasks: int, now: float) -> Watched:
    """An actor after what its process said, or did not say."""
    if seen is None:
        return replace(actor, silent_since=now if actor.silent_since is None else actor.silent_since)
    if seen.pid != actor.pid:
        actor = replace(actor, pid=seen.pid, since=now, above=0, samples=())
    is_above = seen.resident > bound
    actor = replace(
        actor,
        silent_since=None,
        resident=seen.resident,
        above=actor.above + 1 if is_above else 0,
        above_at=now if is_above else actor.above_at,
        samples=_sampled(actor, Sample(now, seen.resident, open_tasks)),
    )
    if actor.restarted_at is not None and now - max(actor.restarted_at, actor.above_at) >= HELPED_S:
        return replace(actor, restarted_at=None, restarts=0)
    return actor


def _sampled(actor: Watched, sample: Sample) -> tuple[Sample, ...]:
    samples = actor.samples
    if sample.at - actor.since >= SETTLES_S and (not samples or sample.at - samples[-1].at >= SAMPLE_S):
        samples = (*samples, sample)[-SAMPLES:]
    if samples and sample.at - samples[0].at > HOUR_S + SAMPLE_S:
        return tuple(kept for kept in samples if sample.at - kept.at <= HOUR_S + SAMPLE_S)
    return samples


def notice(watch: MemoryWatch, name: str, now: float) -> str:
    """What is to be said about an actor's memory; empty if there is nothing."""
    actor = watch.actors.get(name)
    return "" if actor is None else _NOTICES[phase_of(actor, watch.bound)](actor, watch.bound, now)


def _nothing(actor: Watched, bound: int, now: float) -> str:
    return ""


def _in_vain(actor: Watched, bound: int, now: float) -> str:
    wait_min = max(1, round((actor.may_restart_at() - now) / 60))
    return (
        f"{_used(actor)}, more than {_limit(bound)}, and restarts did not help (so far: {actor.restarts}): set "
        f"ARAGORA_ACTOR_MEMORY_MB to more than it needs for its state. The next restart is {wait_min} min away."
    )


def _above(actor: Watched, bound: int, now: float) -> str:
    return f"{_used(actor)}, more than {_limit(bound)}; it is restarted if that lasts."


def _near(actor: Watched, bound: int, now: float) -> str:
    return f"{_used(actor)}, nearly {_limit(bound)}, at which it is restarted."


def _growing(actor: Watched, bound: int, now: float) -> str:
    return (
        f"{_used(actor)}. That has grown by {_mib(actor.growth())} within an hour in which the open tasks have not; it is "
        f"restarted at {_limit(bound)}. Report it with the actor's log."
    )


_NOTICES: Final[Mapping[MemoryPhase, Callable[[Watched, int, float], str]]] = {
    MemoryPhase.IN_VAIN: _in_vain,
    MemoryPhase.ABOVE: _above,
    MemoryPhase.NEAR: _near,
    MemoryPhase.GROWING: _growing,
    MemoryPhase.WITHIN: _nothing,
}


def _used(actor: Watched) -> str:
    return f"It uses {_mib(actor.resident)} of memory"


def _limit(bound: int) -> str:
    return f"the {_mib(bound)} of ARAGORA_ACTOR_MEMORY_MB"


def _mib(count: int) -> str:
    return f"{count // MIB} MiB"
