"""What led to the rows of tasks that called agents do.

A worker's claim and report are requests and have traces of their own. An agent that is called asks for nothing: its host claims
for it, before there is a task that could say why. So the claim's row gets the cause of the task's submit when it is written.
Rejected: to keep causes with open tasks in memory, which costs a text for each of a million tasks, and to ask for them when the
state is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.domain.base.log import HOST_PRINCIPAL
from cluster.domain.tasks.task import TaskDecision
from cluster.ports.tasks import TaskStore


async def with_causes(decisions: Sequence[TaskDecision], tasks: TaskStore) -> Sequence[TaskDecision]:
    """The decisions, with a cause in the row of each that an agent host led to. Costs a read only if there are such.

    Raises: what the store raises."""
    causeless = [decision.head.id for decision in decisions if _lacks_cause(decision)]
    if not causeless:
        return decisions
    causes = await tasks.submit_causes(causeless)
    return [_caused(decision, causes.get(decision.head.id, "")) for decision in decisions]


def _lacks_cause(decision: TaskDecision) -> bool:
    return not decision.record.cause and decision.record.principal == HOST_PRINCIPAL


def _caused(decision: TaskDecision, cause: str) -> TaskDecision:
    if not _lacks_cause(decision):
        return decision
    return replace(decision, record=replace(decision.record, cause=cause))
