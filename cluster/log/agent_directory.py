"""A process's copy of the agent registry, kept up to date by the log.

It answers reads that decide nothing by themselves (does this agent exist, what did it register). An agent that is not
here is looked up in the store, because another process may just have registered it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.domain.agents.agent import Agent
from cluster.domain.base.log import LogRow
from cluster.ports.agents import AgentStore
from cluster.ports.log import LogFilter

_AGENT_KINDS = "agent."
#: The rows that a follower has to read to keep a directory.
AGENT_ROWS = LogFilter(kinds=(_AGENT_KINDS,))

Key = tuple[str, str]
"""(workspace, agent_id)"""


class AgentDirectory:
    """Agents by workspace and id, and by capability."""

    def __init__(self, store: AgentStore) -> None:
        self._store = store
        #: The agents that are known. `note` and `forget` keep it and ``_having`` the same.
        self._agents: dict[Key, Agent] = {}
        #: (workspace, capability) → ids of the agents that have it. All agents have the empty capability.
        self._having: dict[tuple[str, str], set[str]] = {}

    async def load(self) -> int:
        """Reads all agents and returns the cursor from which to follow the log."""
        cursor, agents = await self._store.load()
        self._agents, self._having = {}, {}
        for agent in agents:
            self.note(agent)
        return cursor

    async def apply(self, rows: Sequence[LogRow]) -> None:
        """Reads the agents again that the log rows name, so that a row that is applied twice does no harm."""
        changed = {(row.workspace, row.entity) for row in rows if row.kind.startswith(_AGENT_KINDS)}
        if not changed:
            return
        found = await self._store.get_many(sorted(changed))
        for key in changed:
            self._put(key, found.get(key))

    def _put(self, key: Key, agent: Agent | None) -> None:
        if agent is None:
            self.forget(*key)
        else:
            self.note(agent)

    async def get(self, workspace: str, agent_id: str) -> Agent | None:
        """The agent, looked up in the store if this copy does not know it."""
        agent = self._agents.get((workspace, agent_id))
        if agent is None:
            agent = await self._store.get(workspace, agent_id)
            self._put((workspace, agent_id), agent)
        return agent

    def known(self, workspace: str, agent_id: str) -> Agent | None:
        """The agent as this copy has it."""
        return self._agents.get((workspace, agent_id))

    def note(self, agent: Agent) -> None:
        """Takes an agent's new state. A process that has just written it need not wait for the log."""
        key = (agent.workspace, agent.agent_id)
        before = self._agents.get(key)
        self._agents[key] = agent
        if before is None or before.capabilities != agent.capabilities:
            self._unlist(before)
            for capability in ("", *agent.capabilities):
                self._having.setdefault((agent.workspace, capability), set()).add(agent.agent_id)

    def forget(self, workspace: str, agent_id: str) -> None:
        """Removes an agent."""
        self._unlist(self._agents.pop((workspace, agent_id), None))

    def _unlist(self, agent: Agent | None) -> None:
        if agent is not None:
            for capability in ("", *agent.capabilities):
                self._having[agent.workspace, capability].discard(agent.agent_id)

    def agents(self, workspace: str | None = None, capability: str = "") -> list[Agent]:
        """The agents of a workspace that have a capability, found without going through the others; or all agents."""
        if workspace is None:
            return list(self._agents.values())
        return [self._agents[workspace, agent_id] for agent_id in self._having.get((workspace, capability), ())]
