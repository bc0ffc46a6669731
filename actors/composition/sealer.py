"""The maker of the sealer's process, which also starts the runs of schedules, advances those of workflows, removes what ended
long ago, archives the oldest rows of the log, and sends notifications: all write only where the zone's primary is, and wait most
of the time ([decision 26](../../docs/adr/0026-schedules.md))."""

from __future__ import annotations

import os
from typing import Any

from actors.composition.resources import Context, Resources, allowed_networks, exchange_with
from actors.keeper import Keeper
from actors.log_keeper import LogKeeper
from actors.notifications import NotificationKeeper
from actors.retention import RetentionKeeper
from actors.roles import SCHEDULER, Role
from actors.schedules import ScheduleKeeper
from actors.sealer import Sealer, SealingKey
from actors.settling import SettlingKeeper
from actors.workflows.keeper import WorkflowKeeper
from cluster.domain.base.signing import SEED_BYTES, Signer, seed_of
from cluster.notifiers.sending import ChannelNotifier
from cluster.rpc.exchange import ExchangeClient


def make(it: Context) -> Any:
    resources = it.resources

    async def key() -> SealingKey:
        return await _key(resources)

    sealer = Sealer(
        zone=resources.settings.zone,
        seals=resources.stores.seals,
        region=resources.stores.region,
        key=key,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    shard = ExchangeClient(
        it.owner,
        exchange_with(it.resolve(Role(kind=SCHEDULER), resources.stores.names)),
        clock=resources.clock,
        late_reply=lambda _: None,  # a cancellation holds nothing that would have to be given back
    )
    schedules = ScheduleKeeper(
        schedules=resources.stores.schedules,
        policies=lambda: resources.stores.policies,
        deliberations=lambda: resources.stores.deliberations,
        workflows=lambda: resources.stores.workflows,
        region=resources.stores.region,
        cancel=shard.request,
        doorbell=resources.doorbell,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    workflows = WorkflowKeeper(
        workflows=resources.stores.workflows,
        policies=lambda: resources.stores.policies,
        deliberations=lambda: resources.stores.deliberations,
        region=resources.stores.region,
        cancel=shard.request,
        doorbell=resources.doorbell,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    retention = RetentionKeeper(
        store=resources.stores.retention,
        region=resources.stores.region,
        default=resources.settings.retention_rule(),
        window_s=resources.settings.idempotency_window,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    settling = SettlingKeeper(
        budgets=resources.stores.budgets,
        policies=resources.stores.policies,
        rules=resources.stores.retention,
        region=resources.stores.region,
        default=resources.settings.retention_rule(),
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    log = LogKeeper(
        zone=resources.settings.zone,
        log=resources.stores.log,
        trail=resources.stores.seals,
        segments=resources.stores.log_segments,
        region=resources.stores.region,
        days=resources.settings.log_retention_days,
        directory=resources.settings.log_archive_dir,
        archive_days=resources.settings.audit_retention_days,
        hold_s=resources.settings.log_hold,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    notifications = NotificationKeeper(
        notifications=resources.stores.notifications,
        pushes=resources.stores.pushes(resources.settings.sealing_keys()),
        region=resources.stores.region,
        notifier=ChannelNotifier(
            allowed_networks=allowed_networks(resources.settings),
            read=resources.stores.credentials(resources.settings.sealing_keys()).read,
            now=resources.clock.now,
        ),
        doorbell=resources.doorbell,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )
    return Keeper(sealer, schedules, workflows, retention, settling, log, notifications)


async def _key(resources: Resources) -> SealingKey:
    """The configured key, else that of receipts: a configured one of those, or the one that the database keeps."""
    settings = resources.settings
    configured = settings.audit_signing_key or settings.receipt_signing_key
    if configured is not None:
        return SealingKey(Signer(seed_of(configured.get_secret_value())), self_signed=False)
    own = await resources.stores.signing_keys(settings.sealing_keys()).own(os.urandom(SEED_BYTES))
    return SealingKey(Signer(own), self_signed=True)
