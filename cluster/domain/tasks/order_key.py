"""The order key of a waiting task: what the tasks of one sub-queue are sorted by.

A key is a time and, among equal times, a text. Between two keys there is always a third, so moving a task changes no other
task's key. A task that was never moved has no order key and is sorted by (created_at, id), that is by age.

The column ``tasks.place``, and ``place`` in the data of ``task.prioritized``, hold it as text: names in storage stay.
"""

from __future__ import annotations

import math

OrderKey = tuple[float, str]

#: The range of characters that a text between two others is made of: from the lowest, up to and without the end. No such text
#: ends with the lowest character, so there is always room before it.
_LOWEST, _BEYOND = 0x21, 0x7F


def encode(key: OrderKey | None) -> str | None:
    """The stored text of a key: ``time|text``."""
    return None if key is None else f"{key[0]!r}|{key[1]}"


def decode(text: str | None) -> OrderKey | None:
    if text is None:
        return None
    at, _, name = text.partition("|")
    return float(at), name


def before(first: OrderKey, name: str) -> OrderKey:
    """A key just ahead of ``first``, which is the first one of the sub-queue."""
    return math.nextafter(first[0], -math.inf), name


def between(low: OrderKey, high: OrderKey | None) -> OrderKey:
    """A key behind ``low`` and ahead of ``high``; None as ``high`` means that none follows."""
    return low[0], _text_between(low[1], high[1] if high is not None and high[0] == low[0] else None)


def _text_between(low: str, high: str | None) -> str:
    """Copies the common beginning, then takes the first character that has room in the middle. Once the copy is below ``high``,
    ``high`` bounds it no more."""
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
