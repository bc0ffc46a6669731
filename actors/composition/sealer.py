"""The maker of the sealer."""

from __future__ import annotations

import os
from typing import Any

from actors.composition.resources import Context, Resources
from actors.sealer import Sealer, SealingKey
from cluster.domain.base.signing import SEED_BYTES, Signer, seed_of


def make(it: Context) -> Any:
    resources = it.resources

    async def key() -> SealingKey:
        return await _key(resources)

    return Sealer(
        zone=resources.settings.zone,
        seals=resources.stores.seals,
        region=resources.stores.region,
        key=key,
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
