"""Writers of JSON text that are made once.

``json.dumps`` with options, and ``JSONEncoder.encode``, make a new encoder in C at every call, which takes longer than to write
a short value. An encoder has no state, so each writer keeps its own. It has no markers of the containers that it is in either: a
value that holds itself ends with a ``RecursionError`` instead of a ``ValueError``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

_COMPACT = (",", ":")
_SPACED = (", ", ": ")


def json_writer(*, compact: bool = False, sort_keys: bool = False, allow_nan: bool = False) -> Callable[[Any], str]:
    """A function that writes a value as JSON, non-ASCII characters kept. ``compact``: without white space.

    What it returns raises `ValueError` for NaN and infinity unless they are allowed, `TypeError` for what JSON does not have, and
    `RecursionError` if the value is nested too deeply or holds itself."""
    item, key = separators = _COMPACT if compact else _SPACED
    encoder = json.JSONEncoder(ensure_ascii=False, separators=separators, sort_keys=sort_keys, allow_nan=allow_nan)
    make: Any = c_make_encoder
    if make is None:  # the interpreter has no encoder in C
        return encoder.encode
    write = make(None, encoder.default, encode_basestring, None, key, item, sort_keys, False, allow_nan)

    def written(value: Any) -> str:
        return "".join(write(value, 0))

    return written


_CANONICAL = json_writer(compact=True, sort_keys=True)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, without white space, non-ASCII characters kept.

    Raises: `ValueError` for NaN and infinity, `TypeError` for what JSON does not have, `RecursionError` if it is nested too
    deeply or holds itself."""
    return _CANONICAL(value)
