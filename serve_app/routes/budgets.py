"""Routes of budgets: what tasks may cost in a day or a month, and what they have cost.

A replica writes budgets itself; the scheduler's shard, which holds them, and other replicas follow the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Query, Request
from starlette.responses import Response

from aragora_worker.base.money import usd
from cluster.domain.access.permissions import Permission
from cluster.domain.audit.export import csv_cell, csv_line
from cluster.domain.base.errors import InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.budgets.accounts import BudgetSums
from cluster.domain.budgets.budget import (
    CREATED,
    DELETED,
    SPENDING_COLUMNS,
    UPDATED,
    Budget,
    Period,
    Window,
    checked,
    window_of,
)
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.budgets import Spending
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.routes.made_before import still_there
from serve_app.schemas.budgets import BudgetChange, NewBudget, budget_wire, spending_wire, usage_wire

router = GuardedRouter(tags=["budgets"])

#: Rows of an answer about spending: a day, agent and task type each.
MOST_ROWS: Final = 10_000
MOST_DAYS: Final = 366
Day = Annotated[str | None, Query(max_length=10, description="A day of UTC, such as 2026-01-31.")]


@router.get("/budgets")
@requires(Permission.BUDGETS_READ)
async def list_budgets(request: Request, asker: Asker) -> dict[str, Any]:
    """All budgets of the workspace, the oldest first, with what is spent and reserved of each in its present period."""
    gate = gateway(request)
    budgets = await gate.budgets.list(asker.workspace)
    return {"budgets": await _with_usage(gate, asker, budgets), "total": len(budgets)}


async def _with_usage(gate: Gateway, asker: Origin, budgets: Sequence[Budget]) -> list[dict[str, Any]]:
    now = gate.clock.now()
    windows = {budget.id: window_of(budget.period, now) for budget in budgets}
    sums = await gate.budgets.sums(asker.workspace, windows)
    return [
        budget_wire(budget) | {"usage": usage_wire(budget, sums.get(budget.id, BudgetSums()), now)}
        for budget in budgets
    ]


@router.post("/budgets", status_code=201)
@requires(Permission.BUDGETS_WRITE)
async def create_budget(request: Request, body: NewBudget, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a budget. It counts attempts that start from now on. 400 (`InvalidRequest`) if its fields do not fit together, 409
    (`Conflict`) if the key was used with another body or for a budget that has been deleted since, or there are 100 budgets."""
    gate = gateway(request)
    now = gate.clock.now()
    budget = checked(
        Budget(
            id=gate.new_id("budget"),
            workspace=asker.workspace,
            created_at=now,
            created_by=asker.principal,
            changed_at=now,
            changed_by=asker.principal,
            **body.all_fields(),
        )
    )
    idem = None
    if key is not None:
        digest = body_digest(body.model_dump(mode="json", exclude_unset=True))
        idem = IdempotencyKey(route="budgets/create", key=key, body_digest=digest)
    budget_id = await gate.budgets.create(budget, budget.record(asker, now, CREATED), idem)
    return await still_there(_published(gate, asker, budget_id), "budget")


async def _published(gate: Gateway, asker: Origin, budget_id: str) -> dict[str, Any]:
    """The answer about a budget that was changed, when this replica's copy has the change; the others are told."""
    await gate.budget_view.refresh([budget_id])
    gate.notify(WakeTopic.ACCESS, WakeTopic.CONTROLS)
    return budget_wire(await _known(gate, asker, budget_id))


async def _known(gate: Gateway, asker: Origin, budget_id: str) -> Budget:
    found = await gate.budgets.get(asker.workspace, check_id(budget_id, "budget_id"))
    if found is None:
        raise NotFound(f"There is no budget {budget_id}.", "budget_not_found")
    return found


@router.get("/budgets/{budget_id}")
@requires(Permission.BUDGETS_READ)
async def get_budget(request: Request, budget_id: str, asker: Asker) -> dict[str, Any]:
    """A budget, with what is spent and reserved of it in its present period. 404 (`NotFound`) if there is no such budget."""
    gate = gateway(request)
    return (await _with_usage(gate, asker, [await _known(gate, asker, budget_id)]))[0]


