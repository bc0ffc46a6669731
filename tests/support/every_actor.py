"""``python -m tests.support.every_actor``: joins a running system and calls every actor past Ray and through Ray.

Prints, as JSON, by role: what each of the two ways answered, and whether the first had a channel.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from actors.composition.resources import load_process_settings, urls
from actors.roles import Role, desired_roles
from actors.runtime import RoleHandle, join
from cluster.domain.base.errors import ControlPlaneError
from cluster.postgres.stores import open_stores
from cluster.rpc.channel import Channel


async def _answer(handle: RoleHandle, method: str) -> str:
    try:
        answer: Any = await handle.call(method, timeout_s=30.0)
    except ControlPlaneError as error:
        return type(error).__name__
    return type(answer).__name__


async def main() -> None:
    settings = load_process_settings()
    join(os.environ["RAY_ADDRESS"])
    stores = await open_stores(urls(settings)[0], settings.database_schema, settings.region, max_connections=1)
    found: dict[str, Any] = {}
    for role in desired_roles(settings):
        found[role.key] = await _both(role, stores.names)
    await stores.close()
    print(json.dumps(found))


async def _both(role: Role, names: Any) -> dict[str, Any]:
    method = "alive" if role.kind == "health-monitor" else "status"
    direct, over_ray = RoleHandle(role, names), RoleHandle(role, names, direct=False)
    return {
        "direct": await _answer(direct, method),
        "over_ray": await _answer(over_ray, method),
        "channel": isinstance(direct._way, Channel),
    }


if __name__ == "__main__":
    asyncio.run(main())
