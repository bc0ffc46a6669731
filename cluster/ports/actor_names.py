"""The published names of actors: which Ray actor plays a role now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorName:
    """The Ray actor that plays a role now. ``fingerprint`` stands for its code version and settings."""

    role: str
    name: str
    fingerprint: str


class ActorNames(Protocol):
    """The published name of each role. Callers look a role up here, so that a successor can be started beside its
    predecessor and then take over, which one fixed name would not allow."""

    async def current(self, role: str) -> ActorName | None:
        """The actor that plays the role; None if none is published."""

    async def publish(self, actor: ActorName) -> None:
        """Makes the actor the one that plays its role."""

    async def withdraw(self, name: str) -> None:
        """Removes the published actor of this name, so that nobody plays its role."""
