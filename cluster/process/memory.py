"""The memory that this process uses."""

from __future__ import annotations


def resident_bytes() -> int:
    """The resident memory of this process, shared pages included, as ``ps`` shows it."""
    import psutil  # here, so that only who asks pays for its import

    return int(psutil.Process().memory_info().rss)
