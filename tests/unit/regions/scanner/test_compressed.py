"""Values that stores compress are undone, and bytes that are none are not taken for some."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from regions.scanner.compressed import NotCompressed, decompressed, inline_values, lzf_values

#: 'ab' and a copy of 18 bytes from 2 back, by pglz: control byte, literals, offset and length.
PGLZ = bytes([0b100, *b"ab", 0x0F, 0x02, 0x00])
LZ4 = bytes([0x2F, *b"ab", 2, 0, 0, 0x50, *b"12345"])


def stored(method: int, size: int, data: bytes) -> bytes:
    return (size | method << 30).to_bytes(4, "little") + data


def test_copies_of_earlier_output_are_made() -> None:
    assert decompressed(stored(0, 20, PGLZ)) == b"ab" * 10
    assert decompressed(stored(1, 26, LZ4)) == b"ab" + b"ab" * 9 + b"a" + b"12345"


@pytest.mark.skipif(shutil.which("lz4") is None, reason="lz4 is not installed")
def test_blocks_of_the_program_are_undone() -> None:
    text = b" ".join(b"%d of %d patients" % (n, n * n) for n in range(3000))
    frame = subprocess.run(["lz4", "-qc", "-B4", "-BD"], input=text[:60_000], capture_output=True, check=True).stdout
    start = 7 + 8 * (frame[4] >> 3 & 1)
    size = int.from_bytes(frame[start : start + 4], "little")
    assert decompressed(stored(1, 60_000, frame[start + 4 : start + 4 + size])) == text[:60_000]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0\0\0\0",
        stored(0, 19, PGLZ + b"!"),
        stored(0, 21, PGLZ),
        stored(0, 20, PGLZ[:-2]),
        stored(0, 20, bytes([1, 0x0F, 0x02, 0, *b"abc"])),
        stored(1, 26, LZ4[:-1]),
        stored(1, 9, bytes([0x1F, 0x61, 9, 0, 0])),
        stored(2, 20, PGLZ),
        stored(0, 2**30 - 1, PGLZ),
    ],
)
def test_what_is_not_whole_or_too_large_is_none(value: bytes) -> None:
    with pytest.raises(NotCompressed):
        decompressed(value)


@pytest.mark.parametrize("phase", range(4))
def test_a_value_in_a_page_is_found_at_any_place(phase: int) -> None:
    value = stored(0, 20, PGLZ)
    head = ((len(value) + 4) << 2 | 2).to_bytes(4, "little")
    window = bytes(400 + phase) + head + value + bytes(300)
    assert list(inline_values(window, 0)) == [(400 + phase, b"ab" * 10)]
    assert list(inline_values(window, 400 + phase + 4 + len(value))) == [], "it ended in the window before"


def test_noise_has_no_values_and_raises_nothing() -> None:
    noise = random.Random(1).randbytes(300_000)
    assert sum(len(value) for _, value in inline_values(noise, 0)) < 10_000
    assert sum(len(value) for _, value in lzf_values(noise, 0)) < 100_000


def test_a_string_of_a_snapshot_is_undone() -> None:
    lzf = bytes([1, *b"ab", 0xE0, 9, 1])
    snapshot = b"VALKEY080" + bytes([0xC3, len(lzf), 20]) + lzf + b"\xff"
    assert [value for _, value in lzf_values(snapshot, 0)] == [b"ab" * 10]
