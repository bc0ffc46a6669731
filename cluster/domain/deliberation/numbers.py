"""Numbers in answers, exactly: as one text each, and how far two of them are apart.

A number below 2^53 is written as canonical JSON writes it (RFC 8785). From there on floats skip whole numbers, and canonical
JSON, which receipts are signed in, has none: such a number is written in all its digits and stands in JSON as a string.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.json_values import check_json

#: From here on a number is a string in decisions, receipts and canonical answers.
LARGE = 2**53
#: A large number with more digits than these before the point is written with an exponent.
_PLAIN_DIGITS = 60


class Numeral(float):
    """A float that keeps the digits it was read from: 9007199254740993.0 is not the float next to it."""

    __slots__ = ("digits",)
    digits: str

    def __new__(cls, digits: str) -> Numeral:
        number = super().__new__(cls, digits)
        number.digits = digits
        return number


def exact_float(digits: str) -> float:
    """Reads a number with a fraction or an exponent; a large one keeps its digits."""
    number = float(digits)
    return Numeral(digits) if abs(number) >= LARGE else number


#: Marks digits in a text that ``json`` writes. No other text begins by NUL, since none with it can be stored.
_MARK = "\x00"
_MARKED = re.compile(r'"\\u0000([^"]*)"')


def exact_json(value: Any, what: str) -> str:
    """Writes a JSON value with its large numbers as they were read (``exact_float``), which ``json`` alone would round.

    Raises: `InvalidRequest` if the value cannot be stored or read again."""
    check_json(value, what)
    return _MARKED.sub(r"\1", json.dumps(_marked(value), ensure_ascii=False, allow_nan=False))


def _marked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _marked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner) for inner in value]
    return _MARK + value.digits if isinstance(value, Numeral) else value


def number_text(raw: float | str) -> str | None:
    """The one text of a number, given as a number or as its digits. None if it is none, or is too large for a float."""
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return _large_text(_exact(raw)) if abs(number) >= LARGE else canonical_bytes(float(number)).decode()


def _exact(raw: float | str) -> Decimal:
    return Decimal(raw.digits if isinstance(raw, Numeral) else raw)


def _large_text(number: Decimal) -> str:
    """In all its digits and without trailing zeros behind the point."""
    text = format(number, "f")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    if len(digits) <= _PLAIN_DIGITS:
        return f"{whole}.{fraction}" if fraction else whole
    rest = (digits[1:] + fraction).rstrip("0")
    return f"{sign}{digits[0]}{'.' if rest else ''}{rest}e+{len(digits) - 1}"


def is_large(text: str) -> bool:
    return abs(float(text)) >= LARGE


def plain(value: Any) -> Any:
    """A JSON value with its large numbers as strings, so that canonical JSON can hold it."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= LARGE:
        return number_text(value) or str(value)
    return float(value) if isinstance(value, Numeral) else value


def distance(left: str, right: str) -> float | Fraction:
    """How far two numbers are apart: exactly, if one of them is large, since floats would make neighbours equal."""
    if is_large(left) or is_large(right):
        return abs(Fraction(left) - Fraction(right))
    return abs(float(left) - float(right))
