"""How many entries a list has in all."""

from __future__ import annotations

from dataclasses import dataclass

#: Up to so many entries a total is exact. Beyond, counting would cost more the older the system is, for a number that nobody
#: reads to the last digit.
EXACT_TO = 1000


@dataclass(frozen=True, slots=True)
class Total:
    """``entries`` is the database's estimate if it is not exact, and then more than `EXACT_TO`."""

    entries: int
    exact: bool = True
