"""What the holder of a task reports while it works: how far it is, in words too, and a checkpoint for the next attempt.

A report is part of a renewal of the lease. What a report leaves out keeps the value that it had: percent and message within the
attempt, the checkpoint over attempts, since the next attempt goes on from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.base.compact import compact
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import check_json, check_text, plain_json
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import IDENTITY, LogRecord, LogTexts

#: Bytes of a checkpoint's JSON without white space. It says where to go on, and travels with every claim and to other regions;
#: what is larger belongs into a store of the worker's own, and its address into the checkpoint.
MAX_CHECKPOINT_BYTES: Final = 16_384
MAX_MESSAGE_CHARS: Final = 1_000
CODE: Final = "invalid_progress"
#: One row for the reports of a workspace in one commit. A row of each would make the log grow with every percent of every task.
KIND: Final = "progress.stored"
#: Without white space: what a checkpoint may hold must not depend on that.
_WRITE = json_writer(compact=True)
LOG_TEXTS: LogTexts = {"task_ids": IDENTITY}


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report; None is left out. ``percent`` is 0 to 100, ``checkpoint_json`` the JSON of any value but null."""

    percent: float | None = None
    message: str | None = None
    checkpoint_json: str | None = None

    def followed_by(self, newer: Progress) -> Progress:
        """Both reports of one attempt as one."""
        return Progress(
            percent=self.percent if newer.percent is None else newer.percent,
            message=self.message if newer.message is None else newer.message,
            checkpoint_json=self.checkpoint_json if newer.checkpoint_json is None else newer.checkpoint_json,
        )


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


def checked_progress(percent: Any = None, message: Any = None, checkpoint: Any = None) -> Progress | None:
    """The report of these values; None if there is nothing in it.

    Raises: `InvalidRequest` if one of them cannot be stored, or is too large."""
    if percent is None and message is None and checkpoint is None:
        return None
    if percent is not None and not _is_percent(percent):
        raise InvalidRequest("percent must be a number from 0 to 100.", CODE)
    if message is not None:
        if not isinstance(message, str) or len(message) > MAX_MESSAGE_CHARS:
            raise InvalidRequest(f"message must be a text of at most {MAX_MESSAGE_CHARS} characters.", CODE)
        check_text(message, "message")
    text = None if checkpoint is None else _written(checkpoint)
    if text is not None and len(text.encode()) > MAX_CHECKPOINT_BYTES:
        raise InvalidRequest(
            f"checkpoint is larger than {MAX_CHECKPOINT_BYTES} bytes of JSON; keep the data elsewhere, and its address here.",
            CODE,
        )
    return Progress(percent=None if percent is None else float(percent), message=message, checkpoint_json=text)


def _written(checkpoint: Any) -> str:
    check_json(checkpoint, "checkpoint")
    return _WRITE(plain_json(checkpoint))


def _is_percent(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 100


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
