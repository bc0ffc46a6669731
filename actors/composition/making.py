"""Makes the plain actor of a role.

A role's maker is imported only if it is needed, because every import delays the restart of a process.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from typing import Any

from actors.composition.resources import ActorResolver, Context, IsPublished, Resources, load_process_settings
from actors.process_report import ProcessReport
from actors.roles import (
    AGENT_HOST,
    DEDICATED_AGENT,
    DELIBERATION,
    HEALTH_MONITOR,
    REGION_LEADER,
    SCHEDULER,
    SEALER,
    TELEMETRY,
    Role,
)
from cluster.domain.metrics import Increment
from cluster.process.loops import OnFatal
from cluster.process.memory import resident_bytes
from cluster.telemetry.process_figures import ProcessFigures
from cluster.version import VERSION

_logger = logging.getLogger(__name__)


async def build(role: Role, name: str, *, on_fatal: OnFatal, resolve: ActorResolver) -> tuple[Any, ProcessReport]:
    """Makes and starts the actor of a role, and what reports about its process."""
    resources = await Resources.open(load_process_settings(role.key), name, connections=4)

    async def is_published() -> bool:
        published = await resources.stores.names.current(role.key)
        return published is None or published.name == name

    if role.kind != REGION_LEADER:  # it is who replaces the log, and who tells the others
        await resources.open_gate(on_fatal)
    actor = make(
        resources, role, f"{name}:{os.getpid()}", is_published=is_published, on_fatal=on_fatal, resolve=resolve
    )
    await actor.start()
    _logger.info("version %s serves", VERSION)
    return actor, report_of(resources, resolve, role, f"{name}:{os.getpid()}")


def report_of(resources: Resources, resolve: ActorResolver, role: Role, owner: str) -> ProcessReport:
    """What reports about the process that has these resources and plays this role; ``owner`` names it."""
    telemetry = resolve(Role(kind=TELEMETRY), resources.stores.names)

    pool = resources.stores.pool

    async def push(increments: Sequence[Increment], figures: ProcessFigures | None) -> None:
        await telemetry("push", increments, figures, timeout_s=5.0)

    def figures(loop_lag_s: float) -> ProcessFigures:
        in_use, idle, free = pool.usage()
        return ProcessFigures(kind=role.kind, process=owner, in_use=in_use, idle=idle, free=free, loop_lag_s=loop_lag_s)

    return ProcessReport(read=resident_bytes, failed=pool.failed_commits.take, figures=figures, push=push)


def make(
    resources: Resources,
    role: Role,
    owner: str,
    *,
    is_published: IsPublished,
    on_fatal: OnFatal,
    resolve: ActorResolver,
) -> Any:
    """Makes the plain actor of a role, without starting it. With peers, one that writes rows of the log runs only while this
    region is the primary."""
    context = Context(resources, role, owner, is_published, on_fatal, resolve)

    def plain() -> Any:
        return importlib.import_module(f"actors.composition.{_MAKERS[role.kind]}").make(context)

    if resources.gate is None or role.kind in _EVERYWHERE:
        return plain()
    from actors.primary_only import PrimaryOnly

    return PrimaryOnly(
        role.title, plain, resources.gate, resources.stores.region.epoch, resources.clock, on_fatal=on_fatal
    )


#: Kinds of actors that write no row of the log as long as the region is not the primary.
_EVERYWHERE = (TELEMETRY, REGION_LEADER)


#: The module that makes each kind of actor: its ``make(context)``.
_MAKERS: dict[str, str] = {
    SCHEDULER: "scheduler",
    AGENT_HOST: "agents",
    DEDICATED_AGENT: "agents",
    DELIBERATION: "deliberation",
    HEALTH_MONITOR: "health_monitor",
    REGION_LEADER: "region_leader",
    SEALER: "sealer",
    TELEMETRY: "telemetry",
}
