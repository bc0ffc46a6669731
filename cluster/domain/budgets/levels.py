"""The levels of budgets that people are told of."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.base.log import SYSTEM, LogRecord
from cluster.domain.budgets.accounts import Account
from cluster.domain.budgets.budget import LEVEL_REACHED


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelReached:
    """A budget has used ``level`` percent of its limit in the period that begins at ``period_start``. There is one row of each
    level, period and limit. Money is in nano-dollars, times are epoch seconds."""

    budget_id: str
    workspace: str
    period_start: float
    limit_nanos: int
    level: int
    spent_nanos: int
    reserved_nanos: int
    at: float

    @classmethod
    def of(cls, account: Account, now: float) -> LevelReached:
        """The highest level that an account has reached."""
        return cls(
            budget_id=account.budget.id,
            workspace=account.budget.workspace,
            period_start=account.start,
            limit_nanos=account.budget.limit_nanos,
            level=account.level,
            spent_nanos=account.spent,
            reserved_nanos=account.reserved,
            at=now,
        )

    def record(self) -> LogRecord:
        """Its row."""
        names = ("level", "period_start", "limit_nanos", "spent_nanos", "reserved_nanos")
        return LogRecord(
            at=self.at,
            workspace=self.workspace,
            kind=LEVEL_REACHED,
            entity=self.budget_id,
            principal=SYSTEM,
            data={name: getattr(self, name) for name in names},
        )
