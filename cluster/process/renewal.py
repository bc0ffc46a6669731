"""Certificates of the front change while it runs: HAProxy takes the new ones by its admin socket, and no connection notices.

The files are looked at, not announced: cert-manager, SPIRE's helper and an administrator's editor all just write them. HAProxy
checks a pair before it takes it. Of a pair that does not fit, as while one of two files is written, the old one stays.

Standard library only: the guard of HAProxy runs this.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Final

from cluster.process.front import AUTHORITY, PAIR, PROBLEM, FrontTls, write_private

ANSWER_S: Final = 5.0


def pair_of(tls: FrontTls) -> str:
    """Certificate, chain and key in one text. Raises: `OSError`, `ValueError` if a file cannot be read."""
    return _lines(Path(tls.certificate)) + _lines(Path(tls.key))


def authority_of(tls: FrontTls) -> str:
    """The certificates of clients' authorities. Raises: `OSError`, `ValueError` if the file cannot be read."""
    return _lines(Path(tls.authority)) if tls.authority is not None else ""


def _lines(file: Path) -> str:
    """Without empty lines: one ends the text of a command."""
    return "".join(line.strip() + "\n" for line in file.read_text(encoding="ascii").splitlines() if line.strip())


def ask(admin: Path, command: str) -> str:
    """HAProxy's answer to one command. Raises: `OSError` if it does not answer."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(admin))
        connection.sendall(command.encode() + b"\n")
        while more := connection.recv(65_536):
            answer += more
    return answer.decode(errors="replace")


class Renewal:
    """Looks at the files of one HAProxy, and hands it what has changed."""

    def __init__(self, directory: Path, tls: FrontTls, admin: Path) -> None:
        self._directory = directory
        self._tls = tls
        self._admin = admin
        self._looked_at: tuple[object, ...] = ()

    def look(self) -> None:
        """Swaps certificates whose files have changed since the last look. Never raises: a guard must outlive it."""
        now = self._state()
        if now == self._looked_at:
            return
        try:
            self._swap("cert", self._directory / PAIR, pair_of(self._tls))
            if self._tls.authority is not None:
                self._swap("ca-file", self._directory / AUTHORITY, authority_of(self._tls))
        except (OSError, ValueError) as error:
            self._say(f"The front keeps its certificates, because the new ones cannot be used: {error}")
            # What HAProxy refused is not offered again before a file changes. If it did not answer, it is asked again.
            self._looked_at = now if isinstance(error, _Refused) else ()
            return
        self._looked_at = now
        (self._directory / PROBLEM).unlink(missing_ok=True)

    def _state(self) -> tuple[object, ...]:
        found: list[object] = []
        for name in self._tls:
            with contextlib.suppress(OSError):
                if name is not None:
                    state = os.stat(name)
                    found.append((state.st_ino, state.st_mtime_ns, state.st_size))
        return tuple(found)

    def _swap(self, kind: str, served: Path, text: str) -> None:
        if served.read_text() == text:
            return
        answer = ask(self._admin, f"set ssl {kind} {served} <<\n{text}")
        if "ransaction" not in answer:
            ask(self._admin, f"abort ssl {kind} {served}")
            raise _Refused(_first_line(answer))
        answer = ask(self._admin, f"commit ssl {kind} {served}")
        if "Success!" not in answer:
            ask(self._admin, f"abort ssl {kind} {served}")
            raise _Refused(_first_line(answer))
        # For the next HAProxy and the stopgap.
        write_private(served, text)

    def _say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            write_private(self._directory / PROBLEM, sentence)


class _Refused(ValueError):
    """HAProxy does not take the files."""


def _first_line(answer: str) -> str:
    return " ".join(answer.split())[:300]
