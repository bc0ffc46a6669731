"""The maker of the scheduler's shard."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.scheduler.shard import SchedulerShard


def make(it: Context) -> Any:
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
        agents=it.resources.stores.agents,
        idempotency_window_s=it.resources.settings.idempotency_window,
        cleanup_s=it.resources.settings.cleanup_interval,
    )
