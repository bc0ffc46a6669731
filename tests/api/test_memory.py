"""Actors that use more memory than their bound: real actors, their real processes' memory, and the supervisor's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from actors import failing_commits
from actors.composition.memory_keeper import memory_keeper
from actors.memory_keeper import LOOK_S
from actors.process_report import MEMORY
from actors.roles import desired_roles
from actors.supervisor import Supervisor
from cluster.cli.commands.doctor import examine
from cluster.domain.actor_memory import APART_S, LOOKS
from cluster.domain.base.errors import ActorUnavailable
from cluster.process.clock import ManualClock
from cluster.process.memory import resident_bytes
from tests.api.test_dedicated_agents import InProcessBackend
from tests.api.test_worker import submit
from tests.support.api import Api, api_settings
from tests.support.probes import eventually

#: Every Python process of a test uses more.
LEAST_MB = 128


class Processes(InProcessBackend):
    """Restarts actors as Ray does: killed, and made again."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.restarted: list[str] = []

    async def memory(self, name: str, notice: str) -> tuple[int, int]:
        if name not in self._api.processes:
            raise ActorUnavailable("away")
        pid, resident = await self._api.processes[name].call(MEMORY, notice)
        return pid, resident

    async def restart(self, name: str) -> None:
        self.restarted.append(name)
        await self._api.kill_role(self._names[name])


class Watched:
    """The whole control plane and its supervisor, whose clock the test moves."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.backend = Processes(api)
        self.clock = ManualClock()
        api.resources.clock = self.clock
        self.supervisor = Supervisor(
            holder="test",
            roles=desired_roles(api.settings),
            backend=self.backend,
            agents=api.stores.agents,
            names=api.stores.names,
            leases=api.stores.leases,
            clock=self.clock,
            memory=memory_keeper(api.resources, self.backend, api._resolve),
        )

    async def look(self, seconds: float = LOOK_S) -> None:
        await self.clock.advance(seconds)
        assert await self.supervisor.reconcile()

    async def warnings(self) -> dict[str, list[str]]:
        detailed = (await self.api.client.get("/health/detailed")).json()
        return {part["name"]: part["warnings"] for part in detailed["components"] if "warnings" in part}

    async def stop(self) -> None:
        await self.supervisor.stop()


async def _watched(store_urls: Any, schema: str, bound_mb: int) -> AsyncIterator[Watched]:
    async with Api(api_settings(store_urls, schema, actor_memory_mb=bound_mb)).running(()) as api:
        watched = Watched(api)
        await watched.supervisor.reconcile()
        yield watched
        await watched.stop()


@pytest.fixture
async def small(store_urls: Any, schema: str) -> AsyncIterator[Watched]:
    async for watched in _watched(store_urls, schema, LEAST_MB):
        yield watched


@pytest.fixture
async def generous(store_urls: Any, schema: str) -> AsyncIterator[Watched]:
    async for watched in _watched(store_urls, schema, 65_536):
        yield watched


async def test_actors_above_the_bound_are_restarted_one_at_a_time_and_serve(small: Watched) -> None:
    assert resident_bytes() > LEAST_MB * 1024 * 1024
    accepted = [await submit(small.api)]
    for _ in range(LOOKS):
        await small.look()
    assert len(small.backend.restarted) == 1
    for _ in range(3):
        await small.look()
    assert len(small.backend.restarted) == 1, "not within a minute of the first"
    roles = len(desired_roles(small.api.settings))
    for _ in range(roles - 1):
        await small.look(APART_S)
        await small.look()
    assert sorted(small.backend.restarted) == sorted(role.key for role in desired_roles(small.api.settings))
    await small.look()
    said = await small.warnings()
    assert len(said) == roles
    assert all("restarts did not help" in words[-1] for words in said.values()), said
    accepted.append(await submit(small.api))
    for task_id in accepted:
        assert (await small.api.get(f"/tasks/{task_id}"))["status"] == "pending"
    text = (await small.api.client.get("/metrics")).text
    assert 'aragora_cp_actor_memory_restarts_total{actor="scheduler-0"} 1.0' in text
    findings = await examine(small.api.settings.model_copy(update={"api_url": small.api.url}), 60.0)
    assert any("ARAGORA_ACTOR_MEMORY_MB" in finding.detail for finding in findings)


async def test_actors_below_the_bound_are_left_alone_and_measured(generous: Watched) -> None:
    for _ in range(LOOKS + 1):
        await generous.look()
    assert (generous.backend.restarted, await generous.warnings()) == ([], {})
    text = (await generous.api.client.get("/metrics")).text
    shown = [line for line in text.splitlines() if line.startswith("aragora_cp_actor_memory_bytes{")]
    assert len(shown) == len(desired_roles(generous.api.settings))
    assert all(float(line.split()[-1]) > 10_000_000 for line in shown)


async def test_commits_that_fail_again_and_again_are_said(generous: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing_commits, "MOMENT_S", 0.01)
    api = generous.api
    pool, schema = api.stores.pool, api.settings.database_schema
    await pool.execute(
        f"create function {schema}.refuse() returns trigger language plpgsql as "
        "$$ begin raise exception 'refused' using errcode = '23514'; end $$"
    )
    await pool.execute(f"create trigger refuse before insert on {schema}.tasks execute function {schema}.refuse()")

    async def said() -> bool:
        failed: httpx.Response = await api.call("POST", "/tasks", {"task_type": "x"})
        assert failed.status_code >= 500
        await api.client.get("/metrics")  # the replica sends what it counted
        return any(
            "Commits fail again and again" in word for words in (await generous.warnings()).values() for word in words
        )

    await eventually(said, 60)
    text = (await api.client.get("/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("aragora_cp_commit_failures_total")]
    assert 'sqlstate_class="23"' in line
