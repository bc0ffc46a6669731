"""Submits under the policies of their workspace: what every door asks before it commits new tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from actors.under_policies import judged_beside
from cluster.domain.base.log import Origin
from cluster.domain.policies.submits import Judged, PolicyDenied, recorded
from cluster.ports.tasks import SubmitItem
from serve_app.gateway import Gateway

#: Violations of a refused batch that are put together with what others record.
AT_ONCE = 500


async def under_policies(gate: Gateway, asker: Origin, items: Sequence[SubmitItem]) -> Sequence[SubmitItem]:
    """The items as they may be committed: with what policies demand of the agents, and with the violations that they only warn
    about. A repeat of a call stays as it is: it has the answer of its first call, whatever policies there are by now.

    Raises: `PolicyDenied` if a policy refuses one of them, when that is recorded; then none may be committed."""
    policies = gate.policy_view.of(asker.workspace)
    if not policies:
        return items
    began = time.perf_counter()
    found = await judged_beside(policies, items)
    gate.policy_checks.observe(found, time.perf_counter() - began)
    if any(each.violations for each in found) and await is_repeat(gate, items[0]):
        return items
    denied = [(index, each) for index, each in enumerate(found) if each.denied is not None]
    if denied:
        await _record(gate, [each for _, each in denied])
        raise _first(denied, is_batch=len(items) > 1)
    return [replace(item, task=each.task, violations=each.violations) for item, each in zip(items, found, strict=True)]


async def is_repeat(gate: Gateway, first: SubmitItem) -> bool:
    """Whether the call was made before: all items of one are stored together, under keys of their own."""
    key = first.idempotency
    if key is None:
        return False
    return await gate.answers.recall(first.task.origin.workspace, key.route, key.key) is not None


async def _record(gate: Gateway, refused: Sequence[Judged]) -> None:
    rows = [row for each in refused for row in zip(each.violations, recorded(each.violations, each.task), strict=True)]
    for n in range(0, len(rows), AT_ONCE):
        await gate.violations.put_many(rows[n : n + AT_ONCE])


def _first(denied: Sequence[tuple[int, Judged]], *, is_batch: bool) -> PolicyDenied:
    index, first = denied[0]
    assert first.denied is not None
    if not is_batch:
        return first.denied
    return PolicyDenied(f"tasks.{index}: {first.denied.message}", None, first.denied.details | {"index": index})
