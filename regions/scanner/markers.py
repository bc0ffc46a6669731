"""Markers, and the bytes by which a file shows that it holds one.

A payload is JSON that ends up in columns, dumps, logs, exports and frames, so a text of it is escaped, or encoded, once or twice
on its way. Each combination that occurs here is one **needle**. What is compressed is undone before it is searched.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cluster.domain.base.errors import InvalidRequest

#: Bytes: a shorter text is in files by chance.
SHORTEST: Final = 8
#: Of one marker: it is kept in memory in all of its forms.
LONGEST: Final = 4096
MOST_MARKERS: Final = 1000
_HEX_ESCAPE: Final = re.compile(r"\\u[0-9a-f]{4}")
_COPY: Final = str.maketrans(
    {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """``id`` is what reports say in its place, and is nobody's words."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Needles:
    """``plain``: as they are in a file. ``wrapped``: in base64, which may have line ends in it anywhere."""

    plain: frozenset[bytes]
    wrapped: frozenset[bytes]


def checked(markers: list[Marker]) -> list[Marker]:
    """The markers. Raises: `InvalidRequest` if there are none or too many, or one is too short, too long or not text."""
    if not markers:
        raise InvalidRequest("There is no marker to look for; give --marker, --markers or --zone.", "no_marker")
    if len(markers) > MOST_MARKERS:
        raise InvalidRequest(f"There are more than {MOST_MARKERS} markers; leave some out.", "too_many_markers")
    for marker in markers:
        try:
            size = len(marker.text.encode())
        except UnicodeEncodeError:
            raise InvalidRequest(f"{marker.id} is not text that UTF-8 can hold.", "invalid_marker") from None
        if "\0" in marker.text:
            raise InvalidRequest(f"{marker.id} has a NUL character, which no payload can have.", "invalid_marker")
        if not SHORTEST <= size <= LONGEST:
            raise InvalidRequest(
                f"{marker.id} has {size} bytes; take {SHORTEST} to {LONGEST}, so that it is not in a file by chance.",
                "invalid_marker",
            )
    return markers


def needles(text: str) -> Needles:
    """All forms of a text."""
    texts = frozenset(form.encode() for form in _texts(text))
    values = frozenset(form.encode() for form in _values(text))
    wrapped = frozenset(form for value in values for form in _base64(value))
    hexes = (form for value in values for form in (value.hex().encode(), value.hex().upper().encode()))
    return Needles(plain=texts | frozenset(hexes), wrapped=wrapped)


def _values(text: str) -> Iterator[str]:
    """A text as it is, and in JSON by the usual writers."""
    yield text
    for ascii_only in (False, True):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
        yield _HEX_ESCAPE.sub(lambda found: "\\u" + found[0][2:].upper(), escaped)


def _texts(text: str) -> Iterator[str]:
    """Each of its values, as it is, in a row of COPY, in a literal of SQL, in JSON once more, and in a URL."""
    for value in _values(text):
        yield value
        yield value.translate(_COPY)
        yield value.replace("'", "''")
        for ascii_only in (False, True):
            again = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
            yield again
            yield again.translate(_COPY)
    yield quote(text, safe="")
    yield quote(text)


def _base64(value: bytes) -> Iterator[bytes]:
    """What base64 makes of bytes that hold these, whatever comes before and after: the characters that depend on nothing else."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(value)) * 8 // 6
        whole = base64.b64encode(bytes(before) + value)[first:last]
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))
