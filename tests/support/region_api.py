"""One region as a process of its own, without Ray: ``python -m tests.support.region_api``, with settings in its environment.

It has the real leader, actors and API. ``EARLY`` in the environment breaks it: whatever rests on a commit leaves at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from actors.composition.making import make
from actors.composition.resources import Resources, load_process_settings, migrated
from actors.roles import AGENT_HOST, REGION_LEADER, SCHEDULER, TELEMETRY, Role
from cluster.log.replication_gate import ReplicationGate
from cluster.ports.actor_names import ActorNames
from cluster.postgres.replication_statuses import PostgresReplicationStatuses
from tests.support.api import Api
from tests.support.probes import eventually

EARLY = "ARAGORA_TEST_ANSWERS_EARLY"


async def _at_once(self: ReplicationGate, within_s: float | None = None) -> None:
    """The mutant of `ReplicationGate.passed`."""


async def main() -> None:
    settings = load_process_settings().model_copy(update={"embedded": True, "auth_enabled": False})
    await migrated(settings)
    if EARLY in os.environ:
        ReplicationGate.passed = _at_once  # type: ignore[method-assign]
    leads = Role(kind=REGION_LEADER)
    resources = await Resources.open(settings, leads.key, connections=4)
    leader = make(
        resources, leads, f"{leads.key}:{os.getpid()}", is_published=_yes, on_fatal=_begin_anew, resolve=_nobody
    )
    await leader.start()
    await eventually(lambda: _has_a_log(resources), 120.0)
    api = Api(settings, on_fatal=_begin_anew)
    async with api.running(kinds=(TELEMETRY, SCHEDULER, AGENT_HOST), port=settings.http_port):
        await asyncio.Event().wait()


def _begin_anew(error: BaseException) -> None:
    """A process whose region is copied anew ends, and Ray or the supervisor starts the next: here it becomes that by itself."""
    logging.getLogger(__name__).warning("this process begins anew: %s", error)
    os.execv(sys.executable, [sys.executable, "-m", "tests.support.region_api"])


async def _yes() -> bool:
    return True


def _nobody(role: Role, names: ActorNames) -> Callable[..., Awaitable[Any]]:
    raise AssertionError("the leader calls no other actor")


async def _has_a_log(resources: Resources) -> bool:
    """The other processes of a region end at its first copy, to read everything anew, and here they are one with its leader."""
    status = await PostgresReplicationStatuses(resources.stores.pool, resources.settings.zone).read()
    return status.whole and status.head > 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(main())
