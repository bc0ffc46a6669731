"""``aragora-cp budgets``: what tasks may cost in a day or a month, and what they have cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, path_segment, print_json
from cluster.cli.output import console, listing, plain

app = typer.Typer(
    no_args_is_help=True, help="Budgets: what tasks may cost in a day or a month, and what they have cost."
)

Limit = Annotated[str | None, typer.Option("--limit", help="What its tasks may cost in a period, in US dollars.")]
Estimate = Annotated[
    str | None,
    typer.Option("--estimate", help="What is reserved for an attempt until its cost is known, in US dollars."),
]
Mode = Annotated[
    str | None,
    typer.Option(
        help="hard: nothing starts beyond it. soft: it only counts and tells. throttle: hard, and later first."
    ),
]
Day = Annotated[str | None, typer.Option(help="A day of UTC, such as 2026-01-31.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    limit: Annotated[str, typer.Option("--limit", help="What its tasks may cost in a period, in US dollars.")],
    estimate: Annotated[
        str, typer.Option("--estimate", help="What is reserved for an attempt until its cost is known, in US dollars.")
    ],
    agent: Annotated[str | None, typer.Option(help="It is about what this agent does.")] = None,
    task_type: Annotated[str | None, typer.Option(help="It is about tasks of this type.")] = None,
    period: Annotated[str, typer.Option(help="day or month, of UTC.")] = "month",
    mode: Mode = None,
    as_json: Json = False,
) -> None:
    """Make a budget and print its id. Without --agent and --task-type it is about all of the workspace."""
    if agent is not None and task_type is not None:
        raise typer.BadParameter("A budget is about an agent or a task type, not both; make two.")
    scope = "agent" if agent is not None else "task_type" if task_type is not None else "workspace"
    fields = {"name": name, "limit_usd": limit, "estimate_usd": estimate, "period": period, "scope": scope}
    answer = call("POST", "/budgets", fields | given(subject=agent or task_type, mode=mode))
    if as_json:
        print_json(answer)
    else:
        console.print(plain(answer["id"]))


@app.command()
def update(
    budget_id: str,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    limit: Limit = None,
    estimate: Estimate = None,
    mode: Mode = None,
) -> None:
    """Change a budget and print it as JSON. What you do not name stays as it is."""
    fields = given(name=name, limit_usd=limit, estimate_usd=estimate, mode=mode)
    if not fields:
        raise typer.BadParameter("Name at least one of the options; --help lists them.")
    print_json(call("PUT", f"/budgets/{path_segment(budget_id)}", fields))


@app.command("list")
def list_budgets(as_json: Json = False) -> None:
    """List the budgets of the workspace, with what is spent and reserved in their present periods."""
    found = call("GET", "/budgets")
    if as_json:
        print_json(found)
        return
    listing(
        ("budget", "about", "mode", "per", "limit $", "spent $", "reserved $", "forecast $", "used %", "name"),
        (_row(budget) for budget in found["budgets"]),
    )


def _row(budget: dict[str, Any]) -> tuple[str, ...]:
    usage = budget["usage"]
    return (
        budget["id"],
        budget["scope"] if budget["subject"] is None else f"{budget['scope']} {budget['subject']}",
        budget["mode"],
        budget["period"],
        budget["limit_usd"],
        usage["spent_usd"],
        usage["reserved_usd"],
        usage["forecast_usd"] or "",
        f"≥ {usage['level']}" if usage["level"] else "",
        budget["name"],
    )


@app.command()
def show(budget_id: str) -> None:
    """Print a budget as JSON, with what is spent and reserved in its present period."""
    print_json(call("GET", f"/budgets/{path_segment(budget_id)}"))


@app.command()
def delete(budget_id: str) -> None:
    """Delete a budget; what attempts have cost stays."""
    call("DELETE", f"/budgets/{path_segment(budget_id)}")
    console.print(plain(f"{budget_id} is deleted."))


@app.command()
def spending(
    start: Day = None,
    end: Day = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show what attempts have cost by day, agent and task type: this month, or from one day until before another."""
    days = given(start=start, end=end)
    found = call("GET", "/spending", **days)
    if as_json:
        print_json(found)
        return
    if csv:
        from cluster.domain.audit.export import csv_cell, csv_line
        from cluster.domain.budgets.budget import SPENDING_COLUMNS

        for row in (SPENDING_COLUMNS, *([row[name] for name in SPENDING_COLUMNS] for row in found["spending"])):
            typer.echo(csv_line([csv_cell(value) for value in row]))
        return
    rows = (
        (
            row["day"],
            row["agent_id"],
            row["task_type"],
            str(row["attempts"]),
            row["spent_usd"],
            row["reserved_usd"],
            str(row["unknown_costs"]),
        )
        for row in found["spending"]
    )
    listing(("day (UTC)", "agent", "task type", "attempts", "spent $", "reserved $", "cost unknown"), rows)
    console.print(plain(f"In all ${found['total_spent_usd']} from {found['start']} until before {found['end']}."))
