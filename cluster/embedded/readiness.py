"""What an embedded store that has been started says about itself, and how long it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from cluster.embedded.processes import ProcessId, wait_until

#: How long a store may read its log after it was killed. PostgreSQL's (``max_wal_size``) takes minutes on a slow disk.
RECOVERY_S: Final = 600.0


class Readiness(StrEnum):
    SILENT = "silent"
    #: It runs, and reads what it has to repeat after it was killed.
    RECOVERING = "recovering"
    READY = "ready"


def becomes_ready(readiness: Callable[[], Readiness], process: ProcessId, ready_s: float) -> bool:
    """Whether the store gets ready within ``ready_s``, or ``RECOVERY_S`` more if it says that it recovers. False as soon as its
    process has ended."""
    state = Readiness.SILENT

    def settled() -> bool:
        nonlocal state
        state = readiness()
        return state is Readiness.READY or not process.alive()

    wait_until(settled, ready_s)
    if state is Readiness.RECOVERING:
        wait_until(settled, RECOVERY_S)
    return state is Readiness.READY and process.alive()
