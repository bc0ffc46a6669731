"""A budget: what the tasks of a workspace, an agent or a task type may cost in a day or a month of UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, LogRecord, LogTexts, Origin, record_for

#: Budgets of a workspace. A claim looks at those of its workspace.
MOST_BUDGETS: Final = 100
CREATED: Final = "budget.created"
UPDATED: Final = "budget.updated"
DELETED: Final = "budget.deleted"
#: The rows that say what budgets there are.
CHANGES: Final = (CREATED, UPDATED, DELETED)
LEVEL_REACHED: Final = "budget.level_reached"
#: Percent of a budget at which people are told, ascending. What is throttled loses a level of priority at each but the last.
LEVELS: Final = (50, 75, 90, 100)

#: What is known of the attempts of one day, agent and task type, in the order of the columns of CSV.
SPENDING_COLUMNS: Final = (*("day", "agent_id", "task_type", "attempts", "spent_usd", "reserved_usd", "unknown_costs"),)

_CODE: Final = "invalid_budget"


class BudgetScope(StrEnum):
    """Whose attempts a budget counts."""

    WORKSPACE = "workspace"
    AGENT = "agent"
    TASK_TYPE = "task_type"


class Period(StrEnum):
    """How long a budget lasts before it begins anew, at midnight UTC."""

    DAY = "day"
    MONTH = "month"


class Mode(StrEnum):
    """What a budget does. ``soft``: it only counts and tells. ``hard``: nothing starts whose reservation it has no room for.
    ``throttle``: as hard, and its tasks come later the more of it is used."""

    SOFT = "soft"
    HARD = "hard"
    THROTTLE = "throttle"


LOG_TEXTS: LogTexts = {
    "scope": frozenset(BudgetScope),
    **dict.fromkeys(("subject", "budget_id", "budget_ids", "erasure", "task_ids", "days"), IDENTITY),
    "period": frozenset(Period),
    "mode": frozenset(Mode),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """``subject`` is the agent's id or the task type of the scope, empty for the workspace. ``estimate_nanos`` is reserved for an
    attempt until its cost is known. Money is in nano-dollars, times are epoch seconds."""

    id: str
    workspace: str
    name: str
    scope: BudgetScope
    subject: str
    period: Period
    mode: Mode
    limit_nanos: int
    estimate_nanos: int
    version: int = 1
    created_at: float
    created_by: str
    changed_at: float
    changed_by: str

    def changed(self, fields: Mapping[str, Any], by: str, now: float) -> Budget:
        """The next version, with these fields (of name, mode, limit and estimate).

        Raises: `InvalidRequest` as ``checked`` does."""
        return checked(replace(self, version=self.version + 1, changed_at=now, changed_by=by, **fields))

    @property
    def blocks(self) -> bool:
        """Whether nothing starts for which it has no room."""
        return self.mode is not Mode.SOFT

    def counts(self, agent_id: str | None, task_type: str | None) -> bool:
        """Whether it counts an attempt of this agent at a task of this type, both in its workspace. None: no certain one."""
        if self.scope is BudgetScope.AGENT:
            return self.subject == agent_id
        return self.scope is BudgetScope.WORKSPACE or self.subject == task_type

    def about(self) -> str:
        """What it is about, for people."""
        return self.scope.value.replace("_", " ") + f" {self.subject or self.workspace}"

    def record(self, origin: Origin, now: float, kind: str) -> LogRecord:
        """The row of a change. It has all of the budget, so that a shard that follows the log needs no second read; the name is
        words."""
        data = {
            **{name: getattr(self, name).value for name in ("scope", "period", "mode")},
            **{name: getattr(self, name) for name in ("subject", "limit_nanos", "estimate_nanos", "version")},
        }
        return record_for(origin, now, kind, self.id, data, {"name": self.name})

    @classmethod
    def from_log(cls, budget_id: str, workspace: str, at: float, principal: str, data: Mapping[str, Any]) -> Budget:
        """The budget of a row that made or changed it, without its name and with the times of that row."""
        return cls(
            id=budget_id,
            workspace=workspace,
            name="",
            scope=BudgetScope(data["scope"]),
            subject=data["subject"],
            period=Period(data["period"]),
            mode=Mode(data["mode"]),
            limit_nanos=data["limit_nanos"],
            estimate_nanos=data["estimate_nanos"],
            version=data["version"],
            created_at=at,
            created_by=principal,
            changed_at=at,
            changed_by=principal,
        )


def checked(budget: Budget) -> Budget:
    """The budget, if it makes sense.

    Raises: `InvalidRequest` if its subject does not fit its scope, it throttles an agent, or its estimate is nothing or more than
    its limit."""
    if (budget.scope is BudgetScope.WORKSPACE) == bool(budget.subject):
        raise InvalidRequest(
            "A budget of an agent or a task type names it in subject, one of the workspace names none.", _CODE
        )
    if budget.mode is Mode.THROTTLE and budget.scope is BudgetScope.AGENT:
        raise InvalidRequest(
            "throttle makes tasks wait for other tasks, so it needs the scope workspace or task_type.", _CODE
        )
    if budget.estimate_nanos == 0:
        raise InvalidRequest("estimate_usd must be more than nothing: what one attempt is expected to cost.", _CODE)
    if budget.estimate_nanos > budget.limit_nanos:
        raise InvalidRequest("estimate_usd must be at most limit_usd, else nothing could ever start.", _CODE)
    return budget


@dataclass(frozen=True, slots=True)
class Window:
    """One day or month of a budget: from ``start`` until before ``end``, in epoch seconds."""

    start: float
    end: float


def window_of(period: Period, at: float) -> Window:
    """The day or month of UTC in which a time is."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return Window(day.timestamp(), (day + timedelta(days=1)).timestamp())
    first = day.replace(day=1)
    return Window(first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp())


def level_of(used_nanos: int, limit_nanos: int) -> int:
    """The highest of `LEVELS` that an amount has reached; 0 below all of them."""
    return max((level for level in LEVELS if used_nanos * 100 >= limit_nanos * level), default=0)


def forecast(spent_nanos: int, window: Window, now: float) -> int | None:
    """What will be spent by the end of the window if it goes on as until now; None in the first hundredth of it, of which nothing
    can be told."""
    passed = (now - window.start) / (window.end - window.start)
    return None if passed < 0.01 else round(spent_nanos / min(passed, 1.0))
