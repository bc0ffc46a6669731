"""Agents with an actor of their own: from registration to the supervisor's actor, through turns and tasks, to its end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from actors.agents.membership import HostCalls, LiveHosts
from actors.agents.pull_calls import PullCalls
from actors.roles import AGENT_HOST, DEDICATED_AGENT, Role, dedicated_role
from actors.supervisor import Supervisor
from cluster.agent_transports.python_agent import Answer, Question
from cluster.domain.agents.calls import AgentCall
from cluster.domain.base.errors import ActorUnavailable, AgentTimeout, AgentUnavailable
from cluster.rpc.exchange import ExchangeClient
from tests.support.agents import a_call
from tests.support.api import Api, api_settings
from tests.support.called_agents import ended_task
from tests.support.endpoints import serving
from tests.support.probes import eventually

_workers = itertools.count(1)


class InProcessBackend:
    """Actors in the test's own loop. There are no GPUs."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: dict[str, Role] = {}

    def desired_name(self, role: Role) -> str:
        return role.key

    async def ensure(self, role: Role) -> str:
        self._names[role.key] = role
        if role.needs is not None and role.needs.num_gpus:
            raise ActorUnavailable("no node has a GPU")
        if role.key not in self._api.processes:
            await self._api.start_role(role)
        return "v1"

    async def existing(self) -> Sequence[str]:
        return list(self._names)

    def plays(self, name: str, role: Role) -> bool:
        return name == role.key

    def is_of(self, name: str, kind: str) -> bool:
        return name.startswith(kind)

    async def kill(self, name: str) -> None:
        role = self._names.pop(name)
        if name in self._api.processes:
            await self._api.kill_role(role)


class Both:
    """Answers turns and works on tasks, and says in which process."""

    async def answer(self, question: Question) -> Answer:
        return Answer(text='{"by": "both"}', input_tokens=1, output_tokens=2)

    async def work(self, task: Mapping[str, Any]) -> Any:
        return task["payload"]


@pytest.fixture
async def api(store_urls: Any, schema: str) -> AsyncIterator[Api]:
    settings = api_settings(store_urls, schema, agent_hosts=2, agent_modules=(__name__,))
    async with Api(settings).running() as running:
        await running.start(AGENT_HOST, 1)
        yield running


@pytest.fixture
async def supervisor(api: Api) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(
        holder="test",
        roles=(),
        backend=InProcessBackend(api),
        agents=api.stores.agents,
        names=api.stores.names,
        leases=api.stores.leases,
        clock=api.resources.clock,
    )
    yield supervisor
    await supervisor.stop()


def _calls(api: Api) -> HostCalls:
    """As a deliberation worker calls."""

    def exchange(role: Role) -> ExchangeClient:
        call = api._resolve(role, api.stores.names)

        async def carry(message: Any) -> Any:
            return await call("exchange", message)

        return ExchangeClient(f"worker-{next(_workers)}", carry, clock=api.resources.clock)

    hosts = LiveHosts(api.stores.leases, api.stores.agents, api.resources.clock, api.settings.agent_hosts)
    return HostCalls(hosts, exchange, api.resources.clock)


def _turn(agent_id: str, **changes: Any) -> AgentCall:
    return a_call(agent_id, **{"timeout_s": 30.0, "key": f"turn-{agent_id}"} | changes)


async def _placed(api: Api, supervisor: Supervisor, agent_id: str) -> None:
    async def has_actor() -> bool:
        await supervisor.reconcile()
        return bool((await api.get(f"/agents/{agent_id}"))["status_detail"] == "Its own actor runs.")

    await eventually(has_actor)


async def _owned(api: Api, role: Role) -> int:
    process = api.processes.get(role.key)
    return int((await process.actor.status())["agents"]) if process is not None else 0


