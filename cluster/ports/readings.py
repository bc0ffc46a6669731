"""What of the database operators watch: sizes, and how long things have waited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cluster.domain.metrics import Labels


class ReadingStore(Protocol):
    async def read(self, now: float) -> Mapping[str, Mapping[Labels, float]]:
        """By the name of each gauge its values at a time (epoch seconds), all of one snapshot. It covers all workspaces, and may
        take seconds where a million tasks wait.

        Raises: `StoreUnavailable`."""
