"""The source of weights of a control plane that has learned nothing: every agent counts the same."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.domain.consensus.snapshot import WeightSnapshot


class NoWeights:
    async def snapshot_for(self, workspace: str, agents: Sequence[str]) -> WeightSnapshot | None:
        return None
