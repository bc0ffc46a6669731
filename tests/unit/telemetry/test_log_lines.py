"""A record is its own lines and nobody else's, whatever characters somebody put into it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.telemetry.log_lines import INDENT, MOST_CHARS, LoggedRecord, RecordParser, shown, written

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC).timestamp()
#: A line that would pass for a record of somebody else's.
FORGED = written(AT, "ERROR", "api:1", "theirs", "serve_app", "forged").rstrip("\n")
#: What ends a line somewhere, moves a cursor, hides or reorders text, or is no character at all.
ODD = "\n\r\v\f\0\x1b\x7f\x85\xa0\u2028\u2029\u202e\u200b\ud800\udfff\ufeff\x1c"

texts = st.text(
    st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=()), st.sampled_from(" :-Z")), max_size=60
)
forging = st.lists(st.one_of(texts, st.just(FORGED), st.just("\n"), st.sampled_from(ODD)), max_size=8).map("".join)


def parsed(text: str) -> list[LoggedRecord]:
    """What a reader of the file finds."""
    data = text.encode("utf-8", "backslashreplace")
    *lines, rest = data.decode().split("\n")
    assert rest == ""
    return list(RecordParser().feed(lines))


def test_a_record_has_its_time_level_process_trace_and_message() -> None:
    text = written(AT, "WARNING", "api:7", "5f3c", "serve_app", "a call failed", "Traceback:\n  File x\nValueError: no")
    assert text == (
        "2026-03-01T12:00:00.123456Z WARNING api:7 5f3c serve_app: a call failed\n"
        "    Traceback:\n      File x\n    ValueError: no\n"
    )
    assert written(AT, "INFO", "api:7", "", "serve_app", "quiet").split()[3] == "-"


@pytest.mark.parametrize("micro", [0, 1, 999_999])
def test_every_time_is_as_long_so_that_texts_sort_like_times(micro: int) -> None:
    at = written(AT - 0.123456 + micro / 1e6, "INFO", "a", "", "b", "c").split()[0]
    assert at == f"2026-03-01T12:00:00.{micro:06d}Z"


@settings(max_examples=60)
@given(st.lists(st.tuples(forging, forging, forging, forging, forging), max_size=6))
def test_no_text_forges_a_record_or_joins_two(values: list[tuple[str, str, str, str, str]]) -> None:
    texts = [written(AT + n, "INFO", process, trace, logger, message, error)
             for n, (process, trace, logger, message, error) in enumerate(values)]  # fmt: skip
    found = parsed("".join(texts))
    assert [record.text + "\n" for record in found] == texts
    for record, (_, trace, _, message, _) in zip(found, values, strict=True):
        head, *error = record.text.split("\n")
        assert record.text.isprintable() or record.text.replace("\n", "").isprintable()
        assert head.endswith(f": {shown(message)}")
        assert all(line.startswith(INDENT) for line in error)
        assert record.trace != "theirs" or "theirs" in trace


@settings(max_examples=60)
@given(st.lists(st.tuples(forging, forging), max_size=5), st.lists(st.integers(1, 40), max_size=10))
def test_lines_that_come_in_parts_keep_their_trace(values: list[tuple[str, str]], sizes: list[int]) -> None:
    lines = "".join(
        written(AT, "INFO", "a", f"t{n}", "b", message, error) for n, (message, error) in enumerate(values)
    ).split("\n")[:-1]
    parser, found, at = RecordParser(), [], 0
    for size in [*sizes, len(lines)]:
        found += list(parser.feed(lines[at : at + size]))
        at += size
    for number in range(len(values)):
        own = "\n".join(record.text for record in found if record.trace == f"t{number}")
        assert own == "\n".join(
            record.text for record in parsed("\n".join([*lines, ""])) if record.trace == f"t{number}"
        )
    assert "\n".join(record.text for record in found) == "\n".join(lines)


def test_an_endless_message_is_cut_and_an_errors_end_is_kept() -> None:
    text = written(AT, "INFO", "a", "", "b", "m" * (2 * MOST_CHARS), "x" * 10 * MOST_CHARS + "\nValueError: the end")
    assert len(text) < 3 * MOST_CHARS
    assert text.endswith("ValueError: the end\n")
    assert "…" in text


def test_lines_without_a_head_are_no_record_of_this_file() -> None:
    assert parsed("    the rest of an older file\nsomething else\n") == []
