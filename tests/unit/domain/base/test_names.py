"""Names that people can read, and idempotency keys."""

from __future__ import annotations

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.names import check_key, check_name, is_visible

_INVISIBLE = (
    "",
    " ",
    "\t",
    "\n",
    "\u200b",
    "\u00a0",
    "\u2060\u200d",
    "\u0301",
    "\u3164",
    "\u2800",
    "\ufeff \u2028",
    "\x00",
)
_VISIBLE = ("a", "-", "0", "é", "中", "👩‍👩‍👧", "\ue000", " a ", "नमस्ते")


def test_a_name_has_something_to_see_and_is_one_line() -> None:
    assert [text for text in _INVISIBLE if is_visible(text)] == []
    for text in _INVISIBLE:
        with pytest.raises(InvalidRequest, match="model must have a character"):
            check_name(text, "model")
    assert [check_name(text, "model") for text in _VISIBLE] == list(_VISIBLE)
    for text in ("a\nb", "a\x7f", "\x1fa", "a\u2028b", "a\u0085b"):
        with pytest.raises(InvalidRequest, match="model must be one line"):
            check_name(text, "model")


def test_a_key_is_printable_and_not_blank() -> None:
    assert [check_key(text, "key") for text in ("a", "a b", "é", "x" * 255)] == ["a", "a b", "é", "x" * 255]
    for text in (*_INVISIBLE, "a\nb", "a\x1fb", "a\u200b", "x" * 256):
        with pytest.raises(InvalidRequest, match="key must be 1 to 255 printable"):
            check_key(text, "key")
