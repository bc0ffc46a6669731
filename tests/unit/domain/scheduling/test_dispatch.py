"""The part of the scheduler's core that claims ask."""

from __future__ import annotations

import gc
import weakref

from cluster.domain.scheduling.core import SchedulerCore


def test_a_core_is_freed_as_soon_as_it_is_dropped() -> None:
    """A shard loads the next state at once, and has no room for two."""
    gc.disable()
    try:
        core = SchedulerCore(lease_ttl_s=1.0)
        parts = [weakref.ref(part) for part in (core, core._tasks, core._dispatch, core._deadlines)]
        del core
        assert [part() for part in parts] == [None] * 4
    finally:
        gc.enable()
