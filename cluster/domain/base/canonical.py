"""Canonical JSON by RFC 8785 (JCS): one byte string per JSON value, so that a hash of it means the value."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785


def canonical_bytes(value: Any) -> bytes:
    """ValueError for what JCS cannot carry faithfully: NaN, integers beyond 2^53, lone surrogates, what is not JSON."""
    return rfc8785.dumps(value)


def canonical_sha256(value: Any) -> str:
    """Hex SHA-256 of the canonical form."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
