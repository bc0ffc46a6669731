"""Which workspaces' words and payloads may leave their zone: none of those that are resident in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Residency:
    """``zones``: workspace → the zone that it is resident in. Others are resident nowhere."""

    zones: Mapping[str, str] = field(default_factory=dict)

    def withheld_from(self, zone: str | None) -> frozenset[str]:
        """The workspaces whose payloads a region must not get; ``zone`` is its residency, None if it has none."""
        return frozenset(workspace for workspace, resident in self.zones.items() if resident != zone)
