"""Bodies and answers about tasks that wait for their children."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from cluster.domain.base.ids import check_id
from cluster.domain.tasks.children import MAX_CHILDREN, Parked
from serve_app.schemas.fields import ExactBody, Money, Text


class ParkInReport(ExactBody):
    """``children``: ids of tasks that were submitted with this one as their ``parent_task_id``, all of which have to end.
    ``checkpoint``: from where the next attempt goes on."""

    children: list[str] = Field(min_length=1, max_length=MAX_CHILDREN)
    checkpoint: Any = None

    @field_validator("children")
    @classmethod
    def _children(cls, value: list[str]) -> list[str]:
        return [check_id(child, "children") for child in value]


class Park(ParkInReport):
    """The same as a body of its own. ``cost_usd``: what the attempt has cost, for budgets."""

    lease_token: Text = Field(max_length=1024)
    cost_usd: Money | None = None


def parked_wire(parked: Parked) -> dict[str, Any]:
    """What a task waits for, or has waited for last."""
    return {"attempt": parked.attempt, "parked_at": parked.at, "children": list(parked.children)}
