"""A schedule: when it is due (its plan), what a run is made from (its template), and how far it is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, LogTexts, Origin
from cluster.domain.schedules.timing import Cron, Timing, timing_from_json
from cluster.domain.workflows.stored import RUN_PREFIX

#: Schedules of one workspace.
MOST_SCHEDULES: Final = 1000
#: Largest jitter, and how far back runs that were missed are made up.
MOST_JITTER_S: Final = 3600.0
MOST_WINDOW_S: Final = 7 * 86_400.0
#: Most runs that are made up at once.
MOST_CATCH_UP: Final = 1000
#: What fires is the system, for whoever made the schedule.
PRINCIPAL: Final = "system:schedules"


class CatchUp(StrEnum):
    """Which of the runs start that could not start in time."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(StrEnum):
    """What happens to a run that is due while an earlier one has not ended. ``queue``: it starts when that one has ended.
    ``cancel``: that one is cancelled."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"
    ALLOW = "allow"


class SkipReason(StrEnum):
    """Why a run that was due does not start."""

    MISSED = "missed"
    OVERLAP = "overlap"
    QUEUE_FULL = "queue_full"
    POLICY = "policy"
    NO_WORKFLOW = "no_workflow"


class RunKind(StrEnum):
    """What each run of a schedule is: a task, a deliberation, or a run of a workflow."""

    TASK = "task"
    DELIBERATION = "deliberation"
    WORKFLOW = "workflow"


_ID_PREFIXES: Final = {RunKind.TASK: "task", RunKind.DELIBERATION: "delib", RunKind.WORKFLOW: RUN_PREFIX}


class State(StrEnum):
    """``ended``: no run is due any more."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


#: The texts in the data of ``schedule.`` rows.
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("schedule_id", "run", "erasure"), IDENTITY),
    "reason": frozenset(SkipReason),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Times are epoch seconds. A run is due from ``starts_at`` on and before ``ends_at``, and starts up to ``jitter_s`` later.

    Runs that were missed by up to ``window_s`` are made up, at most ``limit`` of them."""

    timing: Timing
    starts_at: float | None = None
    ends_at: float | None = None
    jitter_s: float = 0.0
    catch_up: CatchUp = CatchUp.ONE
    window_s: float = 86_400.0
    limit: int = 100
    overlap: Overlap = Overlap.SKIP

    def next_after(self, at: float) -> int | None:
        """The first due time after ``at``; None if there is none."""
        if self.starts_at is not None:
            at = max(at, math.nextafter(self.starts_at, -math.inf))
        due = self.timing.next_after(at)
        return None if due is None or (self.ends_at is not None and due >= self.ends_at) else due

    def to_json(self) -> dict[str, Any]:
        return {
            **self.timing.to_json(),
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "jitter_seconds": self.jitter_s,
            "catch_up": self.catch_up.value,
            "catch_up_window_seconds": self.window_s,
            "catch_up_limit": self.limit,
            "overlap": self.overlap.value,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            timing=timing_from_json(data),
            starts_at=data["starts_at"],
            ends_at=data["ends_at"],
            jitter_s=data["jitter_seconds"],
            catch_up=CatchUp(data["catch_up"]),
            window_s=data["catch_up_window_seconds"],
            limit=data["catch_up_limit"],
            overlap=Overlap(data["overlap"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``revision`` counts its changes and its runs: a commit states the one that it was decided from. ``changed_row``: the row
    of the log of its last change, which is the cause of its runs. ``runs``: those that may not have ended, the oldest first;
    none are kept if runs may overlap. ``next_due`` is None if no run is due any more. Times are epoch seconds."""

    id: str
    workspace: str
    principal: str
    name: str
    plan: Plan
    template: Mapping[str, Any]
    created_at: float
    changed_at: float
    next_due: int | None
    paused: bool = False
    revision: int = 1
    changed_row: int = 0
    last_due: int | None = None
    last_run: str | None = None
    runs: tuple[str, ...] = ()
    fired: int = 0

    @property
    def state(self) -> State:
        if self.next_due is None:
            return State.ENDED
        return State.PAUSED if self.paused else State.ACTIVE

    @property
    def fire_at(self) -> float | None:
        """When the next run starts: when it is due, and its jitter later. None while none will."""
        return None if self.next_due is None or self.paused else self.next_due + self.jitter(self.next_due)

    def jitter(self, due: int) -> float:
        """How many seconds after ``due`` the run starts: the same whenever it is asked, another one for each run."""
        return _fraction(f"{self.id}:{due}") * self.plan.jitter_s

    @property
    def kind(self) -> RunKind:
        return kind_of(self.template)

    def owner(self, cause: str = "") -> Origin:
        """In whose name runs start that nobody asked for."""
        return Origin(workspace=self.workspace, principal=self.principal, cause=cause)

    def run_id(self, key: str) -> str:
        """The id of the task, deliberation or run of a workflow that a run is. ``key``: when it was due, or what asked for it."""
        digest = hashlib.blake2b(f"{self.id}\x1f{key}".encode(), digest_size=13).hexdigest()
        return f"{_ID_PREFIXES[self.kind]}_{digest}"

    def preview(self, after: float, count: int) -> list[tuple[int, float]]:
        """(due, when it starts) of the next runs, at most ``count``, as if nothing were paused."""
        found: list[tuple[int, float]] = []
        due = self.plan.next_after(after)
        while due is not None and len(found) < count:
            found.append((due, due + self.jitter(due)))
            due = self.plan.next_after(due)
        return found


def kind_of(template: Mapping[str, Any]) -> RunKind:
    """What is made of a template."""
    return next(kind for kind in RunKind if kind.value in template)


def checked(plan: Plan, now: float, kind: RunKind) -> Plan:
    """The plan, if its parts fit together.

    Raises: `InvalidRequest` if no run would ever be due, or what waits for no other should queue."""
    if plan.overlap is Overlap.QUEUE and kind is not RunKind.TASK:
        raise InvalidRequest(
            f"overlap queue is for tasks, since a {kind.value} waits for no other; use skip, cancel or allow.",
            "invalid_schedule",
        )
    if plan.next_after(now) is None:
        raise InvalidRequest("No run would ever be due; choose a later ends_at or another timing.", "invalid_schedule")
    return plan


def zone_of(plan: Plan) -> str:
    """The time zone of a plan; intervals have none, and are shown in UTC."""
    return plan.timing.timezone if isinstance(plan.timing, Cron) else "UTC"


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / (1 << 48)
