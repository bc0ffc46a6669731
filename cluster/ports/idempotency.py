"""Answers of changes, remembered under the caller's key."""

from __future__ import annotations

from typing import Protocol


class Answers(Protocol):
    """Answers of changes that may be made twice without harm, so that a repeat under one key is answered alike."""

    async def recall(self, workspace: str, route: str, key: str) -> tuple[bytes, str] | None:
        """(digest of the body, the answer as JSON) of the first call under this key."""

    async def remember(self, workspace: str, route: str, key: str, digest: bytes, answer: str, now: float) -> None:
        """The first one stays."""
