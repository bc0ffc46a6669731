"""Which known name somebody meant who wrote another one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: How like a known name a wrong one must be to be taken for it (1: equal).
LIKE = 0.65
#: How like it must be to be taken for a slip of one letter, whatever longer names contain it: four letters of five.
SLIP = 0.88
#: A word of so many letters is taken for part of a known name: with fewer it is in names by chance.
_PART = 4
#: More of a wrong name is neither compared nor shown.
MAX_SHOWN = 64
#: More known names than these are no help in a sentence.
_LISTED = 32


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` is a slip of, else the one that begins with it or contains it, else the one that is most like
    it, whatever its case and the order of its words; "" if none is like it."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", "_", name[:MAX_SHOWN]).casefold().split("_")

    def likeness(other: str) -> float:
        spellings = (("_".join(words), other), ("_".join(sorted(words)), "_".join(sorted(other.split("_")))))
        return max(difflib.SequenceMatcher(None, given, right).ratio() for given, right in spellings)

    names, part = sorted(known), "_".join(words)
    longer = [other for other in names if part in other] if len(part) >= _PART else []
    best = max(names, key=likeness, default="")
    if longer and likeness(best) < SLIP:
        return max(longer, key=lambda other: (other.startswith(part), likeness(other)))
    return best if best and likeness(best) >= LIKE else ""


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest one, or all that there are."""
    names = sorted(known)
    near = nearest(name, names)
    if near:
        return f"did you mean {near}?"
    return f"use {', '.join(names[:_LISTED])}." if names else "leave it out."
