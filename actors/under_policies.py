"""What runs of schedules and workflows submit, under the policies of their workspace.

A keeper reads them from the database when it submits: that is seldom, and a run that starts after a policy was made is under it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.domain.policies.policy import Policy
from cluster.domain.policies.submits import Judged, judged, recorded
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.tasks import SubmitItem


async def judged_items(policies: WorkspacePolicies, items: Sequence[SubmitItem]) -> list[Judged]:
    """What policies make of each item. What they refuse is recorded, once also if this is called again for the same items: each
    has a key. What they warn about is for the commit of the task.

    Raises: `TryLater` if the store does not answer, `Fenced` if this region is not the primary any more."""
    known: dict[str, list[Policy]] = {}
    found = []
    for item in items:
        workspace = item.task.origin.workspace
        if workspace not in known:
            known[workspace] = await policies.list(workspace)
        found.append(judged(known[workspace], item.task, item.idempotency))
    refused = [each for each in found if each.denied is not None]
    if refused:
        violations = [violation for each in refused for violation in each.violations]
        await policies.record(violations, [row for each in refused for row in recorded(each.violations, each.task)])
    return found
