"""The maker of the sealer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from actors.composition.resources import Context, Resources
from actors.roles import TELEMETRY, Role
from actors.sealer import Sealer, SealingKey
from cluster.domain.base.signing import SEED_BYTES, Signer, seed_of
from cluster.domain.metrics import Labels


def make(it: Context) -> Any:
    resources = it.resources
    telemetry = it.resolve(Role(kind=TELEMETRY), resources.stores.names)

    async def show(gauge: str, series: Mapping[Labels, float]) -> None:
        await telemetry("show", gauge, series, timeout_s=5.0)

    async def key() -> SealingKey:
        return await _key(resources)

    return Sealer(
        zone=resources.settings.region,
        seals=resources.stores.seals,
        log=resources.stores.log,
        region=resources.stores.region,
        key=key,
        show=show,
        clock=resources.clock,
        on_fatal=it.on_fatal,
    )


async def _key(resources: Resources) -> SealingKey:
    """The configured key, else that of receipts: a configured one of those, or the one that the database keeps."""
    settings = resources.settings
    configured = settings.audit_signing_key or settings.receipt_signing_key
    if configured is not None:
        return SealingKey(Signer(seed_of(configured.get_secret_value())), self_signed=False)
    own = await resources.stores.signing_keys(settings.sealing_keys()).own(os.urandom(SEED_BYTES))
    return SealingKey(Signer(own), self_signed=True)
