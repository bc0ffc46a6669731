"""Calls of agents through their host, and an endpoint that plays one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from actors.roles import AGENT_HOST
from cluster.domain.agents.calls import AgentCall, Reply
from tests.support.api import Api
from tests.support.probes import eventually


def ask_agent(api: Api, call: AgentCall) -> asyncio.Task[Reply]:
    host = api.processes[f"{AGENT_HOST}-0"]
    return host.run(host.actor.questions.ask(call))


class Endpoint:
    """Speaks the plain contract; keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [{"text": "yes"}]
        self.asked: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, request: Any) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200)
        self.asked.append(json.loads(await request.body()))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        await self.gate.wait()
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


async def ended_task(api: Api, task_id: str) -> dict[str, Any]:
    async def ended() -> Any:
        task = await api.get(f"/tasks/{task_id}")
        return task if task["status"] not in ("pending", "running") else None

    return dict(await eventually(ended))
