"""Where tickets of WebSockets are kept, for all replicas."""

from __future__ import annotations

from typing import Protocol


class Tickets(Protocol):
    """Keeps a text under a name for a while, and gives it out once."""

    async def keep(self, name: str, text: str, life_s: float) -> None:
        """Keeps the text for ``life_s`` seconds. Raises: `StoreUnavailable`."""
        ...

    async def take(self, name: str) -> str | None:
        """The text, to one of all who ask; None to the others, and after its time. Raises: `StoreUnavailable` if that cannot be
        found out. The text may be gone then."""
        ...
