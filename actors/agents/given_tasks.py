"""A task as its called agent is given it (docs/agent-contract.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.domain.agents.agent import Agent
from cluster.domain.tasks.agent_waits import child_outcome
from cluster.domain.tasks.questions import TaskQuestion
from cluster.domain.tasks.task import LeaseToken, Task
from cluster.process import spans


def described(agent: Agent, task: Task, children: Sequence[Task]) -> dict[str, Any]:
    """``children``: those that an earlier attempt has waited for, with how they ended."""
    given = {
        "id": task.id,
        "task_type": task.task_type,
        "payload": task.payload,
        "metadata": dict(task.metadata),
        "attempt": task.attempt,
        "lease_token": LeaseToken(task_id=task.id, attempt=task.attempt, agent_id=agent.agent_id).encode(),
    }
    if spans.tracer is not None and spans.header():
        given["traceparent"] = spans.header()
    if task.progress is not None and task.progress.checkpoint is not None:
        given["checkpoint"] = task.progress.checkpoint
    if task.question is not None and task.question.verdict is not None:
        given["question"] = _answered(task.question)
    if task.parked is not None:
        given["children"] = [child_outcome(child) for child in children]
    return given


def _answered(asked: TaskQuestion) -> dict[str, Any]:
    assert asked.verdict is not None
    return {
        "attempt": asked.attempt,
        "question": asked.question.text,
        "verdict": asked.verdict.value,
        "answer": asked.answer,
        "reason": asked.reason,
        "answered_by": asked.answered_by,
    }
