"""Submits and registrations under the quotas of their workspace. While a workspace has none, this costs a look into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastapi import Request

from cluster.domain.access.rate_limits import Rate, whole_seconds
from cluster.domain.base.log import Origin
from cluster.domain.quotas.quotas import too_fast, too_many_agents, too_many_waiting
from cluster.domain.tasks.task import Submitted
from cluster.ports.agents import Registered, RegisterItem
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic, topics_for
from cluster.process import spans
from serve_app.auth.shared_limits import SharedLimits
from serve_app.gateway import Gateway, gateway
from serve_app.http.spans import note_submits
from serve_app.under_policies import is_repeat

#: What is used up of a quota on submits comes back evenly over so many seconds.
MINUTE_S = 60.0


async def submit_within_quotas(
    request: Request, asker: Origin, items: Sequence[SubmitItem], *, all_or_none: bool = False
) -> Sequence[Submitted]:
    """Commits the tasks of one call, all or none of them if a quota bounds them or ``all_or_none`` is set. A repeat has its first
    answer, and counts nothing.

    Raises: `QuotaFull` or `QuotaExceeded` if a quota has no room, `Conflict` as `TaskStore.submit` does."""
    gate = gateway(request)
    quotas = gate.quota_view.quotas(asker.workspace)
    if quotas is not None and quotas.submits_per_minute is not None and not await is_repeat(gate, items[0]):
        await _count(request, asker.workspace, quotas.submits_per_minute, len(items))
    if quotas is not None and quotas.queued_tasks is not None:
        items = [replace(item, within_quotas=True) for item in items]
        # What is alone goes with what others submit; what has violations does not, since these are stored with all tasks or none.
        if len(items) > 1 or items[0].violations:
            all_or_none = True
    if all_or_none:
        outcomes: Sequence[Submitted] = await gate.tasks.submit(items, all_or_none=True)
        gate.notify(*topics_for(items))
    else:
        outcomes = await gate.submits.put_many(items)
    over = outcomes[0].over
    if over is not None:
        raise too_many_waiting(asker.workspace, over, len(items))
    if spans.tracer is not None:
        note_submits([item for item, of in zip(items, outcomes, strict=True) if of.task_id == item.task.id])
    return outcomes


async def _count(request: Request, workspace: str, per_minute: int, tasks: int) -> None:
    """Counts submits of so many tasks. Raises: `QuotaFull` or `QuotaExceeded` if there is no room for all of them."""
    limits: SharedLimits = request.app.state.shared_limits
    rate = Rate.per_minute(per_minute, MINUTE_S)
    grant = await limits.take(f"submits {workspace}", rate, tasks, least=tasks)
    if grant.granted < tasks:
        raise too_fast(workspace, per_minute, tasks, whole_seconds(grant.retry_after_s))


async def register_within_quotas(gate: Gateway, asker: Origin, items: Sequence[RegisterItem]) -> Sequence[Registered]:
    """Commits the registrations of one call, all or none of them if a quota bounds them.

    Raises: `QuotaExceeded` if it has no room for those that are new."""
    quotas = gate.quota_view.quotas(asker.workspace)
    if quotas is None or quotas.agents is None:
        return await gate.registrations.put_many(items)
    registered = await gate.agents.register_within_quotas(items)
    if not isinstance(registered, list):
        raise too_many_agents(asker.workspace, registered)
    gate.notify(WakeTopic.AGENTS)
    return registered
