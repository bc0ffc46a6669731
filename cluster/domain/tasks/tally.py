"""How many tasks have ended, and how fast work goes: a fold of the log, so that no answer has to count the tasks.

The table of tasks only grows, so whatever counts it costs more every day. This value is as large as the number of
workspaces, task types and priorities, whatever the age: hours are kept for two days, minutes for an hour and seconds for a
minute. A task that has ended never opens again (a replay of a dead letter is a new task), so every row that ends one adds
one, and nothing is subtracted; what retention deletes stays counted. Open tasks are not here: they are few, and are counted
where they are.

A workspace keeps ``TYPES_KEPT`` task types by name, and all others under `OTHER_TYPES`: a client may submit a new type each time.
The kept ones are those that ended first in the order of the log, so every process keeps the same. Open tasks are folded to the
same names by whoever counts them (``kept``).

It folds rows of every build: kinds tell the status, and ``task_type`` and ``priority`` were in these rows from the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster.domain.tasks.task import OTHER_TYPES, Priority, TaskStatus

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86_400
HOURS_KEPT = 48
MINUTES_KEPT = 60
SECONDS_KEPT = 60
#: So many task types of a workspace are counted by name.
TYPES_KEPT = 256

#: Kind of a row that ends a task → the status that the task has then.
ENDS: Mapping[str, TaskStatus] = {
    "task.completed": TaskStatus.COMPLETED,
    "task.failed": TaskStatus.FAILED,
    "task.dead_lettered": TaskStatus.FAILED,
    "task.cancelled": TaskStatus.CANCELLED,
    "task.timeout": TaskStatus.TIMEOUT,
}
CLAIMED = "task.claimed"
#: Kinds of rows that end a deliberation, and say how many tokens it took.
SPENT = ("deliberation.completed", "deliberation.failed", "deliberation.cancelled")
#: The rows that count here; `Tally.apply` may be spared all others.
KINDS = (*ENDS, CLAIMED, *SPENT)
#: What is counted by hours beside the statuses.
TOKENS = "tokens"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TallyRow:
    """What the fold needs of a row of the log."""

    at: float
    workspace: str
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OpenCount:
    """How many open tasks of a workspace have a status, a type and a priority."""

    status: TaskStatus
    task_type: str
    priority: int
    tasks: int


@dataclass(slots=True)
class _Pace:
    """Claims and completions of one minute: how many, and the sum of their times."""

    waits: int = 0
    wait_s: float = 0.0
    runs: int = 0
    run_s: float = 0.0


@dataclass(slots=True)
class _Counts:
    """The tally of one workspace. ``Tally.apply`` alone changes it."""

    #: (status, type, priority) → tasks that ever ended so. The type is a kept one, or `OTHER_TYPES`.
    ended: dict[tuple[str, str, int], int] = field(default_factory=dict)
    #: The task types that are counted by name. Never more than ``Tally.types_kept``, and none is ever dropped.
    kept: set[str] = field(default_factory=set)
    #: Hour since the epoch → status or ``tokens`` → how many.
    hours: dict[int, dict[str, int]] = field(default_factory=dict)
    #: Minute since the epoch → its pace.
    minutes: dict[int, _Pace] = field(default_factory=dict)
    #: Second since the epoch → completed tasks.
    seconds: dict[int, int] = field(default_factory=dict)

    def add_hour(self, hour: int, what: str, amount: int) -> None:
        slot = _slot(self.hours, hour, {}, HOURS_KEPT)
        slot[what] = slot.get(what, 0) + amount

    def add_ended(self, status: str, task_type: str, priority: int, amount: int) -> None:
        key = (status, task_type, priority)
        self.ended[key] = self.ended.get(key, 0) + amount

    def named(self, task_type: str, types_kept: int) -> str:
        """The name that a type is counted under. A new one is kept while there is room."""
        if task_type in self.kept or task_type == OTHER_TYPES:
            return task_type
        if len(self.kept) >= types_kept:
            return OTHER_TYPES
        self.kept.add(task_type)
        return task_type

    def minute(self, at: float) -> _Pace:
        return _slot(self.minutes, int(at // MINUTE_S), _Pace(), MINUTES_KEPT + 1)

    def add_second(self, second: int, amount: int) -> None:
        self.seconds[second] = _slot(self.seconds, second, 0, SECONDS_KEPT + 1) + amount


def _slot(slots: MutableMapping[int, T], number: int, new: T, most: int) -> T:
    """The value of a slot. A new slot drops those that are ``most`` or more older than the newest."""
    found = slots.get(number)
    if found is not None:
        return found
    slots[number] = new
    newest = max(slots)
    for old in [slot for slot in slots if slot <= newest - most]:
        del slots[old]
    slots.setdefault(number, new)  # a row that comes very late; the next new slot drops it
    return new


@dataclass(slots=True)
class Tally:
    """The fold. Mutable on purpose, as `Metrics` is: its one owner applies thousands of rows a second."""

    types_kept: int = TYPES_KEPT
    _counts: dict[str, _Counts] = field(default_factory=dict)
    """By workspace."""

    def _of(self, workspace: str) -> _Counts:
        """The counts to read: a workspace of which nothing was counted leaves nothing behind."""
        return self._counts.get(workspace) or _Counts()

    def _changed(self, workspace: str) -> _Counts:
        return self._counts.setdefault(workspace, _Counts())

    def apply(self, row: TallyRow) -> None:
        """Counts a row of the log. Each row must be applied once, in order."""
        counts, data = self._changed(row.workspace), row.data
        if row.kind in ENDS:
            status = ENDS[row.kind]
            task_type = counts.named(str(data.get("task_type", "")), self.types_kept)
            counts.add_ended(status.value, task_type, int(data.get("priority", 0)), 1)
            counts.add_hour(int(row.at // HOUR_S), status.value, 1)
        if row.kind == "task.completed":
            counts.add_second(int(row.at), 1)
            if "duration_seconds" in data:  # people's answers are no runs
                pace = counts.minute(row.at)
                pace.runs += 1
                pace.run_s += float(data["duration_seconds"])
        elif row.kind == CLAIMED:
            pace = counts.minute(row.at)
            pace.waits += 1
            pace.wait_s += float(data.get("wait_seconds", 0.0))
        elif row.kind in SPENT:
            counts.add_hour(int(row.at // HOUR_S), TOKENS, int(data.get("tokens", 0)))

    def kept(self, workspace: str) -> list[str]:
        """The task types of a workspace that are counted by name, sorted."""
        return sorted(self._of(workspace).kept)

    def counts(self, workspace: str, open_counts: Iterable[OpenCount]) -> dict[str, Any]:
        """``{by_status, by_priority (of those that wait), by_type, total}`` of the tasks of a workspace that there ever were,
        with those that are open. These must be folded to the ``kept`` names, and to as many others as there is room for."""
        by_status: dict[str, int] = defaultdict(int)
        by_type: dict[str, int] = defaultdict(int)
        by_priority: dict[str, int] = defaultdict(int)
        for (status, task_type, _), ended in self._of(workspace).ended.items():
            by_status[status] += ended
            by_type[task_type] += ended
        for count in open_counts:
            by_status[count.status.value] += count.tasks
            by_type[count.task_type] += count.tasks
            if count.status is TaskStatus.PENDING:
                by_priority[Priority(count.priority).wire_name] += count.tasks
        return {
            "by_status": dict(by_status),
            "by_priority": dict(by_priority),
            "by_type": dict(by_type),
            "total": sum(by_status.values()),
        }

    def queue_metrics(self, workspace: str, open_counts: Iterable[OpenCount], now: float) -> dict[str, float]:
        """How many tasks wait and run, totals of today (UTC), means of the last hour by whole minutes, and completions of the
        last minute by whole seconds."""
        waiting: dict[TaskStatus, int] = defaultdict(int)
        for count in open_counts:
            waiting[count.status] += count.tasks
        counts = self._of(workspace)
        paces = [pace for minute, pace in counts.minutes.items() if minute >= now // MINUTE_S - MINUTES_KEPT]
        waits, runs = sum(pace.waits for pace in paces), sum(pace.runs for pace in paces)
        return {
            "pending": waiting[TaskStatus.PENDING],
            "running": waiting[TaskStatus.RUNNING],
            "completed_today": self._today(workspace, now, TaskStatus.COMPLETED.value),
            "failed_today": self._today(workspace, now, TaskStatus.FAILED.value, TaskStatus.TIMEOUT.value),
            "avg_wait_time_ms": sum(pace.wait_s for pace in paces) / waits * 1000 if waits else 0.0,
            "avg_execution_time_ms": sum(pace.run_s for pace in paces) / runs * 1000 if runs else 0.0,
            "throughput_per_minute": sum(n for second, n in counts.seconds.items() if second >= now - SECONDS_KEPT),
        }

    def tokens_today(self, workspace: str, now: float) -> int:
        """Tokens of the deliberations of a workspace that ended today (UTC)."""
        return self._today(workspace, now, TOKENS)

    def _today(self, workspace: str, now: float, *what: str) -> int:
        midnight = (now - now % DAY_S) // HOUR_S
        hours = [slot for hour, slot in self._of(workspace).hours.items() if hour >= midnight]
        return sum(slot.get(name, 0) for slot in hours for name in what)

    def snapshot(self) -> dict[str, Any]:
        """The tally as JSON, to be stored with the cursor up to which the log was counted."""
        stored: dict[str, list[list[Any]]] = {"ended": [], "hours": [], "minutes": [], "seconds": []}
        for workspace, counts in self._counts.items():
            stored["ended"] += [[workspace, *key, tasks] for key, tasks in counts.ended.items()]
            stored["hours"] += [
                [workspace, hour, what, amount] for hour, slot in counts.hours.items() for what, amount in slot.items()
            ]
            stored["minutes"] += [
                [workspace, minute, pace.waits, pace.wait_s, pace.runs, pace.run_s]
                for minute, pace in counts.minutes.items()
            ]
            stored["seconds"] += [[workspace, second, tasks] for second, tasks in counts.seconds.items()]
        return stored

    @classmethod
    def restore(cls, stored: Mapping[str, Any], types_kept: int = TYPES_KEPT) -> Tally:
        """The tally of a snapshot. One with more types than are kept (the first was made by a scan, and earlier builds kept all)
        keeps those with the most tasks."""
        tally = cls(types_kept=types_kept)
        ended = stored.get("ended", ())
        tasks_of: dict[tuple[str, str], int] = defaultdict(int)
        for workspace, _, task_type, _, tasks in ended:
            tasks_of[workspace, task_type] += int(tasks)
        for workspace, task_type in sorted(tasks_of, key=lambda key: (-tasks_of[key], key)):
            tally._changed(workspace).named(task_type, types_kept)
        for workspace, status, task_type, priority, tasks in ended:
            counts = tally._changed(workspace)
            counts.add_ended(status, counts.named(task_type, types_kept), int(priority), int(tasks))
        for workspace, hour, what, amount in stored.get("hours", ()):
            tally._changed(workspace).add_hour(int(hour), what, int(amount))
        for workspace, minute, *pace in stored.get("minutes", ()):
            tally._changed(workspace).minutes[int(minute)] = _Pace(*pace)
        for workspace, second, tasks in stored.get("seconds", ()):
            tally._changed(workspace).add_second(int(second), int(tasks))
        return tally
