"""Writes the task machine's table into docs/tasks.md: ``make docs``. A test compares the page with it."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.domain.tasks.machine import EVENTS, TRANSITIONS, TransitionRule
from cluster.domain.tasks.phases import TaskPhase
from cluster.domain.tasks.refusals import IMPOSSIBLE, Refusal

BEGIN = "<!-- states: written by `make docs` from the table in cluster/domain/tasks/machine.py -->"
END = "<!-- end of states -->"


def state_table() -> str:
    """The table in Markdown: for each state the events that a task may meet, and the state that follows."""
    lines = ["| State | What happens | Becomes | Log row | |", "|---|---|---|---|---|"]
    for phase in TaskPhase:
        for event in EVENTS:
            rule = TRANSITIONS[phase, event]
            if rule is not IMPOSSIBLE:
                lines.append(f"| {phase.value} | {event.brought_by} | {_row(rule)} |")
    return "\n".join(lines)


def _row(rule: TransitionRule | Refusal) -> str:
    if isinstance(rule, Refusal):
        return f"refused: 409 `{rule.code}` | |"
    becomes = " or ".join(phase.value for phase in rule.to) or "as it was"
    return " | ".join((becomes, ", ".join(f"`{kind}`" for kind in rule.kinds), rule.note))


def with_table(page: str) -> str:
    """The page with the present table between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{state_table()}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text()))
