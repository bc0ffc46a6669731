"""The pieces of an answer that is streamed, as they come: for those who follow the task. The answer itself is read
whole at its end (`wire_formats`), so whatever cannot be read here is passed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


class Pieces:
    """``told`` gets the texts that ``piece`` finds in the events (`WireFormat.piece`)."""

    def __init__(self, told: Callable[[str], None], piece: Callable[[Any], Any]) -> None:
        self._told = told
        self._piece = piece
        #: The line that has not ended. An answer is bounded, and so is this.
        self._line = b""

    def feed(self, received: bytes) -> None:
        """Takes the next bytes of the answer."""
        *lines, self._line = (self._line + received).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                text = self._text(line[5:])
                if text:
                    self._told(text)

    def _text(self, data: bytes) -> str:
        try:
            text = self._piece(json.loads(data))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return ""
        return text if isinstance(text, str) else ""