async def test_an_imported_agent_and_an_endpoint_are_served_by_their_own_actors(
    api: Api, supervisor: Supervisor
) -> None:
    asked: list[Any] = []

    async def endpoint(request: Any) -> httpx.Response:
        asked.append(await request.body())
        return httpx.Response(200, json={"text": '{"by": "endpoint"}', "result": 7})

    async with serving(endpoint) as url:
        needs = {"dedicated": True, "num_cpus": 0.5, "memory": 1024, "resources": {"licence": 2}}
        imported = {"agent_id": "py", "import_path": f"{__name__}:Both", "capabilities": ["py"]} | needs
        first = await api.post("/agents", imported)
        await api.post("/agents", {"agent_id": "web", "endpoint": url, "capabilities": ["web"], "dedicated": True})
        assert {name: first[name] for name in needs} == needs
        assert first["num_gpus"] == 0
        assert "0.5 CPUs, 1,024 bytes of memory, 2 of licence" in first["status_detail"]
        roles = [dedicated_role("default", name) for name in ("py", "web")]
        waiting = await api.post("/tasks", {"task_type": "t", "payload": 5, "target_agent": "py"})
        for name in ("py", "web"):
            await _placed(api, supervisor, name)

        async def shares() -> bool:
            shared = [await _owned(api, Role(kind=AGENT_HOST, index=index)) for index in (0, 1)]
            return (shared, [await _owned(api, role) for role in roles]) == ([0, 0], [1, 1])

        await eventually(shares)
        assert (await ended_task(api, waiting["task_id"]))["result"] == 5
        for index in (0, 1):
            await api.kill(AGENT_HOST, index)  # nobody else can have answered
        calls = _calls(api)
        assert (await calls.call(_turn("py"))).text == '{"by": "both"}'
        assert (await calls.call(_turn("web"))).text == '{"by": "endpoint"}'
        for name, result in (("py", 5), ("web", 7)):
            created = await api.post("/tasks", {"task_type": "t", "payload": 5, "required_capabilities": [name]})
            task = await ended_task(api, created["task_id"])
            assert (task["result"], task["assigned_agent"]) == (result, name)
        listed = {agent["agent_id"]: agent for agent in (await api.get("/agents"))["agents"]}
        assert {agent["status_detail"] for agent in listed.values()} == {"Its own actor runs."}


async def test_an_agent_that_registers_without_dedicated_loses_its_actor(api: Api, supervisor: Supervisor) -> None:
    body = {"agent_id": "py", "import_path": f"{__name__}:Both"}
    role = dedicated_role("default", "py")
    await api.post("/agents", body | {"dedicated": True})
    await _placed(api, supervisor, "py")
    calls = _calls(api)
    assert (await calls.call(_turn("py"))).output_tokens == 2
    again = await api.post("/agents", body)
    assert again["dedicated"] is False
    assert "status_detail" not in again
    await supervisor.reconcile()
    assert role.key not in api.processes
    assert (await calls.call(_turn("py", key="k2"))).output_tokens == 2
    created = await api.post("/tasks", {"task_type": "t", "payload": 1, "target_agent": "py"})
    assert (await ended_task(api, created["task_id"]))["result"] == 1
    await api.post("/agents", body | {"dedicated": True})
    await _placed(api, supervisor, "py")
    assert (await api.call("DELETE", "/agents/py")).status_code == 200
    await supervisor.reconcile()
    assert role.key not in api.processes


async def test_an_agent_whose_actor_lacks_resources_says_so_and_its_tasks_wait(
    api: Api, supervisor: Supervisor
) -> None:
    body = {"agent_id": "py", "import_path": f"{__name__}:Both", "dedicated": True}
    await api.post("/agents", body | {"num_gpus": 2})
    assert await supervisor.reconcile()
    detail = (await api.get("/agents/py"))["status_detail"]
    assert "waits for a node" in detail
    assert "2 GPUs" in detail
    created = await api.post("/tasks", {"task_type": "t", "payload": 1, "target_agent": "py"})
    asked = asyncio.ensure_future(_calls(api).call(_turn("py")))
    with pytest.raises(AgentUnavailable):
        await _calls(api).call(_turn("py", key="k2", timeout_s=0.2))
    assert (await api.get(f"/tasks/{created['task_id']}"))["status"] == "pending"
    await api.post("/agents", body)
    await _placed(api, supervisor, "py")
    assert (await asked).text == '{"by": "both"}'
    assert (await ended_task(api, created["task_id"]))["result"] == 1


async def test_explain_and_status_say_that_an_agent_waits_for_its_node(api: Api, supervisor: Supervisor) -> None:
    needs = {"dedicated": True, "num_gpus": 2}
    registered = await api.post("/agents", {"agent_id": "py", "import_path": f"{__name__}:Both", **needs})
    assert registered["status"] == "starting"
    task_id = (await api.post("/tasks", {"task_type": "t", "target_agent": "py"}))["task_id"]
    explained = await api.get(f"/tasks/{task_id}/explain")
    assert [reason["code"] for reason in explained["reasons"]] == ["waiting_for_node"]
    assert "py" in explained["summary"]
    assert "2 GPUs" in explained["summary"]
    assert (await api.get("/agents/py"))["status"] == "starting"
    assert [agent["agent_id"] for agent in (await api.get("/agents?status=starting"))["agents"]] == ["py"]
    assert (await api.get("/agents?status=ready"))["agents"] == []

    await api.post("/agents", {"agent_id": "py", "import_path": f"{__name__}:Both", "dedicated": True})
    await _placed(api, supervisor, "py")
    assert (await api.get("/agents/py"))["status"] in ("ready", "busy")
    assert (await api.get("/agents?status=starting"))["agents"] == []


