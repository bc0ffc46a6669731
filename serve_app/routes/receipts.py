"""Receipts of ended deliberations, and the keys that verify them."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from starlette.responses import Response

from cluster.domain.access.permissions import Permission
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import Conflict
from cluster.domain.base.signing import ALGORITHM
from cluster.domain.receipts.document import make_receipt
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import gateway
from serve_app.routes.known import known_deliberation

router = GuardedRouter(tags=["receipts"])


@router.get("/receipts/keys")
@requires(Permission.PUBLIC)
async def get_keys(request: Request) -> dict[str, Any]:
    """The public keys with which this deployment has signed receipts; the one with ``current`` true signs now."""
    signing = gateway(request).signing
    current = (await signing.signer()).key_id
    return {
        "keys": [
            {
                "key_id": key.key_id,
                "algorithm": ALGORITHM,
                "public_key": key.public_key.hex(),
                "created_at": key.created_at,
                "current": key.key_id == current,
            }
            for key in await signing.keys.published()
        ]
    }


@router.get("/deliberations/{request_id}/receipt", response_model=None)
@requires(Permission.DELIBERATIONS_READ)
async def get_receipt(request: Request, request_id: str, asker: Asker) -> Response:
    """The signed receipt, the same at every call. 404 (`NotFound`) if there is no such deliberation, 409 (`Conflict`,
    ``not_ended``) while it runs."""
    gate = gateway(request)
    deliberation = await known_deliberation(gate, asker, request_id)
    if deliberation.terminal is None:
        raise Conflict(f"Deliberation {request_id} has not ended; fetch its receipt when it has.", "not_ended")
    signer = await gate.signing.signer()
    events = await gate.deliberations.journal(asker.workspace, deliberation.request_id)

    def make() -> bytes:
        receipt = make_receipt(
            signer, request_id=deliberation.request_id, contract=deliberation.contract, events=events
        )
        return canonical_bytes(receipt)

    # A thread, because some hundred events take a tenth of a second, and heartbeats must be answered meanwhile.
    return Response(await asyncio.to_thread(make), media_type="application/json")
