"""What one commit of runs is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.workflows.document import PRINCIPAL
from cluster.domain.workflows.machine import PAGE, Run
from cluster.domain.workflows.stored import StoredRun
from cluster.ports.tasks import SubmitItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A task or a deliberation of a run that is to end."""

    run: StoredRun
    id: str
    deliberates: bool


@dataclass(slots=True)
class Commit:
    """What one commit is made of. ``seq``: the last row that it takes in."""

    runs: dict[str, tuple[StoredRun, Run]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    records: list[LogRecord] = field(default_factory=list)
    tasks: dict[str, SubmitItem] = field(default_factory=dict)
    deliberations: dict[str, NewDeliberation] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)
    missed: dict[str, set[str]] = field(default_factory=dict)
    room: int = PAGE
    seq: int = 0

    def stored_runs(self, now: float) -> Sequence[StoredRun]:
        """The runs that have changed, as they are to be stored. Adds the row of each that has not ended."""
        runs = []
        started = Counter(id_.partition(".")[0] for id_ in (*self.tasks, *self.deliberations))
        for run_id in sorted(self.changed):
            stored, run = self.runs[run_id]
            before = {(step_id, index) for step_id, index in stored.state.get("stopping", ())}
            runs.append(stored.after(run, now, self.missed.get(run_id, ())))
            data = {
                "run_id": run_id,
                "started": started[run_id],
                "more": run.has_more,
                "stopping": len(run.stopping - before),
            }
            if not run.status.ended:
                self.records.append(run_record(stored, now, "workflow.run_advanced", data))
        return runs


def run_record(run: StoredRun, now: float, kind: str, data: dict[str, Any]) -> LogRecord:
    """A row about a run, with the cause of whoever started it."""
    origin = Origin(workspace=run.workspace, principal=PRINCIPAL, cause=run.owner().cause)
    return record_for(origin, now, kind, run.id, data)
