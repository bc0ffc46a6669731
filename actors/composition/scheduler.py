"""The maker of the scheduler's shard."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.scheduler.shard import SchedulerShard


def make(it: Context) -> Any:
    return SchedulerShard(
        shard=it.role.key,
        owner=it.owner,
        tasks=it.parts.stores.tasks,
        log=it.parts.stores.log,
        region=it.parts.stores.region,
        doorbell=it.parts.doorbell,
        clock=it.parts.clock,
        lease_ttl_s=it.parts.settings.heartbeat_timeout,
        wanted=it.wanted,
        died=it.died,
        controls=it.parts.stores.controls,
        agents=it.parts.stores.agents,
        idempotency_window_s=it.parts.settings.idempotency_window,
        cleanup_s=it.parts.settings.cleanup_interval,
    )
