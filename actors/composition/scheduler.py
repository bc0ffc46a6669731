"""The maker of the scheduler's shard."""

from __future__ import annotations

import contextlib
from typing import Any

from actors.composition.resources import Context
from actors.roles import TELEMETRY, Role
from actors.scheduler.shard import SchedulerShard
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.metrics import Increment


def make(it: Context) -> Any:
    telemetry = it.resolve(Role(kind=TELEMETRY), it.resources.stores.names)

    async def count_reread() -> None:
        with contextlib.suppress(ControlPlaneError):  # a metric is not worth the shard
            await telemetry("push", [Increment(name="aragora_cp_scheduler_rereads_total", labels=())], timeout_s=5.0)

    return SchedulerShard(
        shard=it.role.key,
        owner=it.owner,
        tasks=it.resources.stores.tasks,
        log=it.resources.stores.log,
        region=it.resources.stores.region,
        doorbell=it.resources.doorbell,
        clock=it.resources.clock,
        lease_ttl_s=it.resources.settings.heartbeat_timeout,
        is_published=it.is_published,
        on_fatal=it.on_fatal,
        controls=it.resources.stores.controls,
        workspaces=it.resources.stores.access,
        agents=it.resources.stores.agents,
        budgets=it.resources.stores.budgets,
        quotas=it.resources.stores.quotas,
        idempotency_window_s=it.resources.settings.idempotency_window,
        cleanup_s=it.resources.settings.cleanup_interval,
        count_reread=count_reread,
    )
