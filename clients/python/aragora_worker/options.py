"""What a worker can be made of. Options that could only make it fail, or do nothing, are refused before it registers."""

from __future__ import annotations

import math
from typing import TypeGuard

from aragora_worker.base.bounds import MAX_CONCURRENCY
from aragora_worker.base.errors import InvalidRequest
from aragora_worker.base.ids import check_id


def check_options(
    *, agent_id: object, concurrency: object, batch: object, heartbeat_s: object, drain_s: object
) -> None:
    """Raises: `InvalidRequest` with a sentence about the first option that a worker cannot have."""
    check_id(agent_id, "agent_id")
    if not _is_count(concurrency) or concurrency > MAX_CONCURRENCY:
        raise _refused("concurrency", f"a whole number from 1 to {MAX_CONCURRENCY}", concurrency)
    if not _is_count(batch):
        raise _refused("batch", "a whole number from 1 on", batch)
    if not _is_time(heartbeat_s) or heartbeat_s == 0:
        raise _refused("heartbeat_s", "a finite number of seconds above 0", heartbeat_s)
    if not _is_time(drain_s):
        raise _refused("drain_s", "a finite number of seconds from 0 on", drain_s)


def check_handler(handler: object) -> None:
    """Raises: `InvalidRequest` if the handler cannot be called."""
    if not callable(handler):
        raise InvalidRequest(
            f"A handler must be a function that takes a Job, not a {type(handler).__name__}; give one.",
            "invalid_handler",
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _refused(name: str, what: str, value: object) -> InvalidRequest:
    shown = f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else type(value).__name__
    return InvalidRequest(f"{name} of a worker must be {what}, not {shown}; change it.", "invalid_option")
