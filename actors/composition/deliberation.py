"""The maker of deliberation workers."""

from __future__ import annotations

from typing import Any

from actors.agents.membership import HostCalls
from actors.composition.agents import live_hosts
from actors.composition.resources import Context, exchange_with
from actors.deliberation.worker import DeliberationWorker
from actors.roles import (
    Role,
)
from cluster.learning.weight_learner import Learner, owners_from
from cluster.rpc.exchange import ExchangeClient


def make(it: Context) -> Any:
    def exchange(role: Role) -> ExchangeClient:
        return ExchangeClient(it.owner, exchange_with(it.reach(role, it.parts.stores.names)), clock=it.parts.clock)

    return DeliberationWorker(
        name=it.owner,
        index=it.role.index,
        workers=it.parts.settings.deliberation_workers,
        store=it.parts.stores.deliberations,
        agents=it.parts.stores.agents,
        weights=Learner(it.parts.stores.outcomes, owners_from(it.parts.stores.agents), it.parts.clock),
        log=it.parts.stores.log,
        doorbell=it.parts.doorbell,
        clock=it.parts.clock,
        call_agent=HostCalls(live_hosts(it), exchange, it.parts.clock).call,
        died=it.died,
    )
