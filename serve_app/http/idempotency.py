"""``Idempotency-Key``: the header, and remembered answers for changes whose repeat would be answered differently."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.log import Origin, canonical_json
from serve_app.gateway import Gateway, body_digest


async def idempotency_key(
    idempotency_key: Annotated[
        str | None, Header(description="Repeats of one request under one key answer alike.")
    ] = None,
) -> str | None:
    """The header's value.

    Raises: `InvalidRequest` if it is not 1 to 255 printable characters.
    """
    if idempotency_key is not None and not (1 <= len(idempotency_key) <= 255 and idempotency_key.isprintable()):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable characters.", "invalid_idempotency_key")
    return idempotency_key


Idempotency = Annotated[str | None, Depends(idempotency_key)]

KEY_CONFLICT = "This Idempotency-Key was used with another body; use a new key."


async def answered_once(
    gate: Gateway,
    asker: Origin,
    route: str,
    key: str | None,
    body: Any,
    change: Callable[[], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Makes the change, or returns the answer that was remembered under ``key``. ``body`` is plain JSON.

    Use it only for changes that do no harm if they are made twice: the answer is remembered after the change, in another
    transaction, so a repeat may come in between.

    Raises: `Conflict` if the key was used with another body.
    """
    if key is None:
        return await change()
    digest = body_digest(body)
    first = await gate.answers.recall(asker.workspace, route, key)
    if first is None:
        answer = await change()
        await gate.answers.remember(asker.workspace, route, key, digest, canonical_json(answer), gate.clock.now())
        first = await gate.answers.recall(asker.workspace, route, key)
        if first is None:  # the sweep of old keys has removed it already
            return answer
    if first[0] != digest:
        raise Conflict(KEY_CONFLICT, "idempotency_conflict")
    remembered: dict[str, Any] = json.loads(first[1])
    return remembered
