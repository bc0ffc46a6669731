"""Agents that drain, pause, leave and return, by every route and in any order: an agent gets work if no intent forbids it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx
import pytest
import websockets

from cluster.domain.agents.agent import Liveness
from cluster.domain.base.log import record_for
from cluster.ports.agents import AgentChange
from cluster.ports.wake_ups import WakeTopic
from tests.support.api import CP, Api
from tests.support.endpoints import serving
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.task_api import TaskApi
from tests.support.who_said import VERBS, WORDS, Said

DOORS = ("single", "many", "socket")
STEPS = 6
FLEET = 12


async def says(api: Api, name: str, word: str, door: str) -> None:
    heartbeat = {"agent_id": name, "status": word}
    if door == "single":
        await api.post(f"/agents/{name}/heartbeat", {"status": word})
    elif door == "many":
        await api.post("/agents/heartbeats", {"heartbeats": [heartbeat, {"agent_id": name}]})
    else:
        async with websockets.connect(api.url.replace("http", "ws", 1) + CP + "/agents/heartbeats") as socket:
            await socket.send(json.dumps(heartbeat))
            assert json.loads(await socket.recv())["type"] == "heartbeat_ack"


class Coming:
    """One agent's life, and what was said of it."""

    def __init__(self, api: Api, tasks: TaskApi, name: str, draw: random.Random) -> None:
        self.api, self.tasks, self.name, self.draw = api, tasks, name, draw
        self.said = Said()
        self.done: list[str] = []

    async def registers(self) -> None:
        more = self.draw.choice([{}, {"capabilities": [self.name, "more"]}, {"tags": ["t"]}])
        body = {"agent_id": self.name, "capabilities": [self.name], "max_concurrency": 4, **more}
        answer = await self.api.post("/agents", body)
        self.said.registers()
        assert (answer["intent"], answer["intent_by"]) == (self.said.intent, self.said.by)
        assert ("notice" in answer) == (self.said.by is not None), "who comes back is told that it gets no work"

    async def leaves(self) -> None:
        assert (await self.api.call("DELETE", f"/agents/{self.name}")).status_code == 200
        self.said = Said()
        await self.registers()

    async def goes_offline(self) -> None:
        record = record_for(ASKER, 1.0, "agent.status_changed", self.name, {"new_status": "offline"})
        change = AgentChange(workspace="default", agent_id=self.name, liveness=Liveness.OFFLINE, record=record)
        await self.api.stores.agents.change([change])
        await self.api.resources.doorbell.notify(WakeTopic.AGENTS)

    async def step(self) -> None:
        what = self.draw.choice(["says", "says", "says", "operated", "registers", "registers", "leaves", "offline"])
        if what == "says":
            word, door = self.draw.choice(sorted(WORDS)), self.draw.choice(DOORS)
            what += f" {word} ({door})"
            await says(self.api, self.name, word, door)
            self.said.says(word)
        elif what == "operated":
            verb = self.draw.choice(sorted(VERBS))
            what += f" {verb}"
            await self.api.post(f"/agents/{self.name}/{verb}")
            self.said.operated(verb)
        else:
            await {"registers": self.registers, "leaves": self.leaves, "offline": self.goes_offline}[what]()
        self.done.append(what)

    async def check(self) -> None:
        shown = await self.api.get(f"/agents/{self.name}")
        assert (shown["intent"], shown["intent_by"]) == (self.said.intent, self.said.by), self.done
        task = await self.tasks.submit(required_capabilities=[self.name])
        if self.said.by is None:
            taken = await self.tasks.claim(self.name, block_ms=20_000)
            assert taken is not None, f"no work after {self.done}"
            await self.tasks.complete(taken)
        else:
            assert await self.tasks.claim(self.name, block_ms=100) is None, f"work after {self.done}"
            await self.tasks.post(f"/tasks/{task}/cancel")


@pytest.mark.parametrize("seed", range(4))
async def test_an_agent_gets_work_exactly_if_no_intent_forbids_it(api: Api, tasks: TaskApi, seed: int) -> None:
    """All of a fleet step together, now and then while the shard starts again."""
    draw = random.Random(seed)
    fleet = [Coming(api, tasks, f"a{n}", random.Random(f"{seed} {n}")) for n in range(FLEET)]
    await asyncio.gather(*(agent.registers() for agent in fleet))
    for _ in range(STEPS):
        if draw.random() < 0.5:
            await api.kill_scheduler()
            steps = asyncio.gather(*(agent.step() for agent in fleet))
            await api.start_scheduler()
            await steps
        else:
            await asyncio.gather(*(agent.step() for agent in fleet))
        if draw.random() < 0.7:
            await asyncio.gather(*(agent.check() for agent in fleet))
    await asyncio.gather(*(agent.check() for agent in fleet))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("word", ["draining", "paused"])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_worker_that_drained_and_comes_back_gets_work(
    api: Api, tasks: TaskApi, door: str, word: str, restart: bool
) -> None:
    await tasks.agent("a1")
    await says(api, "a1", word, door)
    if restart:
        await api.kill_scheduler()
        await api.start_scheduler()
    await tasks.submit()
    assert await tasks.claim("a1", block_ms=100) is None
    await tasks.agent("a1")
    assert await tasks.claim("a1", block_ms=20_000) is not None


