"""What the tally of tasks is kept from: the log's tail, the open tasks of the same moment, and a stored state to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.domain.tasks.tally import OpenCount, TallyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyPage:
    """The next rows that count, up to which row the log was searched, and whether that was the end of the log. ``open_counts``
    are of the same moment: at the end of the log, rows and open tasks fit together, and no task is counted twice or not at
    all."""

    rows: Sequence[TallyRow]
    cursor: int
    whole: bool
    open_counts: Sequence[OpenCount]


class TallyStore(Protocol):
    async def load(self) -> tuple[int, Mapping[str, Any]]:
        """(cursor, stored tally); (0, {}) if there is none."""

    async def save(self, cursor: int, stored: Mapping[str, Any]) -> bool:
        """Stores a tally; False, and nothing is stored, if one of as late a cursor is there already."""

    async def page(self, after: int, limit: int, workspace: str, kept: Sequence[str], types_kept: int) -> TallyPage:
        """At most ``limit`` rows after a cursor, and the open tasks of a workspace.

        Their types are named if they are in ``kept``, or among the most frequent of the others as long as no more than
        ``types_kept`` are named in all. The rest is counted as `OTHER_TYPES`."""
