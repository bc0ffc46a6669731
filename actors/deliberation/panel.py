"""Reads what panels are chosen from: the stored agents and the learned weights. `panel_choice` chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.domain.agents.agent import Agent
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.events import PanelChosen
from cluster.domain.deliberation.panel_choice import chosen, panel_of, suitable
from cluster.ports.agents import AgentStore
from cluster.ports.outcomes import WeightSource
from cluster.process.group_commit import GroupCommit


class PanelChooser:
    """Chooses panels from the stored agents and the learned weights."""

    def __init__(self, agents: AgentStore, weights: WeightSource) -> None:
        # The registry as it is stored, and the weights that were learned: read for every panel.
        self._agents = agents
        self._weights = weights
        # Lists of agents by workspace, and snapshots by workspace and panel. Nothing is kept: deliberations that start
        # together share a read, and a later one reads again. A kept list would choose agents that have left.
        self._lists: GroupCommit[str, list[Agent]] = GroupCommit(self._read_agents)
        self._snapshots: GroupCommit[tuple[str, tuple[str, ...]], WeightSnapshot | None] = GroupCommit(
            self._read_snapshots
        )

    async def choose(self, workspace: str, contract: Contract) -> PanelChosen:
        """A panel of the agents that take work now. Raises: ``TryLater`` if they cannot be read."""
        found = suitable(contract, await self._lists.put(workspace))
        learned = await self._snapshot(workspace, found.agents)
        panel = panel_of(contract, found.agents, {} if learned is None else learned.accuracy)
        return chosen(found, panel, await self._snapshot(workspace, panel.members))

    async def _snapshot(self, workspace: str, agents: Iterable[Agent]) -> WeightSnapshot | None:
        return await self._snapshots.put((workspace, tuple(sorted(agent.agent_id for agent in agents))))

    async def _read_agents(self, workspaces: Sequence[str]) -> list[list[Agent]]:
        found = {workspace: await self._agents.list(workspace) for workspace in set(workspaces)}
        return [found[workspace] for workspace in workspaces]

    async def _read_snapshots(self, keys: Sequence[tuple[str, tuple[str, ...]]]) -> list[WeightSnapshot | None]:
        found = {key: await self._weights.snapshot_for(*key) if key[1] else None for key in set(keys)}
        return [found[key] for key in keys]
