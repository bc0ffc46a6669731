"""The garbage collector and a large state: it would look at every task head again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: So many objects (some 3,000 tasks) cost a collection a millisecond.
_FEW_OBJECTS = 10_000
#: Whether the process's objects are frozen now, that is left out of collections.
_frozen = False


@contextmanager
def settled_memory() -> Iterator[None]:
    """Leaves what is built inside out of later garbage collections, which would else look at a million heads each time.

    What is frozen from before is collected once first: a dropped state that stayed frozen would never be freed.

    A state of a few objects is left to ordinary collections. Freezing it would take two full ones, which look at the whole
    process, and everybody would wait for a shard that has hardly anything to read.
    """
    global _frozen
    gc.disable()
    try:
        if _frozen:
            gc.unfreeze()
            gc.collect()
            _frozen = False
        before = gc.get_count()[0]
        yield
        if gc.get_count()[0] - before > _FEW_OBJECTS:
            gc.collect()
            gc.freeze()
            _frozen = True
    finally:
        gc.enable()
