"""Which Ray actor plays a role now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorName:
    """Which Ray actor plays a role now. ``fingerprint`` is of its code version and settings."""

    role: str
    name: str
    fingerprint: str


class ActorNames(Protocol):
    """The published holder of each role. Callers resolve a role here, so that a successor can take over beside its
    predecessor, which a single fixed name would not allow."""

    async def current(self, role: str) -> ActorName | None: ...

    async def publish(self, actor: ActorName) -> None: ...

    async def withdraw(self, name: str) -> None:
        """Nobody plays the role any more that the actor of this name is published for."""
