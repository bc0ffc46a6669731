"""A process's copy of the agent registry, kept current from the log.

Reads that decide nothing by themselves (does this agent exist, what did it register) are answered from here; a miss is
looked up in the store, because another process may have registered the agent a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.domain.agents import Agent
from cluster.domain.log import LogRow
from cluster.ports import AgentStore, LogFilter

_AGENT_KINDS = "agent."
#: What a follower needs to read that keeps nothing but a directory.
AGENT_ROWS = LogFilter(kinds=(_AGENT_KINDS,))


class AgentDirectory:
    def __init__(self, store: AgentStore) -> None:
        self._store = store
        self._agents: dict[tuple[str, str], Agent] = {}

    async def load(self) -> int:
        """Reads all agents; the log cursor from which to follow."""
        cursor, agents = await self._store.load()
        self._agents = {(agent.workspace, agent.agent_id): agent for agent in agents}
        return cursor

    async def apply(self, rows: Sequence[LogRow]) -> None:
        """Log rows name what changed; the row itself is read again, so that a lost or doubled row does no harm."""
        changed = {(row.workspace, row.entity) for row in rows if row.kind.startswith(_AGENT_KINDS)}
        if not changed:
            return
        found = await self._store.get_many(sorted(changed))
        for key in changed:
            self._put(key, found.get(key))

    def _put(self, key: tuple[str, str], agent: Agent | None) -> None:
        if agent is None:
            self._agents.pop(key, None)
        else:
            self._agents[key] = agent

    async def get(self, workspace: str, agent_id: str) -> Agent | None:
        agent = self._agents.get((workspace, agent_id))
        if agent is None:
            agent = await self._store.get(workspace, agent_id)
            self._put((workspace, agent_id), agent)
        return agent

    def note(self, agent: Agent) -> None:
        """What this process has just written, before the log brings it back."""
        self._agents[(agent.workspace, agent.agent_id)] = agent

    def forget(self, workspace: str, agent_id: str) -> None:
        self._agents.pop((workspace, agent_id), None)

    def agents(self, workspace: str | None = None) -> Iterable[Agent]:
        return [agent for agent in self._agents.values() if workspace is None or agent.workspace == workspace]
