"""Money in integer nano-dollars, so that sums are exact; on the wire it is a text, since JSON's numbers are floats to many."""

from __future__ import annotations

import re
from typing import Final

from aragora_worker.base.errors import InvalidRequest

NANOS: Final = 1_000_000_000
#: The largest amount, so that an amount in nano-dollars is a number that JSON holds exactly (below 2^53).
MOST_USD: Final = 9_000_000
_USD: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,9}))?", re.ASCII)


def nanos_of(text: str, what: str) -> int:
    """Nano-dollars of US dollars such as ``12.50``. ``what`` names the amount in errors.

    Raises: `InvalidRequest` if it is not such a text, or is too much."""
    found = _USD.fullmatch(text)
    if found is None:
        raise InvalidRequest(f'{what} must be US dollars as a text with at most nine decimals, such as "12.50".')
    whole, fraction = found.groups()
    nanos = int(whole) * NANOS + int((fraction or "").ljust(9, "0"))
    if nanos > MOST_USD * NANOS:
        raise InvalidRequest(f"{what} must be at most {MOST_USD:,} US dollars.")
    return nanos


def usd(nanos: int) -> str:
    """US dollars of nano-dollars: at least two decimals, and no more than the amount has."""
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    fraction = f"{nanos % NANOS:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{nanos // NANOS}.{fraction}"
