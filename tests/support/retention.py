"""Ended tasks and deliberations of chosen times, and the part that removes them, on a real store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.retention import RetentionKeeper
from actors.settling import SettlingKeeper
from cluster.domain.audit.retention import DAY_S, RetentionRule
from cluster.domain.tasks.events import Claim, Complete, Fail, Reporter
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.rules import Edge, TaskRules
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.tasks import SubmitItem
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.samples import NOW, new_task

#: Days, so that rules are round numbers.
OLD, YOUNG = NOW - 40 * DAY_S, NOW - 10 * DAY_S
KEPT_FOR_EVER = RetentionRule(task_days=0, task_count=0, deliberation_days=0, deliberation_count=0)
MONTH = RetentionRule(
    task_days=30, task_count=0, deliberation_days=30, deliberation_count=0, workflow_run_days=30, workflow_run_count=0
)


async def open_task(stores: Stores, task_id: str, at: float, *, key: str | None = None, **fields: Any) -> None:
    idempotency = None if key is None else IdempotencyKey(route="tasks", key=key, body_digest=b"body")
    task = new_task(id=task_id, created_at=at, **{"payload": {"secret": task_id}, **fields})
    await stores.tasks.submit([SubmitItem(task=task, idempotency=idempotency)])


async def ended_task(stores: Stores, task_id: str, at: float, *, fails: bool = False, **fields: Any) -> None:
    """Submitted at a time and ended a second later, by the real machine."""
    await open_task(stores, task_id, at, **fields)
    fence = await stores.tasks.take_generation("main", "test")
    stored = await stores.tasks.get(fields["origin"].workspace if "origin" in fields else "w", task_id)
    assert stored is not None
    head, policy = stored.head(), RetryPolicy()
    claimed = step(head, Claim(agent_id="a1", claim_id="c1", principal="user:tester"), at + 0.5, policy)
    by = Reporter(principal="user:tester", agent_id="a1", attempt=claimed.head.attempt)
    end = (
        Fail(by=by, error=f"secret {task_id}", requeue=False) if fails else Complete(by=by, result_json='{"secret":1}')
    )
    reported = step(claimed.head, end, at + 1, policy)
    for transition in (claimed, reported):
        assert transition.decision is not None
        (done,) = await stores.tasks.decide(fence, [transition.decision])
        assert done.applied


def waiting_for(*task_ids: str) -> dict[str, Any]:
    """Fields of a task that comes after others."""
    return {"rules": TaskRules(after=tuple(Edge(after=task_id) for task_id in task_ids))}


def retention_keeper(
    stores: Stores, rule: RetentionRule = MONTH, clock: ManualClock | None = None, **parts: Any
) -> RetentionKeeper:
    return RetentionKeeper(
        **{
            "store": stores.retention,
            "region": stores.region,
            "default": rule,
            "window_s": DAY_S,
            "clock": clock or Hurried(NOW),
            **parts,
        }
    )


def settling_keeper(stores: Stores, clock: ManualClock, batch: int = 3) -> SettlingKeeper:
    return SettlingKeeper(
        budgets=stores.budgets,
        policies=stores.policies,
        rules=stores.retention,
        region=stores.region,
        default=replace(KEPT_FOR_EVER, spending_days=40, violation_days=20, policy_version_days=30),
        clock=clock,
        batch=batch,
    )


class Hurried(ManualClock):
    """A clock whose sleepers do not wait: its time goes on instead."""

    async def sleep(self, seconds: float) -> None:
        self._now += seconds


async def kept(stores: Stores) -> list[str]:
    """The ids of the tasks that are there."""
    return [row["id"] for row in await stores.pool.rows("select id from tasks order by id")]