@router.put("/budgets/{budget_id}")
@requires(Permission.BUDGETS_WRITE)
async def update_budget(
    request: Request, budget_id: str, body: BudgetChange, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Changes a budget's name, mode, limit or estimate; what is left out stays. What it is about and its period are for good.
    400 (`InvalidRequest`) if its fields do not fit together, 404 (`NotFound`) if there is no such budget, 409 (`Conflict`) if
    somebody else changes it at the same moment."""
    gate = gateway(request)
    fields = body.fields()

    async def change() -> dict[str, Any]:
        budget = await _known(gate, asker, budget_id)
        if any(getattr(budget, name) != value for name, value in fields.items()):
            after = budget.changed(fields, asker.principal, gate.clock.now())
            await gate.budgets.change(after, after.record(asker, after.changed_at, UPDATED))
        return await _published(gate, asker, budget_id)

    given = body.model_dump(mode="json", exclude_unset=True)
    return await answered_once(gate, asker, f"budgets/update/{budget_id}", key, given, change)


@router.delete("/budgets/{budget_id}")
@requires(Permission.BUDGETS_WRITE)
async def delete_budget(request: Request, budget_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a budget; what attempts have cost stays. 404 (`NotFound`) if there is no such budget, 409 (`Conflict`) if somebody
    else changes it at the same moment."""
    gate = gateway(request)

    async def delete() -> dict[str, Any]:
        budget = await _known(gate, asker, budget_id)
        await gate.budgets.remove(budget, budget.record(asker, gate.clock.now(), DELETED))
        await gate.budget_view.refresh([budget_id])
        gate.notify(WakeTopic.ACCESS, WakeTopic.CONTROLS)
        return {"deleted": True}

    return await answered_once(gate, asker, f"budgets/delete/{budget_id}", key, None, delete)


@router.get("/spending")
@requires(Permission.BUDGETS_READ)
async def spending(request: Request, asker: Asker, start: Day = None, end: Day = None) -> dict[str, Any]:
    """What attempts have cost that a budget counted, by the day on which they started, agent and task type: from the day
    ``start`` until before the day ``end``, at most 366 days; the present month if neither is given. ``truncated``: there are more
    than 10,000 rows, and the last ones are left out. 400 (`InvalidRequest`) if a day is none."""
    gate = gateway(request)
    window = _window(start, end, gate.clock.now())
    found, truncated = await _spent(gate, asker, window)
    return {
        "start": _day(window.start),
        "end": _day(window.end),
        "spending": [spending_wire(each) for each in found],
        "total_spent_usd": usd(sum(each.spent for each in found)),
        "total_reserved_usd": usd(sum(each.reserved for each in found)),
        "truncated": truncated,
    }


@router.get("/spending/export", response_model=None)
@requires(Permission.BUDGETS_READ)
async def export_spending(request: Request, asker: Asker, start: Day = None, end: Day = None) -> Response:
    """The same as `GET /spending`, as CSV with a line of names. 400 (`InvalidRequest`) if a day is none, or there are more than
    10,000 rows."""
    gate = gateway(request)
    found, truncated = await _spent(gate, asker, _window(start, end, gate.clock.now()))
    if truncated:
        raise InvalidRequest(f"There are more than {MOST_ROWS:,} rows; ask for fewer days.", "too_many_rows")
    wires = [spending_wire(each) for each in found]
    lines = [
        csv_line(SPENDING_COLUMNS),
        *(csv_line([csv_cell(wire[name]) for name in SPENDING_COLUMNS]) for wire in wires),
    ]
    return Response("".join(f"{line}\n" for line in lines), media_type="text/csv")


async def _spent(gate: Gateway, asker: Origin, window: Window) -> tuple[Sequence[Spending], bool]:
    found = await gate.budgets.spending(asker.workspace, window, MOST_ROWS + 1)
    return found[:MOST_ROWS], len(found) > MOST_ROWS


def _window(start: str | None, end: str | None, now: float) -> Window:
    """The days of a call. Raises: `InvalidRequest` if one is none, or they are too many or none."""
    month = window_of(Period.MONTH, now)
    if start is None and end is None:
        return month
    first = _read(start, "start") or month.start
    last = _read(end, "end") or first + 31 * 86_400.0
    if not first < last <= first + MOST_DAYS * 86_400.0:
        raise InvalidRequest(f"end must be a later day than start, by at most {MOST_DAYS} days.", "invalid_range")
    return Window(first, last)


def _read(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
        if not date(1970, 1, 2) <= day <= date(9998, 1, 1):
            raise ValueError
    except ValueError:
        raise InvalidRequest(f"{name} must be a day such as 2026-01-31.", f"invalid_{name}") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day(at: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)).date().isoformat()
