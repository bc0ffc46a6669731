"""What one attempt costs: reserved when it starts, settled when it ends. One row of the store holds both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An amount that is set aside for an attempt, in the commit that starts it. ``budgets`` are the ids of those that count it,
    for good: a budget that is made later does not. ``at`` is when it started (epoch seconds), which decides on the period."""

    task_id: str
    attempt: int
    workspace: str
    agent_id: str
    task_type: str
    budgets: tuple[str, ...]
    nanos: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt has cost, in the commit that ends it. ``is_known``: its holder said so; else the reserved amount counts as
    spent."""

    task_id: str
    attempt: int
    nanos: int
    is_known: bool


Entry = Reservation | Settlement
