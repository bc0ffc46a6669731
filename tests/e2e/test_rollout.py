"""A new version is deployed under load: another setting, which replaces every replica and every actor. No call fails, or it is
told to be repeated and then succeeds; no stream loses an event."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.probes import eventually
from tests.support.rollouts import CP, Listener, deploy_environment, newest, replica_states
from tests.support.system import RunningSystem

#: A claim that is open when the new version is deployed: longer than the new replica takes to start and the old one to drain.
PATIENT_MS = 15_000
CAPABILITY = "rolled-out"


def our_actors(system: RunningSystem) -> set[str]:
    return {name for name in system.actors() if name.startswith("aragora-")}


@dataclass(slots=True)
class Clients:
    """Submit, claim, report and read until they are told to stop, each call as a careful client makes it."""

    http: httpx.AsyncClient
    stopping: bool = False
    submitted: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    #: What was not answered by success, nor by our own 503 with Retry-After that succeeded when it was repeated once.
    failed: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = await self._try(method, path, **options)
        if answer.status_code == 503:
            shaped = "retry-after" in answer.headers and {"error", "code", "trace_id"} <= answer.json().keys()
            await asyncio.sleep(int(answer.headers["retry-after"]) if shaped else 0)
            first, answer = answer, await self._try(method, path, **options)
            if not shaped or not answer.is_success:
                self.failed.append(f"{method} {path}: {first.text}, then {answer.status_code} {answer.text}")
        elif not answer.is_success:
            self.failed.append(f"{method} {path}: {answer.status_code} {answer.text}{await self._story(path)}")
        return dict(answer.json()) if answer.is_success else {}

    async def _story(self, path: str) -> str:
        """What the log has about the task that a path names."""
        _, _, rest = path.partition("/tasks/")
        task_id, _, verb = rest.partition("/")
        return f"; {(await self._try('GET', f'/story/{task_id}')).text}" if verb else ""

    async def _try(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self.http.request(method, f"{CP}{path}", **options)
        except httpx.TransportError as error:
            return httpx.Response(599, text=repr(error))

    async def register(self, agent: str, capability: str) -> None:
        await self.call("POST", "/agents", json={"agent_id": agent, "capabilities": [capability]})

    async def submit(self) -> None:
        while not self.stopping:
            body = {"task_type": "review", "required_capabilities": [CAPABILITY]}
            headers = {"Idempotency-Key": f"{CAPABILITY}-{len(self.submitted)}-{len(self.failed)}"}
            answer = await self.call("POST", "/tasks", json=body, headers=headers)
            self.submitted += [answer["task_id"]] if answer else []
            await asyncio.sleep(0.1)

    async def work(self, agent: str) -> None:
        turn = 0
        while not self.stopping or len(self.completed) < len(self.submitted):
            turn += 1
            body = {"agent_id": agent, "claim_id": f"{agent}-{turn}", "block_ms": 500}
            task = (await self.call("POST", "/tasks/claim", json=body)).get("task")
            if task is not None:
                report = {"lease_token": task["lease_token"], "result": 1}
                await self.call("POST", f"/tasks/{task['id']}/complete", json=report)
                self.completed.append(task["id"])

    async def wait_long(self, agent: str) -> None:
        await self.call("POST", "/tasks/claim", json={"agent_id": agent, "block_ms": PATIENT_MS})

    async def read(self) -> None:
        while not self.stopping:
            await self.call("GET", "/tasks", params={"limit": 5})
            await asyncio.sleep(0.1)


async def test_a_new_version_under_load_fails_no_call_and_loses_no_event(system: RunningSystem) -> None:
    fresh = httpx.Limits(max_keepalive_connections=4)
    async with httpx.AsyncClient(base_url=system.api_url, timeout=60, limits=fresh) as http:
        clients = Clients(http)
        for agent in ("rolled-0", "rolled-1"):
            await clients.register(agent, CAPABILITY)
        for agent in ("patient-0", "patient-1"):
            await clients.register(agent, "nothing-of-this")
        listener = Listener(system, await newest(http))
        listening = [asyncio.create_task(listener.read_sse()), asyncio.create_task(listener.read_socket())]
        load = [clients.submit(), clients.read(), clients.work("rolled-0"), clients.work("rolled-1")]
        running = [asyncio.create_task(client) for client in load]
        rollout = Rollout(system, set(replica_states(system)), our_actors(system))
        await eventually(lambda: len(clients.completed) >= 5, 30, what="work before the deployment")
        running += [asyncio.create_task(clients.wait_long(agent)) for agent in ("patient-0", "patient-1")]

        await asyncio.to_thread(lambda: deploy_environment(system, ARAGORA_HTTP_TIMEOUT="61"))
        await eventually(rollout.is_over, 120, what="new replicas and actors alone")
        after = len(clients.completed)
        await eventually(lambda: len(clients.completed) >= after + 5, 30, what="work after the deployment")

        clients.stopping = True
        await asyncio.gather(*running)
        assert not clients.failed
        assert not rollout.unserved
        assert sorted(clients.completed) == sorted(clients.submitted)
        last = await newest(http)
        await eventually(lambda: last in listener.sse and last in listener.socket, 30, what="the last event")
        assert not [task for task in listening if task.done()], listening
        for task in listening:
            task.cancel()
    again = Listener(system, listener.after)
    reading = asyncio.create_task(again.read_sse())
    await eventually(lambda: last in again.sse, 30, what="the whole stream, read at once")
    reading.cancel()
    seen = [[seq for seq in seqs if seq <= last] for seqs in (listener.sse, listener.socket, again.sse)]
    assert seen[0] == seen[1] == seen[2] == sorted(set(seen[2]))
    assert set(listener.close_codes) == {1012}


@dataclass(slots=True)
class Rollout:
    """What was seen of it, look by look."""

    system: RunningSystem
    old_pids: set[int]
    old_actors: set[str]
    #: Looks at which Serve had replicas of the API, and none that serves.
    unserved: int = 0

    async def is_over(self) -> bool:
        try:
            states = await asyncio.to_thread(replica_states, self.system)
            self.unserved += bool(states) and "RUNNING" not in states.values()
            if not states or self.old_pids & states.keys():
                return False
            actors = await asyncio.to_thread(our_actors, self.system)
        except httpx.HTTPError:
            return False
        return not actors & self.old_actors and len(actors) >= len(self.old_actors)
