"""The pieces of a chat completion that is streamed, as they come: for those who follow the task. The answer itself is read
whole at its end (`wire_formats`), so whatever cannot be read here is passed over."""

from __future__ import annotations

import json
from collections.abc import Callable


class Pieces:
    """``told`` gets the texts of the first choice."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told
        #: The line that has not ended. An answer is bounded, and so is this.
        self._line = b""

    def feed(self, received: bytes) -> None:
        """Takes the next bytes of the answer."""
        *lines, self._line = (self._line + received).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                text = _delta(line[5:])
                if text:
                    self._told(text)


def _delta(data: bytes) -> str:
    try:
        choice = json.loads(data)["choices"][0]
        content = choice["delta"]["content"] if choice.get("index", 0) == 0 else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return content if isinstance(content, str) else ""
