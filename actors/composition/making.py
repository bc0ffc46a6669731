"""Makes the plain actor of a role.

A role's maker is imported only if it is needed, because every import delays the restart of a process.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

from actors.composition.resources import ActorResolver, Context, IsPublished, Resources, load_process_settings
from actors.roles import (
    AGENT_HOST,
    DEDICATED_AGENT,
    DELIBERATION,
    HEALTH_MONITOR,
    REGION_LEADER,
    SCHEDULER,
    TELEMETRY,
    Role,
)
from cluster.process.loops import OnFatal
from cluster.version import VERSION

_logger = logging.getLogger(__name__)


async def build(role: Role, name: str, *, on_fatal: OnFatal, resolve: ActorResolver) -> Any:
    """Makes and starts the actor of a role."""
    resources = await Resources.open(load_process_settings(role.key), name, connections=4)

    async def is_published() -> bool:
        published = await resources.stores.names.current(role.key)
        return published is None or published.name == name

    actor = make(
        resources, role, f"{name}:{os.getpid()}", is_published=is_published, on_fatal=on_fatal, resolve=resolve
    )
    await actor.start()
    _logger.info("version %s serves", VERSION)
    return actor


def make(
    resources: Resources,
    role: Role,
    owner: str,
    *,
    is_published: IsPublished,
    on_fatal: OnFatal,
    resolve: ActorResolver,
) -> Any:
    """Makes the plain actor of a role, without starting it."""
    context = Context(resources, role, owner, is_published, on_fatal, resolve)
    return importlib.import_module(f"actors.composition.{_MAKERS[role.kind]}").make(context)


#: The module that makes each kind of actor: its ``make(context)``.
_MAKERS: dict[str, str] = {
    SCHEDULER: "scheduler",
    AGENT_HOST: "agents",
    DEDICATED_AGENT: "agents",
    DELIBERATION: "deliberation",
    HEALTH_MONITOR: "health_monitor",
    REGION_LEADER: "region_leader",
    TELEMETRY: "telemetry",
}
