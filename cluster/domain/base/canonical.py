"""Canonical JSON by RFC 8785 (JCS): one byte string per JSON value, so that a hash of it means the value."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

#: From here on JCS writes a double with an exponent.
_DIGITS_UNTIL = 10**21


def canonical_bytes(value: Any) -> bytes:
    """The canonical form of a JSON value. What was read from a canonical form has the same one again.

    Raises: `ValueError` if JCS has no exact form for the value: NaN, an integer that is not the canonical form of a double, a
    lone surrogate, or a value that is not JSON."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        return rfc8785.dumps(_as_doubles(value))


def _as_doubles(value: Any) -> Any:
    """The value with the doubles that its large integers stand for. JCS writes the double 1e20 as digits, which Python reads as
    an integer, and rfc8785 0.1.4 takes no integer beyond 2^53."""
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_doubles(item) for item in value]
    if type(value) is int and abs(value) < _DIGITS_UNTIL and rfc8785.dumps(float(value)) == b"%d" % value:
        return float(value)
    return value


def canonical_sha256(value: Any) -> str:
    """Hex SHA-256 of the canonical form. Raises: `ValueError` as ``canonical_bytes`` does."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
