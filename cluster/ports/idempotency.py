"""Remembered answers: what a change was answered, under the caller's idempotency key."""

from __future__ import annotations

from typing import Protocol


class Answers(Protocol):
    """Answers to changes that do no harm if they are made twice, remembered so that a repeat is answered alike."""

    async def recall(self, workspace: str, route: str, key: str) -> tuple[bytes, str] | None:
        """(digest of the body, the answer as JSON) of the first call under this key; None if there was none."""

    async def remember(self, workspace: str, route: str, key: str, digest: bytes, answer: str, now: float) -> None:
        """Remembers an answer, unless there is one under this key."""
