"""The one check for values and texts from outside: every store can hold what passes it, and every reader can read it.

All code that lets a value in uses it (routes, frames, agent transports, in-cluster clients), and the shard checks once more
before it changes its memory. The limits are defined here only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_writing import json_writer

MAX_DEPTH = 64
#: Digits of an integer. Python neither reads nor prints more by default, and readers in other languages stop far earlier.
MAX_DIGITS = 4300
#: Bytes of an agent's answer, counted as they arrive.
MAX_BYTES = 4_000_000
#: Values in lists and objects: a JSON text of ``MAX_BYTES`` holds no more, since each takes a character and a comma. It bounds
#: the walk over a Python value whose parts are shared: lists of the same list twice double the work with each level.
MAX_VALUES = MAX_BYTES // 2
#: Characters of an error's text.
MAX_ERROR_CHARS = 16_384
CODE = "invalid_json"
#: Stands behind a text that was cut.
CUT_MARK = " […cut]"

_WRITE = json_writer()
_CONTAINERS = (dict, list, tuple)
_SHORT = 2**53
_TOO_LONG = 10**MAX_DIGITS
_LONG_NUMBER = f"holds a number of more than {MAX_DIGITS} digits"
_BAD_CHARACTER = "holds a character that cannot be stored (NUL or half a pair)"


class NotJson(InvalidRequest):
    """The text is not JSON. JSON that we cannot store is an ``InvalidRequest`` of another kind."""


def check_json(value: Any, what: str) -> None:
    """Checks that every store can hold a value and every reader can read it. ``what`` names the field in the error's text.

    ``value`` is parsed JSON, or anything that ``json`` writes as JSON (tuples). Lists and objects of other types than Python's
    own are read as what they hold, not by methods of theirs, which may be endless.

    Raises: `InvalidRequest` if the value is nested too deeply, is not JSON, or holds too many values, a key that is no text, or
    a number or a character that cannot be stored.
    """
    if not isinstance(value, _CONTAINERS):
        _check_scalar(value, what)
        return
    stack: list[tuple[Any, int]] = [(value, 1)]
    count = 0
    while stack:
        item, depth = stack.pop()
        length = _length(item)
        if not length:
            continue
        if depth >= MAX_DEPTH:
            raise _refused(what, f"is nested deeper than {MAX_DEPTH} levels")
        count += length
        if count > MAX_VALUES:
            raise _refused(what, f"holds more than {MAX_VALUES} values")
        for inner in _children(item, what):
            # Most values of a large answer are texts and small numbers: check those here and stack only containers.
            kind = type(inner)
            if kind is str:
                check_text(inner, what)
            elif kind is int and -_SHORT < inner < _SHORT:
                continue
            elif isinstance(inner, _CONTAINERS):
                stack.append((inner, depth + 1))
            else:
                _check_scalar(inner, what)


def plain_json(value: Any) -> Any:
    """A value that `check_json` has passed, with Python's own lists and objects in place of others: a writer of JSON asks an
    object of another type for its items, which may be endless or others."""
    if isinstance(value, dict):
        return {key: plain_json(inner) for key, inner in dict.items(value)}
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in _members(value)]
    return value


def _length(item: Any) -> int:
    kind = dict if isinstance(item, dict) else list if isinstance(item, list) else tuple
    return kind.__len__(item)


def _members(item: Any) -> Iterable[Any]:
    return list.__iter__(item) if isinstance(item, list) else tuple.__iter__(item)


def _children(item: Any, what: str) -> Iterable[Any]:
    if not isinstance(item, dict):
        return _members(item)
    for key in dict.__iter__(item):
        # The writer of JSON would make texts of numbers and None, and of two keys with one text (1 and "1") only one is read.
        if not isinstance(key, str):
            raise _refused(what, f"holds a key of the type {type(key).__name__}; JSON has only texts as keys")
        check_text(key, what)
    return dict.values(item)


def check_text(text: str, what: str) -> None:
    """Checks that a text can be stored. Raises: `InvalidRequest` if it holds NUL or half a surrogate pair."""
    if "\x00" in text or not (text.isascii() or _encodes(text)):
        raise _refused(what, _BAD_CHARACTER)


def joined(chunks: Iterable[str]) -> str:
    """The chunks of somebody's text as one. A character outside the BMP that was cut into its two halves is whole again: JSON
    writes it as two escapes, and servers that cut by UTF-16 units send one in each chunk. A lone half stays what it is."""
    text = "".join(chunks)
    if text.isascii() or _encodes(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _check_scalar(item: Any, what: str) -> None:
    if isinstance(item, str):
        check_text(item, what)
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise _refused(what, "holds a number that JSON does not have (NaN or infinity)")
    elif isinstance(item, int):
        if not -_TOO_LONG < item < _TOO_LONG:
            raise _refused(what, _LONG_NUMBER)
    elif item is not None:
        raise _refused(what, f"holds a {type(item).__name__}, which JSON does not have")


def _refused(what: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{what} {why}.", CODE)


def _encodes(text: str) -> bool:
    """Whether UTF-8 can encode a text; it cannot encode half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        raise _refused(what, _LONG_NUMBER) from None


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
        raise _refused(what, f"is larger than {MAX_BYTES} bytes")


def shown_text(text: str, limit: int | None = None) -> str:
    """The beginning of somebody else's text, for an error or a journal. Characters that cannot be stored are replaced."""
    shown = text[:limit]
    return (shown if shown.isascii() else shown.encode(errors="replace").decode()).replace("\x00", "\ufffd")


def cut_text(text: str, limit: int) -> str:
    """A text of at most ``limit`` bytes of UTF-8, with a mark behind it if it was longer. It must encode (``shown_text``)."""
    if 4 * len(text) <= limit or len(content := text.encode()) <= limit:
        return text
    return content[:limit].decode(errors="ignore") + CUT_MARK


def shown_words(error: BaseException, limit: int) -> str:
    """The text of somebody else's error. Empty if its ``__str__`` raises, since that is their code too.

    Whatever it raises is caught: ``SystemExit``, ``CancelledError`` or ``KeyboardInterrupt`` would end the loop that reports
    the error. A ``KeyboardInterrupt`` here is theirs as well: our processes handle signals on their event loop, where no
    signal raises. Rejected: to raise it again for Ctrl-C's sake; whoever pressed that presses it again.
    """
    try:
        return shown_text(str(error), limit)
    except BaseException:
        return ""


def shown_error(error: BaseException, limit: int) -> str:
    """The type and text of an error that somebody else's code raised."""
    try:
        name = shown_text(str(type(error).__name__), limit)
    except BaseException:  # a metaclass may compute the name
        name = "error"
    return shown_text(f"{name}: {shown_words(error, limit)}", limit)
