"""Bodies and answers about schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.schedules.schedule import (
    MOST_CATCH_UP,
    MOST_JITTER_S,
    MOST_WINDOW_S,
    CatchUp,
    Overlap,
    Plan,
    RunKind,
    Schedule,
    zone_of,
)
from cluster.domain.schedules.timing import Cron, Interval, Timing, cron, interval
from cluster.domain.tasks.task import Priority
from cluster.domain.tasks.template import templated_task
from serve_app.schemas.deliberations import Deliberate
from serve_app.schemas.fields import ExactBody, Named, Text, iso_time
from serve_app.schemas.questions import input_wire
from serve_app.schemas.tasks import CreateTask, rules_wire
from serve_app.schemas.workflows import StartRun

#: The beginning of the year 2100.
MOST_EPOCH_S: Final = 4_102_444_800
#: What each run has of its own, so that a template cannot have it.
_OF_A_RUN: Final = ("run_at", "delay_seconds", "after", "idempotency_key")


class ScheduledRun(StartRun):
    """A run of the workflow ``name``, as in POST /workflows/{name}/runs. Without a ``version`` each run is of the newest one."""

    name: str

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_id(value, "name")


class ScheduleFields(ExactBody):
    """When runs are due (``cron`` in a ``timezone``, or ``every_seconds``), and what each is: a ``task`` (a body of POST
    /tasks), a ``deliberation`` (one of POST /deliberations) or a run of a ``workflow``. Times are epoch seconds. In a change,
    fields that are left out stay as they are.

    ``catch_up`` says which missed runs are made up: none (``skip``), the newest (``one``) or ``all``, of the last
    ``catch_up_window_seconds`` and at most ``catch_up_limit``. ``overlap`` says what happens to a run that is due while
    an earlier one has not ended: none starts (``skip``), it waits (``queue``, tasks only), the earlier one is cancelled
    (``cancel``), or both run (``allow``). A run starts up to ``jitter_seconds`` after it is due.
    """

    name: Named | None = Field(None, max_length=200)
    cron: Text | None = Field(None, max_length=256)
    timezone: Text | None = Field(None, max_length=100)
    every_seconds: int | None = None
    starts_at: float | None = Field(None, ge=0, le=MOST_EPOCH_S)
    ends_at: float | None = Field(None, ge=0, le=MOST_EPOCH_S)
    jitter_seconds: float | None = Field(None, ge=0, le=MOST_JITTER_S)
    catch_up: CatchUp | None = None
    catch_up_window_seconds: float | None = Field(None, ge=0, le=MOST_WINDOW_S)
    catch_up_limit: int | None = Field(None, ge=1, le=MOST_CATCH_UP)
    overlap: Overlap | None = None
    paused: bool | None = None
    task: CreateTask | None = None
    deliberation: Deliberate | None = None
    workflow: ScheduledRun | None = None

    @field_validator("task")
    @classmethod
    def _task(cls, value: CreateTask | None) -> CreateTask | None:
        given = [name for name in _OF_A_RUN if value is not None and name in value.model_fields_set]
        if given:
            raise InvalidRequest(f"task.{given[0]} is each run's own; leave it out of a schedule.", "invalid_template")
        return value

    @field_validator("deliberation")
    @classmethod
    def _deliberation(cls, value: Deliberate | None) -> Deliberate | None:
        if value is not None and value.request_id is not None:
            raise InvalidRequest(
                "deliberation.request_id is each run's own; leave it out of a schedule.", "invalid_template"
            )
        return value

    def timing(self, old: Plan | None, now: float) -> Timing:
        """When runs are due. ``old``: the plan that is changed.

        Raises: `InvalidRequest` if it is not given, given in two ways, or cannot be.
        """
        if self.cron is not None and self.every_seconds is not None:
            raise InvalidRequest("Give cron or every_seconds, not both.", "invalid_schedule")
        before = None if old is None else old.timing
        if self.cron is not None:
            zone = self.timezone or (before.timezone if isinstance(before, Cron) else "UTC")
            return cron(self.cron, zone)
        starts_at = self.starts_at if old is None or "starts_at" in self.model_fields_set else old.starts_at
        if self.every_seconds is not None:
            return interval(self.every_seconds, math.floor(now if starts_at is None else starts_at))
        if isinstance(before, Cron):
            return before if self.timezone is None else cron(before.expression, self.timezone)
        if isinstance(before, Interval):
            return before if self.starts_at is None else interval(before.every_s, math.floor(self.starts_at))
        raise InvalidRequest("Give cron or every_seconds: when runs are due.", "invalid_schedule")

    def plan(self, old: Plan | None, now: float) -> Plan:
        """The plan, of which parts that are not given are ``old``'s or the defaults.

        Raises: as ``timing`` does."""
        timing = self.timing(old, now)
        plan = replace(old, timing=timing) if old is not None else Plan(timing=timing)
        given: dict[str, Any] = {
            "jitter_s": self.jitter_seconds,
            "catch_up": self.catch_up,
            "window_s": self.catch_up_window_seconds,
            "limit": self.catch_up_limit,
            "overlap": self.overlap,
        }
        bounds = {name: getattr(self, name) for name in ("starts_at", "ends_at") if name in self.model_fields_set}
        return replace(plan, **{name: value for name, value in given.items() if value is not None}, **bounds)


def schedule_wire(schedule: Schedule) -> dict[str, Any]:
    """A schedule as readers are shown it."""
    plan, timing = schedule.plan, schedule.plan.timing
    return {
        "schedule_id": schedule.id,
        "name": schedule.name,
        "state": schedule.state.value,
        "cron": timing.expression if isinstance(timing, Cron) else None,
        "timezone": zone_of(plan),
        "every_seconds": timing.every_s if isinstance(timing, Interval) else None,
        "starts_at": plan.starts_at,
        "ends_at": plan.ends_at,
        "jitter_seconds": plan.jitter_s,
        "catch_up": plan.catch_up.value,
        "catch_up_window_seconds": plan.window_s,
        "catch_up_limit": plan.limit,
        "overlap": plan.overlap.value,
        "paused": schedule.paused,
        "next_run_at": schedule.fire_at,
        "last_due_at": schedule.last_due,
        "last_run_id": schedule.last_run,
        "open_run_ids": list(schedule.runs),
        "runs_started": schedule.fired,
        "created_at": schedule.created_at,
        "changed_at": schedule.changed_at,
        "created_by": schedule.principal,
        "task_type": schedule.template["task"]["task_type"] if schedule.kind is RunKind.TASK else None,
        "task": templated_wire(schedule.template) if schedule.kind is RunKind.TASK else None,
        "deliberation": schedule.template["deliberation"]["given"] if schedule.kind is RunKind.DELIBERATION else None,
        "workflow_name": schedule.template["workflow"]["name"] if schedule.kind is RunKind.WORKFLOW else None,
        "workflow": schedule.template["workflow"] if schedule.kind is RunKind.WORKFLOW else None,
    }


def templated_wire(template: Mapping[str, Any]) -> dict[str, Any]:
    """The task of a template as readers are shown it, who may give it again."""
    task = templated_task(template, id="", origin=Origin(workspace=""), now=0.0)
    # `max_retries` beside `retry`, which has them, would be refused.
    has_retry = task.rules is not None and task.rules.retries is not None
    return {
        "task_type": task.task_type,
        "payload": task.payload,
        "metadata": task.metadata,
        "required_capabilities": list(task.required_capabilities),
        "priority": Priority(task.priority).wire_name,
        "timeout_seconds": task.timeout_s,
        **({} if has_retry else {"max_retries": task.max_retries}),
        "queue": task.queue,
        "target_agent": task.target_agent,
        "target_region": task.target_region,
        "fallback_regions": list(task.fallback_regions),
        "region_routing_mode": task.region_routing_mode,
        **rules_wire(task.rules, task.max_retries),
        **input_wire(task.question),
    }


def preview_wire(schedule: Schedule, runs: list[tuple[int, float]]) -> dict[str, Any]:
    """The next runs of a schedule, each as epoch seconds and in its time zone."""
    return {
        "schedule_id": schedule.id,
        "timezone": zone_of(schedule.plan),
        "runs": [
            {"due_at": due, "due": local_time(schedule, due), "starts_at": starts, "starts": iso_time(starts)}
            for due, starts in runs
        ],
    }


def local_time(schedule: Schedule, due: int) -> str:
    """ISO 8601 with the offset that the schedule's zone has then."""
    return datetime.fromtimestamp(due, ZoneInfo(zone_of(schedule.plan))).isoformat()
