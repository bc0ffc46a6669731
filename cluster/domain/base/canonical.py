"""Canonical JSON by RFC 8785 (JCS): one byte string per JSON value, so that a hash of it means the value."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785


def canonical_bytes(value: Any) -> bytes:
    """The canonical form of a JSON value.

    Raises: `ValueError` if JCS has no exact form for the value: NaN, an integer beyond 2^53, a lone surrogate, or a value
    that is not JSON."""
    return rfc8785.dumps(value)


def canonical_sha256(value: Any) -> str:
    """Hex SHA-256 of the canonical form. Raises: `ValueError` as ``canonical_bytes`` does."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
