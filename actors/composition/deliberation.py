"""The maker of deliberation workers."""

from __future__ import annotations

from typing import Any

from actors.agents.membership import HostCalls
from actors.composition.agents import live_hosts
from actors.composition.resources import Context, exchange_with
from actors.deliberation.worker import DeliberationWorker
from actors.roles import SCHEDULER, Role
from cluster.learning.weight_learner import Learner, owners_from
from cluster.rpc.exchange import ExchangeClient


def make(it: Context) -> Any:
    def exchange(role: Role) -> ExchangeClient:
        return ExchangeClient(
            it.owner,
            exchange_with(it.resolve(role, it.resources.stores.names)),
            clock=it.resources.clock,
            callee=role.title,
        )

    return DeliberationWorker(
        name=it.owner,
        index=it.role.index,
        workers=it.resources.settings.deliberation_workers,
        store=it.resources.stores.deliberations,
        agents=it.resources.stores.agents,
        tasks=it.resources.stores.tasks,
        workspaces=it.resources.stores.access,
        weights=Learner(it.resources.stores.outcomes, owners_from(it.resources.stores.agents), it.resources.clock),
        log=it.resources.stores.log,
        doorbell=it.resources.doorbell,
        clock=it.resources.clock,
        call_agent=HostCalls(live_hosts(it), exchange, it.resources.clock).call,
        shard=exchange(Role(kind=SCHEDULER)).request,
        region=it.resources.settings.region,
        on_fatal=it.on_fatal,
    )
