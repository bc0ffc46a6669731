"""Values that tests build on, so that each test states only what it is about."""

from __future__ import annotations

import itertools
from typing import Any

from cluster.domain.agents.agent import Agent, Health, Intent, Liveness, NewAgent, TransportKind
from cluster.domain.agents.options import AgentOptions
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.tasks.task import NewTask
from cluster.ports.agents import RegisterItem

NOW = 1_700_000_000.0
ASKER = Origin(workspace="w", principal="user:tester")
_numbers = itertools.count(1)


def new_task(**changes: Any) -> NewTask:
    values: dict[str, Any] = {
        "id": f"task_{next(_numbers):06d}",
        "origin": ASKER,
        "task_type": "echo",
        "created_at": NOW,
    }
    return NewTask(**(values | changes))


def registration(agent_id: str, *, at: float = NOW, origin: Origin = ASKER, **changes: Any) -> RegisterItem:
    """``options`` as they are registered."""
    changes["options"] = AgentOptions.read(changes.get("options", {}))
    agent = NewAgent(agent_id=agent_id, origin=origin, registered_at=at, **changes)
    return RegisterItem(agent=agent, record=record_for(origin, at, "agent.registered", agent_id))


def system_event(entity: str) -> LogRecord:
    return LogRecord(at=NOW, workspace="w", kind="system.test", entity=entity)


def an_agent(agent_id: str = "a1", **changes: Any) -> Agent:
    """Active, alive and idle; ``options`` as they are registered."""
    values: dict[str, Any] = {
        "agent_id": agent_id,
        "workspace": "w",
        "principal": "user:tester",
        "capabilities": (),
        "model": "m",
        "provider": "p",
        "metadata": {},
        "tags": (),
        "region_id": "test-region",
        "available_regions": (),
        "transport": TransportKind.PULL,
        "endpoint": None,
        "max_concurrency": 1,
        "options": {},
        "intent": Intent.ACTIVE,
        "liveness": Liveness.ALIVE,
        "health": Health.UNKNOWN,
        "registered_at": NOW,
        "updated_at": NOW,
    }
    values |= changes
    return Agent(**(values | {"options": AgentOptions.read(values["options"])}))