async def test_the_last_intent_counts_even_if_reverted_at_once(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    await tasks.submit()
    for door in DOORS:
        await says(api, "a1", "draining", door)
        await says(api, "a1", "ready", door)
        assert (await tasks.get("/agents/a1"))["intent"] == "active", door
    heartbeats = [{"agent_id": "a1", "status": status} for status in ("paused", "ready", "busy")]
    await tasks.post("/agents/heartbeats", {"heartbeats": heartbeats})
    assert await tasks.claim("a1", block_ms=20_000) is not None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("word", ["draining", "paused"])
@pytest.mark.parametrize("verb", ["drain", "pause"])
@pytest.mark.parametrize("agent_first", [True, False])
async def test_a_pause_ends_by_its_own_opposite_only(
    api: Api, tasks: TaskApi, door: str, word: str, verb: str, agent_first: bool
) -> None:
    await tasks.agent("a1")
    await tasks.submit()
    if agent_first:
        await says(api, "a1", word, door)
    await tasks.post(f"/agents/a1/{verb}")
    if not agent_first:
        await says(api, "a1", word, door)
    resumed = await tasks.post("/agents/a1/resume")
    assert (resumed["intent"], resumed["intent_by"]) == (word, "agent")
    assert "until its heartbeat says ready" in resumed["notice"]
    assert await tasks.claim("a1", block_ms=100) is None
    await tasks.post(f"/agents/a1/{verb}")
    await says(api, "a1", "ready", door)
    assert (await tasks.get("/agents/a1"))["intent_by"] == "operator"
    assert await tasks.claim("a1", block_ms=100) is None
    assert "notice" not in await tasks.post("/agents/a1/resume")
    assert await tasks.claim("a1", block_ms=20_000) is not None


async def test_an_operators_drain_outlives_the_agents_own(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    await says(api, "a1", "draining", "single")
    assert (await tasks.get("/agents/a1"))["intent_by"] == "agent"
    await tasks.post("/agents/a1/drain")
    answer = await tasks.post("/agents", {"agent_id": "a1"})
    assert (answer["status"], answer["intent_by"]) == ("draining", "operator")
    assert "aragora-cp agents resume a1" in answer["notice"]
    assert "notice" not in await tasks.post("/agents/a1/resume")


async def test_a_claim_that_waits_gets_work_when_its_agent_is_resumed(api: Api, tasks: TaskApi) -> None:
    """It comes again, as it does after every change of what the agent may do."""
    await tasks.agent("a1")
    await tasks.post("/agents/a1/pause")
    await tasks.submit()

    async def come_again() -> Any:
        while (task := await tasks.claim("a1", block_ms=25_000)) is None:
            pass  # the shard has read of the pause, or of the resume, while the claim waited
        return task

    waiting = asyncio.create_task(come_again())
    await eventually(lambda: tasks.waits(1))
    await tasks.post("/agents/a1/resume")
    assert (await waiting)["status"] == "running"


@pytest.mark.parametrize("how", ["draining", "paused", "operator"])
async def test_a_called_agent_that_returns_is_called(api: Api, tasks: TaskApi, how: str) -> None:
    async def is_over(task: str) -> bool:
        return bool((await tasks.get(f"/tasks/{task}"))["status"] == "completed")

    async with serving(lambda _: httpx.Response(200, json={"result": "done"})) as url:
        await tasks.agent("a1", capabilities=["called"], endpoint=url)
        first = await tasks.submit(required_capabilities=["called"])
        await eventually(lambda: is_over(first))
        if how == "operator":
            await tasks.post("/agents/a1/drain")
            await tasks.call("DELETE", "/agents/a1")
        else:
            await says(api, "a1", how, "single")
        second = await tasks.submit(required_capabilities=["called"])
        await tasks.agent("a1", capabilities=["called"], endpoint=url)
        await eventually(lambda: is_over(second))


async def test_a_stale_copy_of_the_registry_keeps_no_agent_from_work(api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1")
    await says(api, "a1", "draining", "single")
    drained = await api.stores.agents.get("default", "a1")
    assert drained is not None
    await tasks.agent("a1")
    await tasks.submit()
    await api.gateway.catch_up()
    api.gateway.directory.note(drained)
    assert await tasks.claim("a1", block_ms=5000) is not None
