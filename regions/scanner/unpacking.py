"""Streams inside of streams: what is compressed or in an archive, piece by piece."""

from __future__ import annotations

import bz2
import lzma
import re
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

#: Bytes of one piece, so that nothing that is compressed well fills the memory.
PIECE: Final = 2**20
#: Streams within a file that are followed at the same time; few that begin like one are none and last.
_MOST_STREAMS: Final = 64
_BEGINNINGS: Final = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_LONGEST_BEGINNING: Final = 3
_ANY_HEAD: Final = 47


class Unreadable(Exception):
    """A stream could not be read to its end; the sentence says why."""


def gunzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Raises: `Unreadable`."""
    unpacker, is_empty = zlib.decompressobj(_ANY_HEAD), True
    for part in parts:
        data = part
        while data:
            if unpacker.eof:
                data = data.lstrip(b"\0")  # what pads the end of tapes
                unpacker, is_empty = zlib.decompressobj(_ANY_HEAD), True
                continue
            try:
                piece = unpacker.decompress(data, PIECE)
            except zlib.error as error:
                raise Unreadable(f"it is not gzip to its end ({error})") from None
            is_empty = False
            data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if piece:
                yield piece
    while not unpacker.eof and (piece := unpacker.decompress(unpacker.unconsumed_tail, PIECE)):
        yield piece
    if not unpacker.eof and not is_empty:
        raise Unreadable("it ends in the middle of what is compressed")


def decompressed_by(make: Any, name: str, parts: Iterable[bytes]) -> Iterator[bytes]:
    """By the decompressors of bz2 and lzma. Raises: `Unreadable`."""
    unpacker, is_empty = make(), True
    for part in parts:
        data = part
        while data or not (unpacker.eof or unpacker.needs_input):
            if unpacker.eof:
                data = data.lstrip(b"\0")  # what pads the end
                unpacker, is_empty = make(), True
                if not data:
                    break
            try:
                piece = unpacker.decompress(data, PIECE)
            except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
                raise Unreadable(f"it is not {name} to its end ({error})") from None
            is_empty = False
            data = unpacker.unused_data if unpacker.eof else b""
            if piece:
                yield piece
    if not unpacker.eof and not is_empty:
        raise Unreadable("it ends in the middle of what is compressed")


def unbzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Raises: `Unreadable`."""
    return decompressed_by(bz2.BZ2Decompressor, "bzip2", parts)


def unxzed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Raises: `Unreadable`."""
    return decompressed_by(lzma.LZMADecompressor, "xz", parts)


# --- by programs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that reads the packed form from standard input and writes the other to standard output."""

    name: str
    arguments: Sequence[str]
    #: Folders that are looked in beside PATH.
    folders: Sequence[Path] = ()

    def path(self) -> str | None:
        found = [shutil.which(self.name, path=str(folder)) for folder in self.folders]
        return next((path for path in found if path is not None), shutil.which(self.name))


def output_of(program: Program, parts: Iterable[bytes]) -> Iterator[bytes]:
    """What a program makes of a stream. Raises: `Unreadable` if it is not installed, or does not end well."""
    path = program.path()
    if path is None:
        raise Unreadable(f"it takes the program {program.name}, which is not installed")
    with tempfile.TemporaryFile() as stderr_file:
        process = subprocess.Popen(
            [path, *program.arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr_file
        )
        assert process.stdin is not None
        assert process.stdout is not None
        failures: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(process.stdin, parts, failures), daemon=True)
        feeder.start()
        try:
            while piece := process.stdout.read(PIECE):
                yield piece
        except GeneratorExit:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait()
            feeder.join()
        if failures:
            raise failures[0]
        if code != 0:
            stderr_file.seek(0)
            words = stderr_file.read(2000).decode(errors="replace").strip().splitlines()
            raise Unreadable(f"{program.name} ended with {code}{': ' + words[-1] if words else ''}")


def _feed(pipe: Any, parts: Iterable[bytes], failures: list[BaseException]) -> None:
    try:
        with suppress(BrokenPipeError), pipe:
            for part in parts:
                pipe.write(part)
    except (OSError, Unreadable) as error:
        failures.append(error)


# --- somewhere in a file --------------------------------------------------------------------------------------------------


class InnerStreams:
    """Streams of zlib and gzip that begin anywhere: frames between regions, answers of HTTP, fields of files."""

    def __init__(self) -> None:
        # Where each begins, and what undoes it; those that have ended or are none go.
        self._open: list[tuple[int, Any]] = []
        self._fed = 0
        self._carry = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(where the stream begins, its next bytes)."""
        still: list[tuple[int, Any]] = []
        for start, unpacker in self._open:
            if (yield from _next(start, unpacker, data)):
                still.append((start, unpacker))
        window, base = self._carry + data, self._fed - len(self._carry)
        for found in _BEGINNINGS.finditer(window):
            if found.end() <= len(self._carry) or len(still) >= _MOST_STREAMS:
                continue
            unpacker = zlib.decompressobj(_ANY_HEAD)
            if (yield from _next(base + found.start(), unpacker, window[found.start() :])):
                still.append((base + found.start(), unpacker))
        self._open = still
        self._carry = window[-(_LONGEST_BEGINNING - 1) :]
        self._fed += len(data)

    def is_open(self, start: int) -> bool:
        """Whether the stream that begins there goes on."""
        return any(start == each for each, _ in self._open)


def _next(start: int, unpacker: Any, data: bytes) -> Generator[tuple[int, bytes], None, bool]:
    """Whether more may come, as the generator's value."""
    while data:
        try:
            piece = unpacker.decompress(data, PIECE)
        except zlib.error:
            return False
        if piece:
            yield start, piece
        if unpacker.eof:
            return False
        data = unpacker.unconsumed_tail
    return True
