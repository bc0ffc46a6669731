"""What the shard does when the store refuses a commit because of its data.

A commit takes the decisions of many requests, so data that passed every check before it would fail all of them, and again
with every repeat. The shard finds the culprit, remembers its report, and answers the repeated report as malformed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence

from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import InvalidRequest, Unstorable
from cluster.domain.scheduling.requests import ReportRequest
from cluster.domain.tasks.events import Fail
from cluster.domain.tasks.task import TaskDecision

MALFORMED = "malformed"
#: How many reports are remembered, the newest. One that is forgotten is found again when it is repeated.
REMEMBERED = 1000


async def commit_up_to_culprit(
    decisions: Sequence[TaskDecision], commit: Callable[[Sequence[TaskDecision]], Awaitable[None]]
) -> TaskDecision | None:
    """Commits decisions in order, up to the first that the store refuses, and returns that one; None if all were committed.

    ``decisions`` failed together. Halves are tried, so n decisions cost at most 2 log2(n) + 1 commits. What comes after the
    culprit is not committed, though the store would take it: it may rest on the culprit, as a task that is unblocked by
    another's end does.

    Raises: what ``commit`` raises but `Unstorable`.
    """
    waiting = decisions
    while waiting:
        tried = waiting[: (len(waiting) + 1) // 2]
        try:
            await commit(tried)
            waiting = waiting[len(tried) :]
        except Unstorable:
            if len(tried) == 1:
                return tried[0]
            waiting = tried
    return None


class UnstorableReports:
    """Reports that the store has refused, by task. It outlives the shard's state, which is read anew after each."""

    def __init__(self) -> None:
        # Task id → digest of the report. One report per task: the refusal ends its attempt. The oldest are dropped first.
        self._refused: dict[str, bytes] = {}

    def add(self, report: ReportRequest) -> None:
        self._refused.pop(report.task_id, None)
        self._refused[report.task_id] = _digest(report)
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]

    def read(self, report: ReportRequest) -> ReportRequest:
        """The report itself, or for one that the store has refused the failure that ends its attempt."""
        known = self._refused.get(report.task_id)
        if known is None or known != _digest(report):
            return report
        event = report.event
        failed = event if isinstance(event, Fail) else Fail(by=event.by, error="", cause=event.cause)
        error = "The report of this attempt holds data that cannot be stored."
        failed = evolve(failed, error=error, given_back=False, retry_after_s=None)
        return evolve(report, event=failed, unstorable=True)


def malformed(task_id: str) -> InvalidRequest:
    """The answer to such a report. It is final: the attempt has ended as failed."""
    return InvalidRequest(f"The report of task {task_id} holds data that cannot be stored; send other data.", MALFORMED)


def _digest(report: ReportRequest) -> bytes:
    """Of what the report says: a repeat has a trace of its own."""
    content = evolve(report.event, cause="")
    return hashlib.sha256(repr(content).encode(errors="backslashreplace")).digest()
