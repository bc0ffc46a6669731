"""Names and keys that clients choose: one that cannot be seen, or that holds control characters, is a slip of a program.

Characters without a width are taken inside a name, because scripts and emoji need them.
"""

from __future__ import annotations

import unicodedata

from cluster.domain.base.errors import InvalidRequest

MAX_KEY_CHARS = 255
#: Characters that are private or not assigned yet may be seen: fonts have icons and newer emoji there.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Mn", "Me", "Mc", "Zl", "Zp", "Zs"})
#: Letters and symbols that are drawn as nothing: the fillers of Hangul, and the blank of Braille.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_BREAKING = frozenset({"Cc", "Zl", "Zp"})


def is_visible(text: str) -> bool:
    """Whether the text has a character that can be seen: no space, mark, format or control character."""
    if text.isascii() and text.isprintable():
        return bool(text) and not text.isspace()
    return any(unicodedata.category(character) not in _INVISIBLE and character not in _BLANK for character in text)


def check_name(text: str, what: str) -> str:
    """Returns the name if people can read it. ``what`` names the field in the error's text.

    Raises: `InvalidRequest` if nothing of it can be seen, or it holds control characters or breaks of lines."""
    if not is_visible(text):
        raise InvalidRequest(f"{what} must have a character that can be seen.", "invalid_name")
    if not text.isprintable() and any(unicodedata.category(character) in _BREAKING for character in text):
        raise InvalidRequest(f"{what} must be one line without control characters.", "invalid_name")
    return text


def check_key(text: str, what: str) -> str:
    """Returns the idempotency key if it is one. ``what`` names the header or field in the error's text.

    Raises: `InvalidRequest` if it is not 1 to 255 printable characters, or is blank: a program that fills in nothing would
    get the first answer for all its calls."""
    if not (1 <= len(text) <= MAX_KEY_CHARS and text.isprintable() and is_visible(text)):
        raise InvalidRequest(
            f"{what} must be 1 to {MAX_KEY_CHARS} printable characters that are not all blank.",
            "invalid_idempotency_key",
        )
    return text
