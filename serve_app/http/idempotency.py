"""``Idempotency-Key``: the header, and remembered answers for changes whose repeat would be answered differently."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LOCAL_ADMIN, Origin
from cluster.domain.base.names import check_key
from serve_app.auth.admission import principal_of
from serve_app.gateway import Gateway, body_digest

#: Between a principal and its key in what is stored. No key has it, since keys are printable.
_OF = "\x1f"


def key_of(principal: str, key: str | None) -> str | None:
    """A key as it is stored: a key of one principal is none of another's, who must not get its answers. Those of the local
    administrator are stored as they are, as earlier builds stored them."""
    return key if key is None or principal == LOCAL_ADMIN else f"{principal}{_OF}{key}"


def given_key(key: str | None) -> str | None:
    """The key as the client gave it."""
    return None if key is None else key.rpartition(_OF)[2]


async def idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(description="Repeats of one request under one key answer alike.")
    ] = None,
) -> str | None:
    """The header's value, as it is stored for the caller.

    Raises: `InvalidRequest` if it is not 1 to 255 printable characters, or is blank, or if there are two: whoever repeats the
    call, or hands it on, may choose the other one.
    """
    if idempotency_key is None:
        return None
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise InvalidRequest("Send one Idempotency-Key; this call has several.", "invalid_idempotency_key")
    return key_of((await principal_of(request)).id, check_key(idempotency_key, "Idempotency-Key"))


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
