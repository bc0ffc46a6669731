"""Large answers are read in a thread: the event loop serves all other agents meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

#: More bytes than these, or characters, are read in a thread. Handing over fewer takes longer than to read them.
MAX_INLINE_BYTES = 65_536
#: One thread, so that large answers wait for each other: each more would take a share of the interpreter from the event loop, and
#: with ten of them the loop would wait ten times as long for its turn.
_READER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-answers")


async def in_thread_if_large(size: int, read: Callable[..., T], *arguments: Any) -> T:
    """Reads ``size`` bytes of an answer, in a thread if they are many. Raises what ``read`` raises."""
    if size <= MAX_INLINE_BYTES:
        return read(*arguments)
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_READER, lambda: context.run(read, *arguments))


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
