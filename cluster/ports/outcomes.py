"""Recorded outcomes, and the snapshots of weights that are learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cluster.domain.consensus.learning import (
        NewOutcome,
        NewSnapshot,
        RecordedOutcome,
        SnapshotHead,
        StoredOutcome,
        StoredSnapshot,
    )
    from cluster.domain.consensus.snapshot import WeightSnapshot


class WeightSource(Protocol):
    """Weights and calibration learned from recorded outcomes, as frozen snapshots."""

    async def snapshot_for(self, workspace: str, agents: Sequence[str]) -> WeightSnapshot | None:
        """The newest snapshot that covers every one of these agents; None while nothing has been learned of them."""


class OutcomeStore(Protocol):
    """What turned out to be right, and every snapshot of weights that was learned from it. Panels are sorted ids."""

    async def record(self, items: Sequence[NewOutcome]) -> list[RecordedOutcome]:
        """One per (workspace, id): the same again is a replay, another under its id a conflict. Log row
        ``outcome.recorded``."""

    async def recent(
        self, workspace: str, agents: Sequence[str], limit: int, *, any_of: bool = False
    ) -> list[StoredOutcome]:
        """The newest whose panel holds all (or any) of ``agents``, oldest first, with these agents' votes only."""

    async def count(
        self, workspace: str, agents: Sequence[str], after: int, limit: int, *, any_of: bool = False
    ) -> int:
        """How many of those came after ``after``, counted up to ``limit``."""

    async def agents(self, workspace: str, limit: int) -> list[str]:
        """Who is on the panels of the newest ``limit`` outcomes, most frequent first."""

    async def save(self, items: Sequence[NewSnapshot]) -> list[bool]:
        """As the next version of its panel; False where one that knows as much is there. Log row ``weights.fitted``."""

    async def heads(self, workspace: str) -> list[SnapshotHead]:
        """The newest version of every panel, the largest panel first."""

    async def newest(self, workspace: str) -> list[StoredSnapshot]:
        """The same with their content."""

    async def snapshot(self, workspace: str, snapshot_id: str) -> StoredSnapshot | None: ...

    async def covering(self, workspace: str, agents: Sequence[str]) -> StoredSnapshot | None:
        """Of the smallest panel that holds all of ``agents``, the newest version."""
