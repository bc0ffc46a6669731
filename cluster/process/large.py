"""Large answers are read in a thread: the event loop serves all other agents meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

#: More bytes than these, or characters, are read in a thread. Handing over fewer takes longer than to read them.
MAX_INLINE_BYTES = 65_536


async def in_thread_if_large(size: int, read: Callable[..., T], *arguments: Any) -> T:
    """Reads ``size`` bytes of an answer, in a thread if they are many. Raises what ``read`` raises."""
    return read(*arguments) if size <= MAX_INLINE_BYTES else await asyncio.to_thread(read, *arguments)


def rough_size(value: Any) -> int:
    """About how many characters the JSON text of a value has. Stops counting above ``MAX_INLINE_BYTES``, so that a large value
    costs no more than one of that size, even if it holds itself."""
    size, waiting = 0, [value]
    while waiting and size <= MAX_INLINE_BYTES:
        item = waiting.pop()
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, dict | list | tuple):
            parts = _parts(item)
            size += 2 * len(parts)
            if size <= MAX_INLINE_BYTES:
                waiting.extend(parts)
                waiting.extend(dict.values(item) if isinstance(item, dict) else ())
    return size


def _parts(item: Any) -> Sequence[Any]:
    """The keys of an object, or the members of a list, by the methods of Python's own types: those of others may be endless. At
    most one more than would be counted."""
    kind: Any = dict if isinstance(item, dict) else list if isinstance(item, list) else tuple
    return list(islice(kind.__iter__(item), MAX_INLINE_BYTES // 2 + 1))
