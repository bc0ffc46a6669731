"""Where a task stands in its line: after those that are older, unless somebody has given it another place.

A place is what tasks of one line are sorted by: a time, and among equal times a text. Between two places there is always
a third, so a task is moved without touching any other.
"""

from __future__ import annotations

import math

Place = tuple[float, str]

#: Texts are compared character by character; the lowest one ends no text, so that there is always room before one.
_LOWEST, _BEYOND = 0x21, 0x7F


def encode(place: Place | None) -> str | None:
    return None if place is None else f"{place[0]!r}|{place[1]}"


def decode(text: str | None) -> Place | None:
    if text is None:
        return None
    at, _, name = text.partition("|")
    return float(at), name


def before(first: Place, name: str) -> Place:
    """Ahead of everybody."""
    return math.nextafter(first[0], -math.inf), name


def between(low: Place, high: Place | None) -> Place:
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
