"""Secrets that an agent quotes are struck out of what it answers, whichever escapes of JSON its server writes.

Encoders differ: some write ``/`` as ``\\/``, some ``+`` and ``<`` as ``\\u002B`` and ``\\u003c``, and JSON in a text of JSON has
its backslashes doubled. So both sides are compared without backslashes and with ``\\uXXXX`` read. To list the written forms was
rejected, for they multiply with each character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection

from cluster.domain.agents.credentials import LEAST_CHARS
from cluster.domain.base.urls import MASK

_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4}))?")
#: One character as it is written, with all backslashes before it.
_WRITTEN = re.compile(r"\\+u([0-9a-fA-F]{4})|\\*([^\\])|\\+")
#: What may be the beginning of an escape, if the text goes on.
_UNFINISHED = re.compile(r"(?<!\\)\\+(?:u[0-9a-fA-F]{0,3})?\Z")


def hidden(text: str, secrets: Collection[str]) -> str:
    """The text with ``***`` for each of the secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK).replace(json.dumps(secret)[1:-1], MASK)
        bare = secret.replace("\\", "")
        # What is left of a secret of backslashes may be an ordinary word.
        if len(bare) >= LEAST_CHARS and bare in _ESCAPE.sub(lambda escape: _character(escape[1]), text):
            text = _struck(text, bare)
    return text


def hidden_bytes(content: bytes, secrets: Collection[str]) -> bytes:
    """What a server answered, without the secrets. Bytes that are no UTF-8 stay as they are."""
    return hidden(content.decode(errors="surrogateescape"), secrets).encode(errors="surrogateescape")


class HiddenPieces:
    """Gives the pieces of a text to ``told`` without the secrets, which may be split among them: the end of a piece is kept back
    while it may be the beginning of a secret."""

    def __init__(self, told: Callable[[str], None], secrets: Collection[str]) -> None:
        self._told = told
        self._secrets = secrets
        self._kept = ""

    def take(self, piece: str) -> None:
        """Takes the next piece."""
        text = hidden(self._kept + piece, self._secrets)
        end = min((_end_of_safe(text, secret) for secret in self._secrets), default=len(text))
        self._kept = text[end:]
        if end:
            self._told(text[:end])

    def end(self) -> None:
        """Gives what was kept back: no more pieces come."""
        if self._kept:
            self._told(self._kept)
        self._kept = ""


def _character(digits: str | None) -> str:
    return chr(int(digits, 16)) if digits else ""


def _read(text: str) -> tuple[str, list[int]]:
    """The characters of a text, and where each is written; the last place is the end of the text."""
    written = [(match[2] or _character(match[1]), match.start()) for match in _WRITTEN.finditer(text)]
    kept = [(character, start) for character, start in written if character]
    return "".join(character for character, _ in kept), [*(start for _, start in kept), len(text)]


def _struck(text: str, bare: str) -> str:
    characters, starts = _read(text)
    parts: list[str] = []
    after = 0
    while (at := characters.find(bare, after)) >= 0:
        # The place of what follows begins with the backslashes before that, which are not the secret's.
        parts += [text[starts[after] : starts[at]], MASK]
        after = at + len(bare)
    return "".join(parts) + text[starts[after] :]


def _end_of_safe(text: str, secret: str) -> int:
    """Up to where a text holds no beginning of the secret that its end would leave open."""
    unfinished = _UNFINISHED.search(text)
    end = len(text) if unfinished is None else unfinished.start()
    characters, starts = _read(text[:end])
    bare = secret.replace("\\", "")
    for size in range(min(len(bare) - 1, len(characters)), 0, -1):
        if characters.endswith(bare[:size]):
            return starts[len(characters) - size]
    return end
