"""Makes the plain actor of a role.

A role's maker is imported when it is needed: a process that starts again pays for every import.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from actors.composition.resources import Context, Parts, Reach, Wanted, load_process_settings
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
from cluster.process.loops import Died


async def build(role: Role, name: str, *, died: Died, reach: Reach) -> Any:
    """The started actor of a role."""
    parts = await Parts.open(load_process_settings(), name, connections=4)

    async def wanted() -> bool:
        published = await parts.stores.names.current(role.key)
        return published is None or published.name == name

    actor = make(parts, role, f"{name}:{os.getpid()}", wanted=wanted, died=died, reach=reach)
    await actor.start()
    return actor


def make(parts: Parts, role: Role, owner: str, *, wanted: Wanted, died: Died, reach: Reach) -> Any:
    """The plain actor of a role, not yet started."""
    context = Context(parts, role, owner, wanted, died, reach)
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
