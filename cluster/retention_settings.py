"""The settings of retention: what workspaces keep that have no rule of their own."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings

from cluster.domain.audit.retention import MOST_COUNT, MOST_DAYS, RetentionRule
from cluster.setting_fields import variable

GROUP = "Retention"


class RetentionSettings(BaseSettings):
    """The part of `Settings` about retention."""

    # fmt: off
    task_retention_days: float = variable(30, "Tasks that ended longer ago are removed. 0: none for its age.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    task_retention_count: int = variable(1_000_000, "Of the tasks of a workspace, so many are kept, the newest by their submit; ended ones beyond are removed. 0: any number.", group=GROUP, unit="tasks", ge=0, le=MOST_COUNT)
    deliberation_retention_days: float = variable(90, "Deliberations that ended longer ago are removed, with their journals and receipts. 0: none for its age.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    deliberation_retention_count: int = variable(100_000, "Of the deliberations of a workspace, so many are kept, the newest by their admission; ended ones beyond are removed. 0: any number.", group=GROUP, unit="deliberations", ge=0, le=MOST_COUNT)
    workflow_run_retention_days: float = variable(30, "Runs of workflows that ended longer ago are removed. 0: none for its age.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    workflow_run_retention_count: int = variable(100_000, "Of the runs of workflows of a workspace, so many are kept, the newest by their start; ended ones beyond are removed. 0: any number.", group=GROUP, unit="runs", ge=0, le=MOST_COUNT)
    spending_retention_days: float = variable(800, "What attempts of days longer ago have cost is removed, and which levels budgets reached in periods that began longer ago. 0: none for its age.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    violation_retention_days: float = variable(365, "Violations of policies that are older are removed, whatever their status. 0: none for its age.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    policy_version_retention_days: float = variable(800, "Versions of policies that were replaced or deleted longer ago are removed, but for those that a violation names. 0: none for its age.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    log_retention_days: float = variable(90, "Rows of the log stay in the database so long at least, and for as long as a task, deliberation or run that they tell of; older ones go into archives. 0: none goes.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    log_archive_dir: Path | None = variable(None, "Directory of the archives of the log, which outlives the node. Unset: nothing of the log goes. `aragora-cp up` sets it if the embedded PostgreSQL is used.", group=GROUP)
    audit_retention_days: float = variable(90, "Archives of the log are deleted so long after their rows went. 0: never.", group=GROUP, unit="days", ge=0, le=MOST_DAYS)
    log_hold: float = variable(7 * 86_400, "The log waits so long for a follower (telemetry, notifications, workflows) or another region that has not read rows which could go otherwise; then that goes on behind them, which is told. 0: for ever.", group=GROUP, unit="s", ge=0, le=MOST_DAYS * 86_400)
    # fmt: on

    @field_validator("log_archive_dir")
    @classmethod
    def _archives(cls, value: Path | None) -> Path | None:
        """Ray's processes have another working directory than `up`."""
        return None if value is None else value.absolute()

    def retention_rule(self) -> RetentionRule:
        """What a workspace without a rule of its own keeps."""
        return RetentionRule(
            task_days=self.task_retention_days,
            task_count=self.task_retention_count,
            deliberation_days=self.deliberation_retention_days,
            deliberation_count=self.deliberation_retention_count,
            workflow_run_days=self.workflow_run_retention_days,
            workflow_run_count=self.workflow_run_retention_count,
            spending_days=self.spending_retention_days,
            violation_days=self.violation_retention_days,
            policy_version_days=self.policy_version_retention_days,
        )
