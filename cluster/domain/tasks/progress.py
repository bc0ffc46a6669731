"""What the holder of a task reports while it works: how far it is, in words too, and a checkpoint for the next attempt.

A report is part of a renewal of the lease. What a report leaves out keeps the value that it had: percent and message within the
attempt, the checkpoint over attempts, since the next attempt goes on from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aragora_worker.base.progress import MAX_CHECKPOINT_BYTES, MAX_MESSAGE_CHARS, Progress, checked_progress
from cluster.domain.base.compact import compact
from cluster.domain.base.log import IDENTITY, LogRecord, LogTexts

#: One row for the reports of a workspace in one commit. A row of each would make the log grow with every percent of every task.
KIND: Final = "progress.stored"
#: Of one report: workers make them too, so their package has the rules.
__all__ = ["MAX_CHECKPOINT_BYTES", "MAX_MESSAGE_CHARS", "Progress", "checked_progress"]
LOG_TEXTS: LogTexts = {"task_ids": IDENTITY}

Progress.__module__ = __name__  # between processes: see `cluster.domain.base.errors`


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReport:
    """A report on its way to the store. ``at`` is when the shard took it, in epoch seconds."""

    workspace: str
    task_id: str
    attempt: int
    at: float
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProgress:
    """What is stored of a task. ``attempt`` reported last, at ``at`` (epoch seconds); percent and message are its own.
    ``checkpoint`` is None if there is none, and may be of an earlier attempt."""

    attempt: int
    at: float
    percent: float | None
    message: str | None
    checkpoint: Any


def stored_records(reports: list[ProgressReport]) -> list[LogRecord]:
    """The log rows of one commit of reports: one for each workspace, which names its tasks. Other regions copy what they name."""
    tasks: dict[str, list[str]] = {}
    newest: dict[str, float] = {}
    for report in reports:
        tasks.setdefault(report.workspace, []).append(report.task_id)
        newest[report.workspace] = max(report.at, newest.get(report.workspace, report.at))
    return [
        LogRecord(
            at=newest[workspace], workspace=workspace, kind=KIND, entity=workspace, data={"task_ids": sorted(task_ids)}
        )
        for workspace, task_ids in sorted(tasks.items())
    ]
