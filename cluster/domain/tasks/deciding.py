"""What the steps of the task machine share: a transition that is written, what its row says, and who may report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cluster.domain.base.log import LogRecord
from cluster.domain.tasks.columns import check_columns, row_text
from cluster.domain.tasks.effects import (
    Effect,
    Transition,
)
from cluster.domain.tasks.events import (
    Event,
    Reporter,
)
from cluster.domain.tasks.questions import Answer, Question
from cluster.domain.tasks.refusals import LEASE_LOST
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskDecision, TaskHead

SUMMARY_CHARS = 200
#: What a task that waits again has not any more, whatever took it from its holder.
RELEASED: Final[Mapping[str, Any]] = {"assigned_agent": None, "claim_id": None, "started_at": None}


def decided(
    old: TaskHead,
    event: Event,
    new: TaskHead,
    effects: tuple[Effect, ...],
    kind: str,
    now: float,
    principal: str,
    data: Mapping[str, Any],
    *,
    result_json: str | None = None,
    error: str | None = None,
    private: Mapping[str, Any] | None = None,
    question: Question | None = None,
    answer: Answer | None = None,
    children: tuple[str, ...] = (),
) -> Transition:
    """A transition that is written. ``error`` is stored with the task and, shortened, in the private part of its log row.

    Raises: `InvalidRequest` if the store could not hold it."""
    words = private if error is None else {"error": short(error)}
    record = LogRecord(
        at=now,
        workspace=old.workspace,
        kind=kind,
        entity=old.id,
        attempt=new.attempt,
        principal=principal,
        cause=event.cause,
        data=data,
        private=words,
        data_text=row_text(data, "data"),
        words_text="" if words is None else row_text(words, "words"),
    )
    decision = TaskDecision(
        head=new,
        expect_status=old.status,
        expect_attempt=old.attempt,
        record=record,
        completed_at=now if new.status.terminal else None,
        result_json=result_json,
        error=error,
        question=question,
        answer=answer,
        children=children,
    )
    check_columns(decision)
    return Transition(head=new, decision=decision, effects=effects)


def unchanged(head: TaskHead, event: Event, now: float, policy: RetryPolicy) -> Transition:
    return Transition(head=head)


def holds(head: TaskHead, by: Reporter) -> bool:
    """Whether ``by`` holds the lease: by its token's attempt and agent or, without a token, by the principal that claimed."""
    if by.attempt is not None:
        return by.attempt == head.attempt and by.agent_id == head.assigned_agent
    return by.principal == head.holder and by.agent_id in (None, head.assigned_agent)


def must_hold(head: TaskHead, by: Reporter, event: Event) -> None:
    if not holds(head, by):
        raise LEASE_LOST.error(head, event)


def run_data(head: TaskHead, now: float) -> dict[str, Any]:
    started = now if head.started_at is None else head.started_at
    return {
        "agent_id": head.assigned_agent,
        "task_type": head.task_type,
        "priority": head.priority,
        "duration_seconds": since(started, now),
    }


def since(start: float, now: float) -> float:
    return max(0.0, round(now - start, 6))


def short(error: str) -> str:
    """The beginning of an error, for its log row, which every follower reads. The task's row keeps the whole text."""
    return error[:1000]


def report_data(head: TaskHead, by: Reporter, now: float) -> dict[str, Any]:
    data = run_data(head, now)
    if not by.fenced:
        data["fenced"] = False
    return data


def result_summary(result_json: str | None) -> str:
    """The first characters of a result, for people: a text without its quotes, anything else as JSON."""
    if result_json is None:
        return ""
    if result_json.startswith('"'):
        return str(json.loads(result_json))[:SUMMARY_CHARS]
    return result_json[:SUMMARY_CHARS]
