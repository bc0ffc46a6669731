"""Markers are found in every form that they take, wherever a stream is cut."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest

from cluster.domain.base.errors import InvalidRequest
from regions.scanner.markers import Marker, checked
from regions.scanner.search import Needlework, Search

PLAIN = "the patient of ward 7 has been told"
ODD = 'Grüße an "Jörg"/C:\\temp\tand\nits\'end 🙂'
COPY = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t"})


def _capitals(found: re.Match[str]) -> str:
    return "\\u" + found[0][2:].upper()


FORMS: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "json": lambda text: json.dumps({"a": text}, ensure_ascii=False).encode(),
    "json, escaped": lambda text: json.dumps([text]).encode(),
    "json, escaped in capitals": lambda text: re.sub(r"\\u[0-9a-f]{4}", _capitals, json.dumps(text)).encode(),
    "json in json": lambda text: json.dumps({"line": json.dumps({"a": text})}).encode(),
    "json in json, not escaped": lambda text: json.dumps(
        json.dumps(text, ensure_ascii=False), ensure_ascii=False
    ).encode(),
    "a row of copy": lambda text: f"7\t{json.dumps(text).translate(COPY)}\t\\N\n".encode(),
    "a value of copy": lambda text: text.translate(COPY).encode(),
    "sql": lambda text: f"insert into t values ('{text.replace(chr(39), chr(39) * 2)}');".encode(),
    "bytea": lambda text: b"\\x" + json.dumps(text).encode().hex().encode(),
    "bytea of the text": lambda text: text.encode().hex().upper().encode(),
    "a url": lambda text: f"/search?q={quote(text, safe='')}".encode(),
    "base64": lambda text: base64.b64encode(b"." + text.encode() + b"..."),
    "base64 of json": lambda text: base64.b64encode(b"12" + json.dumps(text, ensure_ascii=False).encode()),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(b"123" + text.encode()),
    "base64 in lines": lambda text: base64.encodebytes(b"x" * 50 + text.encode() + b"x" * 50),
    "base64 in lines, in json": lambda text: json.dumps(
        base64.encodebytes(b"x" * 50 + text.encode()).decode()
    ).encode(),
}


def hits(texts: list[str], stream: bytes, size: int) -> list[tuple[int, int]]:
    search = Search(Needlework([Marker(id=str(n), text=text) for n, text in enumerate(texts)]))
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    return [tuple(hit) for part in parts for hit in search.feed(part)]  # type: ignore[misc]


@pytest.mark.parametrize("text", [PLAIN, ODD])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_across_any_cut(form: str, text: str) -> None:
    stream = b"\0" * 100 + FORMS[form](text) + b"\n\0" * 50
    for size in (1, 3, 17, 64, len(stream)):
        assert {marker for marker, _ in hits(["not there at all", text], stream, size)} == {1}, size


def test_offsets_are_those_of_the_first_byte_and_none_counts_twice() -> None:
    stream = b"." * 1000 + PLAIN.encode() + b"." * 1000 + PLAIN.encode()
    for size in (7, 512, 1017, 5000):
        assert sorted(hits([PLAIN], stream, size)) == [(0, 1000), (0, 2000 + len(PLAIN))], size


def test_base64_in_lines_is_told_where_it_begins() -> None:
    stream = b"-----\n" + base64.encodebytes(b"x" * 57 + PLAIN.encode())
    found = hits([PLAIN], stream, len(stream))
    assert found == [(0, 6 + 77)]


@pytest.mark.parametrize("cut", [1, -1])
def test_a_text_that_lacks_one_character_is_not_found(cut: int) -> None:
    part = PLAIN[1:] if cut == 1 else PLAIN[:-1]
    for form in FORMS.values():
        assert hits([PLAIN], form(part), 64) == []


def test_many_markers_are_found_in_noise() -> None:
    chance = random.Random(3)
    texts = [f"marker number {n} of {chance.random()}" for n in range(900)]
    chosen = chance.sample(range(900), 50)
    stream = b"".join(chance.randbytes(chance.randrange(3000)) + texts[n].encode() for n in chosen)
    assert [marker for marker, _ in sorted(hits(texts, stream, 4096), key=lambda hit: hit[1])] == chosen


@pytest.mark.parametrize("text", ["short", "", "x" * 4097, "a NUL \0 in the middle", "half a pair: \ud800 and more"])
def test_what_cannot_be_looked_for_is_refused_by_its_id(text: str) -> None:
    with pytest.raises(InvalidRequest, match="line 3"):
        checked([Marker(id="line 3", text=text)])
    with pytest.raises(InvalidRequest, match="no marker"):
        checked([])
