"""The same answer to a repeat, for changes that may be made twice without harm but would be answered differently."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import Origin, canonical_json
from serve_app.gateway import Gateway, body_digest

KEY_CONFLICT = "This Idempotency-Key was used with another body; use a new key."


async def answered_once(
    gate: Gateway,
    asker: Origin,
    route: str,
    key: str | None,
    body: Any,
    change: Callable[[], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Makes the change, or gives the first answer under ``key`` again. ``body`` is plain JSON.

    Not for a change whose repeat would have an effect: the answer is kept after the change, not with it.
    """
    if key is None:
        return await change()
    digest = body_digest(body)
    first = await gate.answers.recall(asker.workspace, route, key)
    if first is None:
        answer = await change()
        await gate.answers.remember(asker.workspace, route, key, digest, canonical_json(answer), gate.clock.now())
        first = await gate.answers.recall(asker.workspace, route, key)
        if first is None:  # swept away already
            return answer
    if first[0] != digest:
        raise Conflict(KEY_CONFLICT, "idempotency_conflict")
    remembered: dict[str, Any] = json.loads(first[1])
    return remembered
