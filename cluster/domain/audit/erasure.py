"""Erasure: the kinds of rows that it writes, and what it cannot reach.

It deletes what people and agents wrote, and no row of the log: a digest covers the words of a row by their hash alone, so the
chain stays whole. Rows say what was erased, by whom and when, and no word of it; of an erasure by subject not even whose it was,
since a subject is often a person's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from cluster.domain.audit.retention import LISTS
from cluster.domain.base.log import IDENTITY, LogRow, LogTexts


class Scope(StrEnum):
    """What an erasure is about."""

    WORKSPACE = "workspace"
    TASK = "task"
    SUBJECT = "subject"


#: Rows of these kinds say that the words of their entity are gone, from all rows before.
OF_ENTITIES: Final = frozenset({"task.erased", "deliberation.erased", "outcome.erased"})
#: A row of this kind says it of all rows of its workspace with numbers after ``after`` and up to ``through``.
OF_ROWS: Final = "erasure.words"
#: A row of this kind ends an erasure. Of a workspace, each region then deletes what it keeps for itself.
COMPLETED: Final = "erasure.completed"
POLICY_ERASED: Final = "policy.erased"
#: Rows of these kinds say what is deleted with a workspace: in which field they name it, and as what it is counted.
OF_RULES: Final[Mapping[str, tuple[str, str]]] = {
    POLICY_ERASED: ("policy_id", "policies"),
    "notification.rule_deleted": ("rule", "notifications"),
    "notification.channel_deleted": ("channel", "notifications"),
    "credential.deleted": ("credential", "credentials"),
    "budget.deleted": ("budget_id", "budgets"),
}
#: A row of this kind lists violations of policies, of which nothing that was written is left.
OF_VIOLATIONS: Final = "policy.violations_erased"
#: Where whose name a submit gives: a member of a task's ``metadata``, and of a deliberation's ``context``.
SUBJECT_FIELD: Final = "subject"

LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("erasure", "target", "task_id", "request_id", "outcome_id"), IDENTITY),
    "scope": frozenset(Scope),
}

#: Copies that the control plane cannot reach, which whoever erases has to see to.
NOT_REACHED: Final[Sequence[str]] = (
    "Backups of the database, its archived WAL and its file system's snapshots: delete those that are older than this erasure.",
    "Row versions that PostgreSQL keeps in its files until they are rewritten: run VACUUM FULL on tasks, deliberations, "
    "deliberation_events, task_progress, task_chunks, task_questions, schedules, hooks, workflows, workflow_runs, policies, "
    "policy_versions, policy_violations, budgets, notification_channels, notification_rules, notifications, pushes, secrets, "
    "outcomes, idempotency, agent_probes and log.",
    "The write-ahead log of PostgreSQL, until new writes have replaced it.",
    "Standby servers of PostgreSQL, until they have replayed this erasure and its VACUUM.",
    "Exports of the audit, receipts, batch files and answers that left the control plane.",
    "What agents, models and webhooks were sent.",
    "The weights that were learned from outcomes: numbers, without words.",
    "The registrations of agents: deregister those that are to go.",
)
FIRST_FORM: Final = (
    "Rows of the log that a version before the second form wrote: their words are part of what their digests cover."
)


def is_erasure(kind: str) -> bool:
    """Whether rows of this kind say that what was written is gone, by an erasure or by retention."""
    return kind in (OF_ROWS, COMPLETED) or kind in OF_ENTITIES or kind in LISTS


def erases(row: LogRow, earlier: LogRow) -> bool:
    """Whether a row says that the words of an earlier one are gone."""
    if row.workspace != earlier.workspace or earlier.private_json is None:
        return False
    if row.kind in OF_ENTITIES:
        return row.entity == earlier.entity
    if row.kind in LISTS:
        return earlier.entity in row.data[LISTS[row.kind]]
    return row.kind == OF_ROWS and bool(row.data["after"] < earlier.seq <= row.data["through"])
