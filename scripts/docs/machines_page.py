"""Writes the table of machines into docs/architecture.md: ``make docs``. A test compares the page with it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import get_args

from cluster.domain import actor_memory
from cluster.domain.agents import breaker, claim_events, claim_plan, claim_planner
from cluster.domain.deliberation import events as deliberation_events
from cluster.domain.deliberation import machine as deliberation
from cluster.domain.deliberation.state import Phase
from cluster.domain.notifications import attempts
from cluster.domain.schedules import machine as schedules
from cluster.domain.schedules.schedule import State
from cluster.domain.tasks import machine as tasks
from cluster.domain.tasks.phases import TaskPhase
from cluster.domain.workflows import machine as workflows
from cluster.domain.workflows.document import RunStatus
from regions.domain import leadership, rejoin
from regions.domain import machine as regions

BEGIN = "<!-- machines: written by `make docs` from scripts/docs/machines_page.py -->"
END = "<!-- end of machines -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A state machine: what it decides, the function that is its one verb, its states and events, where its table and its
    test are, and what carries it out."""

    decides: str
    verb: object
    states: type[StrEnum]
    events: Iterable[object]
    table: str
    test: str
    shell: str


MACHINES = (
    Machine(
        decides="what becomes of a task",
        verb=tasks.step,
        states=TaskPhase,
        events=tasks.EVENTS,
        table="cluster/domain/tasks/machine.py",
        test="tests/unit/domain/tasks/test_machine.py",
        shell="actors/scheduler/shard.py",
    ),
    Machine(
        decides="what becomes of a deliberation",
        verb=deliberation.step,
        states=Phase,
        events=get_args(deliberation_events.Event),
        table="cluster/domain/deliberation/state.py",
        test="tests/unit/domain/deliberation/test_machine_interleavings.py",
        shell="actors/deliberation/worker.py",
    ),
    Machine(
        decides="for which called agents claims wait, and whose tasks are begun",
        verb=claim_planner.step,
        states=claim_plan.Phase,
        events=get_args(claim_events.Event),
        table="cluster/domain/agents/claim_planner.py",
        test="tests/unit/domain/agents/test_claim_planner.py",
        shell="actors/agents/called_agents.py",
    ),
    Machine(
        decides="whether an agent may be called",
        verb=breaker.step,
        states=breaker.BreakerState,
        events=breaker.CallOutcome,
        table="cluster/domain/agents/breaker.py",
        test="tests/unit/domain/agents/test_breaker.py",
        shell="actors/agents/bounded_calls.py",
    ),
    Machine(
        decides="which actor is restarted for its memory",
        verb=actor_memory.step,
        states=actor_memory.MemoryPhase,
        events=(actor_memory.Looked,),
        table="cluster/domain/actor_memory.py",
        test="tests/unit/domain/test_actor_memory.py",
        shell="actors/memory_keeper.py",
    ),
    Machine(
        decides="which runs of a schedule start",
        verb=schedules.step,
        states=State,
        events=get_args(schedules.Event),
        table="cluster/domain/schedules/machine.py",
        test="tests/unit/domain/schedules/test_machine.py",
        shell="actors/schedules.py",
    ),
    Machine(
        decides="which steps of a workflow's run start",
        verb=workflows.step,
        states=RunStatus,
        events=get_args(workflows.Event),
        table="cluster/domain/workflows/machine.py",
        test="tests/unit/domain/workflows/test_machine.py",
        shell="actors/workflows/effects.py",
    ),
    Machine(
        decides="which channels get attempts at their notifications",
        verb=attempts.step,
        states=attempts.ChannelState,
        events=get_args(attempts.Event),
        table="cluster/domain/notifications/attempts.py",
        test="tests/unit/domain/notifications/test_attempts.py",
        shell="actors/notifications.py",
    ),
    Machine(
        decides="what a region is in a zone",
        verb=regions.step,
        states=leadership.RegionPhase,
        events=get_args(leadership.Event),
        table="regions/domain/machine.py",
        test="tests/unit/regions/domain/test_machine.py",
        shell="regions/shell/machine_runner.py",
    ),
    Machine(
        decides="how a region comes back whose log has forked",
        verb=rejoin.step,
        states=rejoin.RejoinPhase,
        events=get_args(rejoin.RejoinEvent),
        table="regions/domain/rejoin.py",
        test="tests/unit/regions/domain/test_rejoin.py",
        shell="regions/shell/following.py",
    ),
)


def machine_table() -> str:
    """The table in Markdown, one machine a line."""
    lines = ["| Decides | States | Events | Table | Test | Carried out by |", "|---|---|---|---|---|---|"]
    for machine in MACHINES:
        states = ", ".join(state.value for state in machine.states)
        events = ", ".join(getattr(event, "__name__", None) or str(event) for event in machine.events)
        files = " | ".join(f"`{file}`" for file in (machine.table, machine.test, machine.shell))
        lines.append(f"| {machine.decides} | {states} | {events} | {files} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The page with the present table between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{machine_table()}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text()))
