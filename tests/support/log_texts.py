"""Which texts may stand in the data of the log's rows, as the core declares it beside what makes them (``LOG_TEXTS``).

Whatever else is a text is words, and belongs to their private part. Every test that has a database checks its log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.domain.access import rows as access_rows
from cluster.domain.agents import agent, breaker, credentials
from cluster.domain.audit import erasure, log_retention, retention
from cluster.domain.base.log import IDENTITY, LogTexts
from cluster.domain.budgets import budget
from cluster.domain.consensus import learning
from cluster.domain.deliberation import log_entries
from cluster.domain.hooks import hook
from cluster.domain.notifications import channel
from cluster.domain.policies import policy, violations
from cluster.domain.quotas import quotas
from cluster.domain.replication.quorum import ReplicationMode
from cluster.domain.schedules import schedule
from cluster.domain.scheduling import limits
from cluster.domain.tasks import progress, steps, task
from cluster.domain.workflows import document

#: By the first part of a row's kind.
LOG_TEXTS: Mapping[str, LogTexts] = {
    "task": {**task.LOG_TEXTS, **steps.LOG_TEXTS, "erasure": IDENTITY},
    "progress": progress.LOG_TEXTS,
    "agent": agent.LOG_TEXTS,
    "breaker": breaker.LOG_TEXTS,
    "control": limits.LOG_TEXTS,
    "deliberation": {**log_entries.LOG_TEXTS, "erasure": IDENTITY},
    "outcome": {**learning.LOG_TEXTS, "erasure": IDENTITY},
    "weights": learning.LOG_TEXTS,
    "access": access_rows.LOG_TEXTS,
    "auth": access_rows.LOG_TEXTS,
    "schedule": schedule.LOG_TEXTS,
    "credential": credentials.LOG_TEXTS,
    "budget": budget.LOG_TEXTS,
    "quota": quotas.LOG_TEXTS,
    "policy": {**policy.LOG_TEXTS, **violations.LOG_TEXTS},
    "workflow": document.LOG_TEXTS,
    "hook": hook.LOG_TEXTS,
    "notification": channel.LOG_TEXTS,
    "erasure": erasure.LOG_TEXTS,
    "retention": {**retention.LOG_TEXTS, **log_retention.LOG_TEXTS},
    "region": {"leader": IDENTITY, "heir": IDENTITY, "region": IDENTITY, "mode": frozenset(ReplicationMode)},
}


def words_in(kind: str, data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, text) of each text in ``data`` that nobody declared. What lies in a list or an object belongs to its field,
    or to the object's own."""
    texts = LOG_TEXTS.get(kind.partition(".")[0], {})
    return [(name, text) for name, text in _texts("", data) if not _declared(texts, name, text)]


def _declared(texts: LogTexts, name: str, text: str) -> bool:
    if name not in texts:
        return False
    closed = texts[name]
    return closed is None or text in closed


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _texts(inner, item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(name, item)
