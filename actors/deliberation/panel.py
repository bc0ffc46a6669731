"""Choosing a panel: who is asked, who may replace them, who judges, and with which weights."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.domain.agents.agent import Agent
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation.contract import DEFAULT_CAPABILITIES, PANEL_CAPABILITIES, Contract
from cluster.domain.deliberation.ledger import parse_price
from cluster.domain.deliberation.machine import PanelChosen
from cluster.domain.deliberation.state import Member
from cluster.ports.agents import AgentStore
from cluster.ports.outcomes import WeightSource
from cluster.process.group_commit import GroupCommit

JUDGE = "judge"


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
        """Chooses among agents that take work: those that the contract names, else all with the capabilities that it
        requires, best record first, then least load."""
        able = [agent for agent in await self._lists.put(workspace) if agent.takes_work]
        if contract.agents:
            by_id = {agent.agent_id: agent for agent in able}
            chosen = [by_id[name] for name in contract.agents if name in by_id]
            absent = [name for name in contract.agents if name not in by_id]
            missing = f"agents not available: {', '.join(absent)}" if absent else ""
        else:
            chosen = [agent for agent in able if suits(agent, contract.required_capabilities)]
            missing = f"agents with {', '.join(contract.required_capabilities) or 'any capability'}"
        judge = _judge(contract, able, chosen)
        others = [agent for agent in chosen if agent is not judge]
        chosen = await self._by_weight(workspace, others, named=contract.agents)
        panel, rest = chosen[: contract.max_agents], chosen[contract.max_agents :]
        snapshot = await self._snapshots.put((workspace, tuple(sorted(agent.agent_id for agent in panel))))
        return PanelChosen(
            members=tuple(member_of(agent) for agent in panel),
            pool=() if contract.agents else tuple(member_of(agent) for agent in rest[: contract.max_agents]),
            judge=member_of(judge) if judge is not None else None,
            snapshot=snapshot if panel else None,
            missing=missing,
        )

    async def _by_weight(self, workspace: str, agents: list[Agent], named: Sequence[str]) -> list[Agent]:
        """Best record first. Without records: in the order in which they are named, else the least loaded first."""
        snapshot = await self._snapshots.put((workspace, tuple(sorted(agent.agent_id for agent in agents))))
        position_of = {name: index for index, name in enumerate(named)}

        def order(agent: Agent) -> tuple[float, int, int, str]:
            weight = snapshot.accuracy.get(agent.agent_id, 0.0) if snapshot is not None else 0.0
            return (-weight, position_of.get(agent.agent_id, 0), len(agent.running_task_ids), agent.agent_id)

        return sorted(agents, key=order)

    async def _read_agents(self, workspaces: Sequence[str]) -> list[list[Agent]]:
        found = {workspace: await self._agents.list(workspace) for workspace in set(workspaces)}
        return [found[workspace] for workspace in workspaces]

    async def _read_snapshots(self, keys: Sequence[tuple[str, tuple[str, ...]]]) -> list[WeightSnapshot | None]:
        found = {key: await self._weights.snapshot_for(*key) if key[1] else None for key in set(keys)}
        return [found[key] for key in keys]


def suits(agent: Agent, required: Sequence[str]) -> bool:
    """Whether an agent has the required capabilities. The released client asks for ``deliberation`` by default; then an
    agent for debates suits too."""
    if tuple(required) == DEFAULT_CAPABILITIES:
        return bool(PANEL_CAPABILITIES & set(agent.capabilities))
    return set(required) <= set(agent.capabilities)


def _judge(contract: Contract, able: Sequence[Agent], chosen: Sequence[Agent]) -> Agent | None:
    """Chooses a judge, who is never on the panel. It is the agent that the contract names as the judge, if it names one;
    else an agent with the capability ``judge``; else one that suits and is not a named member, or that the panel can
    spare."""
    if contract.mode is not Mode.JUDGE:
        return None
    if contract.judge:
        return next((agent for agent in able if agent.agent_id == contract.judge), None)
    outside = [agent for agent in able if agent.agent_id not in contract.agents]
    by_trade = [agent for agent in outside if JUDGE in agent.capabilities]
    others = [agent for agent in outside if contract.agents and suits(agent, contract.required_capabilities)]
    spare = [] if contract.agents else list(chosen[contract.min_votes :])
    found = by_trade or others or spare
    return min(found, key=lambda agent: (len(agent.running_task_ids), agent.agent_id)) if found else None


def member_of(agent: Agent) -> Member:
    persona, owner = agent.metadata.get("persona"), agent.options.get("owner")
    return Member(
        agent_id=agent.agent_id,
        model=agent.model,
        provider=agent.provider,
        persona=persona if isinstance(persona, str) else "",
        owner=owner if isinstance(owner, str) else "",
        price=parse_price(agent.options.get("price")),
    )
