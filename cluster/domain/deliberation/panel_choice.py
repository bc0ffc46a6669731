"""Choosing a panel: which agents are asked, which may replace them, who judges, and whether a panel that lacks some is taken.

The agents are those of the workspace, as they are stored; the weights are those that were learned for the ones that suit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.domain.agents.agent import Agent
from cluster.domain.agents.options import Price
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation.contract import DEFAULT_CAPABILITIES, PANEL_CAPABILITIES, Contract
from cluster.domain.deliberation.events import PanelChosen
from cluster.domain.deliberation.state import Member, Phase, State
from cluster.domain.deliberation.timing import PHASE_SHARE

JUDGE = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suitable:
    """Who may be on a panel, in no order, and who judges, who is not among them. ``missing`` says whom the contract asks for in
    vain."""

    agents: tuple[Agent, ...]
    judge: Agent | None
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Who is asked, and who may replace them, best first."""

    members: tuple[Agent, ...]
    pool: tuple[Agent, ...]


def suitable(contract: Contract, agents: Sequence[Agent]) -> Suitable:
    """Among agents that take work: those that the contract names, else all with the capabilities that it requires."""
    able = [agent for agent in agents if agent.takes_work]
    if contract.agents:
        by_id = {agent.agent_id: agent for agent in able}
        found = [by_id[name] for name in contract.agents if name in by_id]
        absent = [name for name in contract.agents if name not in by_id]
        missing = f"agents not available: {', '.join(absent)}" if absent else ""
    else:
        found = [agent for agent in able if suits(agent, contract.required_capabilities)]
        missing = f"agents with {', '.join(contract.required_capabilities) or 'any capability'}"
    judge = _judge(contract, able, found)
    return Suitable(agents=tuple(agent for agent in found if agent is not judge), judge=judge, missing=missing)


def suits(agent: Agent, required: Sequence[str]) -> bool:
    """Whether an agent has the required capabilities. The released client asks for ``deliberation`` by default; then an
    agent for debates suits too."""
    if tuple(required) == DEFAULT_CAPABILITIES:
        return bool(PANEL_CAPABILITIES & set(agent.capabilities))
    return set(required) <= set(agent.capabilities)


def _judge(contract: Contract, able: Sequence[Agent], found: Sequence[Agent]) -> Agent | None:
    """Who is never on the panel. It is the agent that the contract names as the judge, if it names one; else an agent with the
    capability ``judge``; else one that suits and is not a named member, or that the panel can spare."""
    if contract.mode is not Mode.JUDGE:
        return None
    if contract.judge:
        return next((agent for agent in able if agent.agent_id == contract.judge), None)
    outside = [agent for agent in able if agent.agent_id not in contract.agents]
    by_trade = [agent for agent in outside if JUDGE in agent.capabilities]
    others = [agent for agent in outside if contract.agents and suits(agent, contract.required_capabilities)]
    spare = [] if contract.agents else list(found[contract.min_votes :])
    judges = by_trade or others or spare
    return min(judges, key=lambda agent: (len(agent.running_task_ids), agent.agent_id)) if judges else None


def panel_of(contract: Contract, agents: Sequence[Agent], accuracy: Mapping[str, float]) -> Panel:
    """Best record first (``accuracy`` by agent). Without records: in the order in which they are named, else the least loaded
    first. Nobody replaces agents that are named."""
    position_of = {name: index for index, name in enumerate(contract.agents)}

    def order(agent: Agent) -> tuple[float, int, int, str]:
        weight = accuracy.get(agent.agent_id, 0.0)
        return (-weight, position_of.get(agent.agent_id, 0), len(agent.running_task_ids), agent.agent_id)

    ordered, most = sorted(agents, key=order), contract.max_agents
    return Panel(members=tuple(ordered[:most]), pool=() if contract.agents else tuple(ordered[most : 2 * most]))


def chosen(found: Suitable, panel: Panel, snapshot: WeightSnapshot | None) -> PanelChosen:
    """The event. ``snapshot``: the weights that were learned for the panel's members."""
    return PanelChosen(
        members=tuple(member_of(agent) for agent in panel.members),
        pool=tuple(member_of(agent) for agent in panel.pool),
        judge=None if found.judge is None else member_of(found.judge),
        snapshot=snapshot if panel.members else None,
        missing=found.missing,
    )


def taken_until(state: State) -> float:
    """When a panel is taken though it lacks some (epoch seconds)."""
    return state.admitted_at + state.contract.timeout_s * PHASE_SHARE[Phase.SCHEDULED]


def is_complete(contract: Contract, event: PanelChosen) -> bool:
    """Whether a panel lacks nobody, so that waiting for others would bring nothing."""
    enough = min(len(contract.agents) or contract.min_votes, contract.max_agents)
    return len(event.members) >= enough and (event.judge is not None or contract.mode is not Mode.JUDGE)


def member_of(agent: Agent) -> Member:
    persona = agent.metadata.get("persona")
    return Member(
        agent_id=agent.agent_id,
        model=agent.model,
        provider=agent.provider,
        persona=persona if isinstance(persona, str) else "",
        owner=agent.options.owner,
        price=agent.options.price or Price(),
    )
