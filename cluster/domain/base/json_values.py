"""The one gate for values and texts from outside: what passes it, every store and every reader of ours can hold.

Whoever lets something in (routes, frames, transports of called agents, in-cluster clients) uses it, and the shard
looks once more before it changes its memory. The limits are here and nowhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, cast

from cluster.domain.base.errors import InvalidRequest

MAX_DEPTH = 64
#: Of an integer: Python reads and prints no more, and readers in other languages give up long before.
MAX_DIGITS = 4300
#: Of what an agent answers, as it arrives.
MAX_BYTES = 4_000_000
#: Of an error's text.
MAX_ERROR_CHARS = 16_384
CODE = "invalid_json"

_CONTAINERS = (dict, list, tuple)
_SHORT = 2**53
_TOO_LONG = 10**MAX_DIGITS
_LONG_NUMBER = f"holds a number of more than {MAX_DIGITS} digits"
_BAD_CHARACTER = "holds a character that cannot be stored (NUL or half a pair)"


class NotJson(InvalidRequest):
    """The text cannot be read at all, as opposed to JSON that cannot be kept."""


def check_json(value: Any, what: str) -> None:
    """InvalidRequest for what no store can hold or no reader can read back; ``what`` names the field in the sentence.

    ``value`` is parsed JSON, or what ``json`` makes JSON of (tuples, numbers as keys).
    """
    if not isinstance(value, _CONTAINERS):
        _check_scalar(value, what)
        return
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if item and depth >= MAX_DEPTH:
            raise _refused(what, f"is nested deeper than {MAX_DEPTH} levels")
        for inner in _children(item, what):
            # Most of a large answer is no container, and none of that is put by.
            kind = type(inner)
            if kind is str:
                check_text(inner, what)
            elif kind is int and -_SHORT < inner < _SHORT:
                continue
            elif isinstance(inner, _CONTAINERS):
                stack.append((inner, depth + 1))
            else:
                _check_scalar(inner, what)


def _children(item: Any, what: str) -> Iterable[Any]:
    if not isinstance(item, dict):
        return cast(Iterable[Any], item)
    for key in item:
        _check_scalar(key, what)
    return item.values()


def check_text(text: str, what: str) -> None:
    if "\x00" in text or not (text.isascii() or _encodes(text)):
        raise _refused(what, _BAD_CHARACTER)


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
    """Half a pair is what UTF-8 does not have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_json(content: str | bytes, what: str) -> Any:
    """The value of a text, whether or not it can be kept. NotJson where Python's reader stumbles over syntax, bytes that
    are no text, or nesting; InvalidRequest for a number of too many digits, which is JSON."""
    try:
        return json.loads(content)
    except RecursionError:
        raise NotJson(f"{what} is nested deeper than {MAX_DEPTH} levels.", CODE) from None
    except (json.JSONDecodeError, UnicodeError):
        raise NotJson(f"{what} is not JSON.", CODE) from None
    except ValueError:  # of int(), which reads no longer number
        raise _refused(what, _LONG_NUMBER) from None


def read_json(content: str | bytes, what: str) -> Any:
    """The value of a text that can be kept. InvalidRequest."""
    value = parse_json(content, what)
    check_json(value, what)
    return value


def write_json(value: Any, what: str) -> str:
    """The text to keep of a value. InvalidRequest for a value that could not be stored or read again."""
    check_json(value, what)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def check_size(text: str, what: str) -> None:
    """For what does not come over a connection, which is bounded as it is read."""
    if len(text) > MAX_BYTES or (not text.isascii() and len(text.encode(errors="surrogatepass")) > MAX_BYTES):
        raise _refused(what, f"is larger than {MAX_BYTES} bytes")


def shown_text(text: str, limit: int | None = None) -> str:
    """The beginning of a text that somebody else wrote, for an error or a journal: what cannot be stored is replaced."""
    return text[:limit].encode(errors="replace").decode().replace("\x00", "\ufffd")


def shown_words(error: BaseException, limit: int) -> str:
    """What somebody else's error says. Its words are their code too, which may raise or say nothing."""
    try:
        return shown_text(str(error), limit)
    except Exception:
        return ""


def shown_error(error: BaseException, limit: int) -> str:
    """What somebody else's code raised, in one line for whoever wonders."""
    return shown_text(f"{type(error).__name__}: {shown_words(error, limit)}", limit)
