"""Bodies of retention."""

from __future__ import annotations

from pydantic import Field

from cluster.domain.audit.retention import MOST_COUNT, MOST_DAYS
from serve_app.schemas.fields import ExactBody


class SetRetention(ExactBody):
    """What the workspace keeps. Days count from the end, numbers are of the newest by their submit; 0 is no bound. A field that
    is left out stays as it is."""

    task_days: float | None = Field(None, ge=0, le=MOST_DAYS, allow_inf_nan=False)
    task_count: int | None = Field(None, ge=0, le=MOST_COUNT)
    deliberation_days: float | None = Field(None, ge=0, le=MOST_DAYS, allow_inf_nan=False)
    deliberation_count: int | None = Field(None, ge=0, le=MOST_COUNT)
    workflow_run_days: float | None = Field(None, ge=0, le=MOST_DAYS, allow_inf_nan=False)
    workflow_run_count: int | None = Field(None, ge=0, le=MOST_COUNT)
    spending_days: float | None = Field(None, ge=0, le=MOST_DAYS, allow_inf_nan=False)
    violation_days: float | None = Field(None, ge=0, le=MOST_DAYS, allow_inf_nan=False)
    policy_version_days: float | None = Field(None, ge=0, le=MOST_DAYS, allow_inf_nan=False)


class RunRetention(ExactBody):
    """``dry_run`` only counts what would be removed now."""

    dry_run: bool = False