async def test_a_killed_actor_is_made_again_and_the_same_attempt_ends(api: Api, supervisor: Supervisor) -> None:
    gate = asyncio.Event()
    keys: list[str] = []

    async def endpoint(request: Any) -> httpx.Response:
        keys.append((await request.json())["idempotency_key"])
        await gate.wait()
        return httpx.Response(200, json={"result": 1})

    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "web", "endpoint": url, "dedicated": True})
        await _placed(api, supervisor, "web")
        created = await api.post("/tasks", {"task_type": "t"})
        await eventually(lambda: len(keys) == 1)
        role = dedicated_role("default", "web")
        await api.kill_role(role)
        await api.start_role(role)
        gate.set()
        task = await ended_task(api, created["task_id"])
        assert (task["status"], task["attempt"]) == ("completed", 1)
        assert set(keys) == {f"{created['task_id']}:1"}


async def _on_host(api: Api, index: int) -> str:
    """Registers agents until one is carried by this host; its id. All of them pull."""
    hosts = LiveHosts(api.stores.leases, api.stores.agents, api.resources.clock, api.settings.agent_hosts)
    for number in range(100):
        if await hosts.owner_host("default", f"a{number}") == Role(kind=AGENT_HOST, index=index):
            return f"a{number}"
    raise AssertionError("rendezvous hashing gives this host nothing")


async def test_a_call_of_a_lost_host_is_repeated_under_the_same_key(api: Api) -> None:
    agent_id, keys = await _on_host(api, 1), []

    async def endpoint(request: Any) -> httpx.Response:
        keys.append((await request.json())["idempotency_key"])
        if len(keys) == 1:
            await asyncio.Event().wait()
        return httpx.Response(200, json={"text": "yes"})

    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": agent_id, "endpoint": url})
        asked = asyncio.ensure_future(_calls(api).call(_turn(agent_id)))
        await eventually(lambda: len(keys) == 1)
        await api.kill(AGENT_HOST, 1)
        assert (await asked).text == "yes"
        assert keys == [f"turn-{agent_id}"] * 2


async def test_a_turn_of_a_lost_host_is_taken_over_and_asked_once(api: Api) -> None:
    agent_id = await _on_host(api, 1)
    await api.post("/agents", {"agent_id": agent_id})
    asked = asyncio.ensure_future(_calls(api).call(_turn(agent_id)))
    task = (await api.post("/tasks/claim", {"agent_id": agent_id, "block_ms": 10_000}))["task"]
    assert task["total_timeout_seconds"] <= 30.0
    await api.kill(AGENT_HOST, 1)
    await api.post(f"/tasks/{task['id']}/complete", {"result": "yes", "agent_id": agent_id})
    assert (await asked).text == "yes"
    turns = (await api.get("/tasks", params={"task_type": "deliberation.turn"}))["tasks"]
    assert [turn["id"] for turn in turns] == [task["id"]]


async def test_a_turn_that_nobody_can_cancel_ends_at_its_deadline(api: Api) -> None:
    """As when its host was killed: no word of it reaches the shard."""
    await api.post("/agents", {"agent_id": "a1"})

    async def dead(request: Any) -> Any:
        raise ActorUnavailable("killed")

    resources = api.resources
    turns = PullCalls(
        tasks=resources.stores.tasks,
        doorbell=resources.doorbell,
        clock=resources.clock,
        shard=dead,
        region=api.settings.region,
    )
    agent = await api.stores.agents.get("default", "a1")
    assert agent is not None
    with pytest.raises(AgentTimeout):
        await turns.ask(agent, _turn("a1", timeout_s=0.3))

    async def submitted() -> Any:
        return (await api.get("/tasks"))["tasks"]

    (turn,) = await eventually(submitted)
    assert (await ended_task(api, turn["id"]))["status"] == "timeout"


def test_no_kind_of_role_is_the_prefix_of_another() -> None:
    assert not DEDICATED_AGENT.startswith(AGENT_HOST)
    assert not AGENT_HOST.startswith(DEDICATED_AGENT)
