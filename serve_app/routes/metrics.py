"""Numbers as JSON: of the machine that answers, and of the workspace's tasks. Prometheus reads ``/metrics`` at the root."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.tasks.task import TaskStatus
from cluster.process.memory import machine_load, resident_bytes
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import gateway

router = GuardedRouter(tags=["metrics"])

#: How tasks end of which a rate of completion is made: nobody is at fault if a task is cancelled.
_JUDGED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT)


@router.get("/metrics/system")
@requires(Permission.METRICS_READ)
async def system_metrics(request: Request, asker: Asker) -> dict[str, Any]:
    """What the workspace's tasks do now, and how the machine of the replica that answers is; the latter takes the permission to
    read what concerns all workspaces. ``load_1m`` is the mean number of processes that want a core. 503 (`StoreUnavailable`)
    if the counting cannot catch up in time."""
    gate = gateway(request)
    now = gate.clock.now()
    queue = await gate.tally.queue_metrics(asker.workspace, now)
    load = machine_load()
    return {
        "cpu": {"cores": load.cores, "load_1m": load.load_1m},
        "memory": {
            "total_bytes": load.memory_total,
            "available_bytes": load.memory_available,
            "replica_bytes": resident_bytes(),
        },
        "uptime_seconds": max(0.0, now - gate.started_at),
        "pending": queue["pending"],
        "running": queue["running"],
        "throughput_per_minute": queue["throughput_per_minute"],
    }


@router.get("/metrics/tasks")
@requires(Permission.METRICS_READ)
async def task_metrics(request: Request, asker: Asker) -> dict[str, Any]:
    """Numbers of the workspace's tasks: how all of them ended that there ever were, and the means of the last hour.
    ``completion_rate`` is the share of completed ones among those that were not cancelled, null if none has ended.
    ``by_type`` names at most 256 task types and counts the rest as ``(other)``. 503 (`StoreUnavailable`) if the counting cannot
    catch up in time."""
    gate = gateway(request)
    counts = await gate.tally.counts(asker.workspace)
    queue = await gate.tally.queue_metrics(asker.workspace, gate.clock.now())
    by_status = {status.value: counts["by_status"].get(status.value, 0) for status in TaskStatus}
    judged = sum(by_status[status] for status in _JUDGED)
    return {
        "total": counts["total"],
        "by_status": by_status,
        "by_type": counts["by_type"],
        "completion_rate": by_status[TaskStatus.COMPLETED] / judged if judged else None,
        "avg_duration_ms": queue["avg_execution_time_ms"],
        "avg_wait_time_ms": queue["avg_wait_time_ms"],
        "completed_today": queue["completed_today"],
        "failed_today": queue["failed_today"],
        "throughput_per_minute": queue["throughput_per_minute"],
    }
