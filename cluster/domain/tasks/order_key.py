"""The order key of a waiting task: after those that are older, unless somebody has moved it.

Tasks of one sub-queue are sorted by it: a time, and among equal times a text. Between two keys there is always a third, so
moving a task changes no other's key. A task that was never moved has none, and is sorted by (created_at, id).

The column ``tasks.place``, and ``place`` in the data of ``task.prioritized``, hold it as text: names in storage stay.
"""

from __future__ import annotations

import math

OrderKey = tuple[float, str]

#: Texts are compared character by character; the lowest one ends no text, so that there is always room before one.
_LOWEST, _BEYOND = 0x21, 0x7F


def encode(key: OrderKey | None) -> str | None:
    return None if key is None else f"{key[0]!r}|{key[1]}"


def decode(text: str | None) -> OrderKey | None:
    if text is None:
        return None
    at, _, name = text.partition("|")
    return float(at), name


def before(first: OrderKey, name: str) -> OrderKey:
    """Ahead of everybody."""
    return math.nextafter(first[0], -math.inf), name


def between(low: OrderKey, high: OrderKey | None) -> OrderKey:
    """Right behind ``low``, and before ``high``."""
    return low[0], _text_between(low[1], high[1] if high is not None and high[0] == low[0] else None)


def _text_between(low: str, high: str | None) -> str:
    text = ""
    while True:
        i = len(text)
        from_, to = _at(low, i, _LOWEST), _BEYOND if high is None else _at(high, i, _LOWEST)
        if to - from_ > 1:
            return text + chr((from_ + to) // 2)
        text += chr(from_)
        if from_ < to:
            high = None


def _at(text: str, i: int, default: int) -> int:
    return ord(text[i]) if i < len(text) else default
