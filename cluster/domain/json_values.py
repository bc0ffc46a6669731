"""JSON from outside that we keep: bounded in depth, and without what a store cannot hold."""

from __future__ import annotations

import math
from typing import Any

from cluster.domain.errors import InvalidRequest

MAX_DEPTH = 64


def check_json(value: Any, what: str) -> None:
    """InvalidRequest for nesting beyond ``MAX_DEPTH``, NUL characters, lone surrogates and non-finite numbers.

    ``value`` is parsed JSON; ``what`` names the field in the sentence.
    """
    stack = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"{what} is nested deeper than {MAX_DEPTH} levels.", "invalid_json")
        if isinstance(item, dict):
            for key, inner in item.items():
                _check_text(key, what)
                stack.append((inner, depth + 1))
        elif isinstance(item, list):
            stack.extend((inner, depth + 1) for inner in item)
        elif isinstance(item, str):
            _check_text(item, what)
        elif isinstance(item, float) and not math.isfinite(item):
            raise InvalidRequest(f"{what} holds a number that JSON does not have (NaN or infinity).", "invalid_json")


def _check_text(text: str, what: str) -> None:
    if "\x00" in text or not (text.isascii() or _encodes(text)):
        raise InvalidRequest(f"{what} holds a character that cannot be stored (NUL or half a pair).", "invalid_json")


def _encodes(text: str) -> bool:
    """Half a pair is what UTF-8 does not have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
