"""What an earlier call under the same Idempotency-Key has made."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from cluster.domain.base.errors import Conflict, NotFound

T = TypeVar("T")


async def still_there(found: Awaitable[T], what: str) -> T:
    """What ``found`` returns. Raises: `Conflict` where that raises `NotFound`: a call that is to make something is no call for
    something that is missing, and making it anew would undo the deletion."""
    try:
        return await found
    except NotFound:
        message = f"The {what} that this Idempotency-Key made has been deleted; use a new key to make another."
        raise Conflict(message, "deleted_since") from None
