"""JSON and texts from outside: read and written with the one check of values, which clients make too (their package has it)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.base.json_values import (
    CODE,
    LONG_NUMBER,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_ERROR_CHARS,
    MAX_VALUES,
    check_json,
    check_text,
    encodes,
    plain_json,
    refused,
    shown_error,
    shown_text,
    shown_words,
)
from cluster.domain.base.json_writing import json_writer

#: What other modules take of the check.
__all__ = [
    "CODE",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_ERROR_CHARS",
    "MAX_VALUES",
    "check_json",
    "check_text",
    "plain_json",
    "shown_error",
    "shown_text",
    "shown_words",
]

#: Stands behind a text that was cut.
CUT_MARK = " […cut]"


_WRITE = json_writer()


class NotJson(InvalidRequest):
    """The text is not JSON. JSON that we cannot store is an ``InvalidRequest`` of another kind."""


def joined(chunks: Iterable[str]) -> str:
    """The chunks of somebody's text as one. A character outside the BMP that was cut into its two halves is whole again: JSON
    writes it as two escapes, and servers that cut by UTF-16 units send one in each chunk. A lone half stays what it is."""
    text = "".join(chunks)
    if text.isascii() or encodes(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def parse_json(content: str | bytes, what: str, parse_float: Callable[[str], float] | None = None) -> Any:
    """Parses JSON without checking whether the value can be stored (``read_json`` checks that too). ``parse_float``: what
    reads numbers with a fraction or an exponent, if not ``float``.

    Raises: `NotJson` if the syntax is wrong, the bytes are no text, or Python's parser gives up on the nesting;
    `InvalidRequest` if a number has too many digits (that is JSON, but Python does not read it)."""
    try:
        return _loads(content, parse_float)
    except RecursionError:
        raise NotJson(f"{what} is nested deeper than {MAX_DEPTH} levels.", CODE) from None
    except (json.JSONDecodeError, UnicodeError):
        raise NotJson(f"{what} is not JSON.", CODE) from None
    except ValueError:  # int() refuses a number with too many digits
        raise refused(what, LONG_NUMBER) from None


def _loads(content: str | bytes, parse_float: Callable[[str], float] | None) -> Any:
    if parse_float is None or not isinstance(content, str):
        return json.loads(content, parse_float=parse_float)
    return _decoder(parse_float).decode(content)


@lru_cache(maxsize=4)
def _decoder(parse_float: Callable[[str], float]) -> json.JSONDecoder:
    """``json.loads`` makes a decoder per call, which takes longer than to read a short text."""
    return json.JSONDecoder(parse_float=parse_float)


def read_json(content: str | bytes, what: str, parse_float: Callable[[str], float] | None = None) -> Any:
    """Parses JSON and checks the value. ``parse_float``: see ``parse_json``.

    Raises: `NotJson` if the text is not JSON; `InvalidRequest` if the value cannot be stored."""
    value = parse_json(content, what, parse_float)
    check_json(value, what)
    return value


def write_json(value: Any, what: str) -> str:
    """Writes a value as the JSON text to store. Raises: `InvalidRequest` if it could not be stored or read again."""
    check_json(value, what)
    return _WRITE(value)


def write_any_json(value: Any, what: str) -> str:
    """`write_json` of what somebody's Python code made, whatever the types of its lists and objects do. Raises: as it."""
    check_json(value, what)
    return _WRITE(plain_json(value))


def check_size(text: str, what: str) -> None:
    """Bounds a text that did not come over a connection; what comes over one is bounded while it is read.

    Raises: `InvalidRequest` if the text is larger than ``MAX_BYTES``."""
    if len(text) > MAX_BYTES or (not text.isascii() and len(text.encode(errors="surrogatepass")) > MAX_BYTES):
        raise refused(what, f"is larger than {MAX_BYTES} bytes")


def cut_text(text: str, limit: int) -> str:
    """A text of at most ``limit`` bytes of UTF-8, with a mark behind it if it was longer. It must encode (``shown_text``)."""
    if 4 * len(text) <= limit or len(content := text.encode()) <= limit:
        return text
    return content[:limit].decode(errors="ignore") + CUT_MARK
