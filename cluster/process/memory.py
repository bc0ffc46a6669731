"""The memory that this process and its machine use, and how often the garbage collector looks at it."""

from __future__ import annotations

import gc
from dataclasses import dataclass

#: New objects after which the garbage collector looks at the youngest ones. Python's default is 700.
GC_THRESHOLD = 10_000


def resident_bytes() -> int:
    """The resident memory of this process, shared pages included, as ``ps`` shows it."""
    import psutil  # here, so that only who asks pays for its import

    return int(psutil.Process().memory_info().rss)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLoad:
    """Memory in bytes; ``load_1m`` is the mean of a minute of how many processes want a core."""

    cores: int
    load_1m: float
    memory_total: int
    memory_available: int


def machine_load() -> MachineLoad:
    """How busy this machine is. In a container too it is the machine that is meant, not the container's share of it."""
    import psutil  # as above

    memory = psutil.virtual_memory()
    return MachineLoad(
        cores=psutil.cpu_count() or 1,
        load_1m=psutil.getloadavg()[0],
        memory_total=int(memory.total),
        memory_available=int(memory.available),
    )


def settle_memory() -> None:
    """Leaves what a process starts with out of later garbage collections, since it stays, and makes collections rarer, so that a
    burst of thousands of calls does not set off hundreds of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
