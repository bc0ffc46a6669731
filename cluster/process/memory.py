"""The memory that this process uses, and how often the garbage collector looks at it."""

from __future__ import annotations

import gc

#: New objects after which the garbage collector looks at the youngest ones. Python's default is 700.
GC_THRESHOLD = 10_000


def resident_bytes() -> int:
    """The resident memory of this process, shared pages included, as ``ps`` shows it."""
    import psutil  # here, so that only who asks pays for its import

    return int(psutil.Process().memory_info().rss)


def settle_memory() -> None:
    """Leaves what a process starts with out of later garbage collections, since it stays, and makes collections rarer, so that a
    burst of thousands of calls does not set off hundreds of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
