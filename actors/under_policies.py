"""New tasks under the policies of their workspace, and what runs of schedules and workflows submit under them.

A keeper reads them from the database when it submits: that is seldom, and a run that starts after a policy was made is under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.domain.policies.policy import Policy
from cluster.domain.policies.submits import Judged, judged, recorded
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.tasks import SubmitItem
from cluster.process.large import in_thread_if_large, rough_size

#: What a condition costs besides the characters that it reads.
_A_TASK = 200


async def judged_beside(policies: Sequence[Policy], items: Sequence[SubmitItem]) -> list[Judged]:
    """What policies make of each item, in a thread if their conditions read much: many of them over large values take seconds
    together, and whatever else the event loop serves would wait meanwhile."""
    return await in_thread_if_large(_reading(policies, items), _judged, policies, items)


def _reading(policies: Sequence[Policy], items: Sequence[SubmitItem]) -> int:
    """About how many characters the conditions of policies read, each of them all that somebody wrote of each task."""
    conditions = sum(policy.deny_when is not None for policy in policies)
    if not conditions:
        return 0
    return conditions * sum(_A_TASK + rough_size([item.task.payload, item.task.metadata]) for item in items)


def _judged(policies: Sequence[Policy], items: Sequence[SubmitItem]) -> list[Judged]:
    return [judged(policies, item.task, item.idempotency, item.override) for item in items]


async def judged_items(policies: WorkspacePolicies, items: Sequence[SubmitItem]) -> list[Judged]:
    """What policies make of each item. What they refuse is recorded, once also if this is called again for the same items: each
    has a key. What they warn about is for the commit of the task.

    Raises: `TryLater` if the store does not answer, `Fenced` if this region is not the primary any more."""
    by_workspace: dict[str, list[SubmitItem]] = {}
    for item in items:
        by_workspace.setdefault(item.task.origin.workspace, []).append(item)
    each_of: dict[str, Iterator[Judged]] = {}
    for workspace, of_workspace in by_workspace.items():
        each_of[workspace] = iter(await judged_beside(await policies.list(workspace), of_workspace))
    found = [next(each_of[item.task.origin.workspace]) for item in items]
    refused = [each for each in found if each.denied is not None]
    if refused:
        violations = [violation for each in refused for violation in each.violations]
        await policies.record(violations, [row for each in refused for row in recorded(each.violations, each.task)])
    return found
