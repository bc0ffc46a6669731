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
        """The newest snapshot that covers all of these agents; None if nothing has been learned about them yet."""


class OutcomeStore(Protocol):
    """Outcomes (which answer was right) and all snapshots of weights that were learned from them. Panels are sorted ids."""

    async def record(self, items: Sequence[NewOutcome]) -> list[RecordedOutcome]:
        """Stores outcomes, with a log row ``outcome.recorded`` each. The same outcome again is a replay, another one under its
        (workspace, id) a conflict."""

    async def recent(
        self, workspace: str, agents: Sequence[str], limit: int, *, any_of: bool = False
    ) -> list[StoredOutcome]:
        """The newest outcomes whose panel has all (or any) of ``agents``, oldest first, with only these agents' votes."""

    async def count(
        self, workspace: str, agents: Sequence[str], after: int, limit: int, *, any_of: bool = False
    ) -> int:
        """How many such outcomes came after the ``after``-th, counted up to ``limit``."""

    async def agents(self, workspace: str, limit: int) -> list[str]:
        """The agents on the panels of the newest ``limit`` outcomes, the most frequent first."""

    async def save(self, items: Sequence[NewSnapshot]) -> list[bool]:
        """Stores snapshots, each as the next version of its panel, with a log row ``weights.fitted``. False if there is one
        already that was learned from as many outcomes."""

    async def heads(self, workspace: str) -> list[SnapshotHead]:
        """The newest version of every panel, the largest panel first."""

    async def newest(self, workspace: str) -> list[StoredSnapshot]:
        """As `heads`, with their content."""

    async def snapshot(self, workspace: str, snapshot_id: str) -> StoredSnapshot | None: ...

    async def covering(self, workspace: str, agents: Sequence[str]) -> StoredSnapshot | None:
        """The newest version of the smallest panel that has all of ``agents``."""
