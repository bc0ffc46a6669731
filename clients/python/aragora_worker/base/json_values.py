"""The one check for values and texts from outside: every store can hold what passes it, and every reader can read it.

All code that lets a value in uses it (routes, frames, agent transports, in-cluster clients), and the shard checks once more
before it changes its memory. The limits are defined here only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from aragora_worker.base.errors import InvalidRequest

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
_CONTAINERS = (dict, list, tuple)
_SHORT = 2**53
_TOO_LONG = 10**MAX_DIGITS
LONG_NUMBER = f"holds a number of more than {MAX_DIGITS} digits"
_BAD_CHARACTER = "holds a character that cannot be stored (NUL or half a pair)"


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
            raise refused(what, f"is nested deeper than {MAX_DEPTH} levels")
        count += length
        if count > MAX_VALUES:
            raise refused(what, f"holds more than {MAX_VALUES} values")
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
            raise refused(what, f"holds a key of the type {type(key).__name__}; JSON has only texts as keys")
        check_text(key, what)
    return dict.values(item)


def check_text(text: str, what: str) -> None:
    """Checks that a text can be stored. Raises: `InvalidRequest` if it holds NUL or half a surrogate pair."""
    if "\x00" in text or not (text.isascii() or encodes(text)):
        raise refused(what, _BAD_CHARACTER)


def _check_scalar(item: Any, what: str) -> None:
    if isinstance(item, str):
        check_text(item, what)
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise refused(what, "holds a number that JSON does not have (NaN or infinity)")
    elif isinstance(item, int):
        if not -_TOO_LONG < item < _TOO_LONG:
            raise refused(what, LONG_NUMBER)
    elif item is not None:
        raise refused(what, f"holds a {type(item).__name__}, which JSON does not have")


def refused(what: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{what} {why}.", CODE)


def encodes(text: str) -> bool:
    """Whether UTF-8 can encode a text; it cannot encode half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_text(text: str, limit: int | None = None) -> str:
    """The beginning of somebody else's text, for an error or a journal. Characters that cannot be stored are replaced."""
    shown = text[:limit]
    return (shown if shown.isascii() else shown.encode(errors="replace").decode()).replace("\x00", "\ufffd")


def shown_words(error: BaseException, limit: int) -> str:
    """The text of somebody else's error. Empty if its ``__str__`` raises, since that is their code too.

    Whatever it raises is caught: ``SystemExit``, ``CancelledError`` or ``KeyboardInterrupt`` would end the loop that reports
    the error. A ``KeyboardInterrupt`` here is theirs as well: our processes handle signals on their event loop, where no
    signal raises. Rejected: to raise it again for Ctrl-C's sake; whoever pressed that presses it again.
    """
    try:
        return shown_text(str(error), limit)
    except BaseException:  # noqa: BLE001 - str() of somebody else's error may raise anything
        return ""


def shown_error(error: BaseException, limit: int) -> str:
    """The type and text of an error that somebody else's code raised."""
    try:
        name = shown_text(str(type(error).__name__), limit)
    except BaseException:  # noqa: BLE001 - a metaclass may compute the name
        name = "error"
    return shown_text(f"{name}: {shown_words(error, limit)}", limit)


def compact_json(value: Any) -> str:
    """A value that `check_json` has passed, as JSON without white space, non-ASCII characters kept.

    Raises: `ValueError` or `TypeError` if it is none that JSON has."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
