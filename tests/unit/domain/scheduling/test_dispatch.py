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
        freed = weakref.ref(core)
        del core
        assert freed() is None
    finally:
        gc.enable()
