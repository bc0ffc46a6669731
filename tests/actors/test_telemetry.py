"""Counters follow the log, so they are exact whenever an actor is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from actors.roles import TELEMETRY
from actors.telemetry import Telemetry
from cluster.domain.agents.agent import Agent
from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.metrics import Increment
from cluster.domain.tasks.events import Claim, Complete, Fail, Reporter
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import Priority
from cluster.embedded.ports import free_ports
from cluster.ports.agents import AgentStore
from cluster.ports.clock import Clock
from cluster.ports.tasks import SubmitItem
from cluster.ports.telemetry import AgentCounters, TelemetryStore
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock, SystemClock
from tests.actors.test_sealer import seal_all, sealer
from tests.support.api import Api
from tests.support.probes import eventually
from tests.support.samples import NOW, new_task, registration, system_event


class Faulty:
    """The real store; a save can be lost before it is made, or its answer after."""

    def __init__(self, store: TelemetryStore) -> None:
        self._store = store
        self.fault = ""

    async def load(self, name: str) -> tuple[int, Mapping[str, Any]]:
        return await self._store.load(name)

    async def save(self, name: str, cursor: int, snapshot: Mapping[str, Any], agents: Sequence[AgentCounters]) -> bool:
        fault, self.fault = self.fault, ""
        if fault == "before":
            raise StoreUnavailable("away")
        saved = await self._store.save(name, cursor, snapshot, agents)
        if fault == "after":
            raise StoreUnavailable("the answer was lost")
        return saved


async def _alone() -> dict[str, Any]:
    """The status of a region without peers."""
    return {"epoch": 1}


class Bench:
    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.store = Faulty(stores.telemetry)
        self.clock: Clock = SystemClock()
        self.actor: Telemetry | None = None
        self.listen: tuple[str, int] | None = None

    async def start(self) -> Telemetry:
        self.actor = Telemetry(
            log=self.stores.log, clock=self.clock, agents=self.stores.agents,
            tasks=self.stores.tasks, audit=self.stores.seals, zone=self.stores.epoch.region, store=self.store,
            listen=self.listen, readings=self.stores.readings, followers={}, region=_alone,
        )  # fmt: skip
        await self.actor.start()
        return self.actor

    async def kill(self) -> None:
        assert self.actor is not None
        await self.actor.stop()
        self.actor = None

    async def work(self, count: int) -> None:
        """Tasks of agent a1: every third fails for good, the rest complete."""
        fence = await self.stores.tasks.take_generation("s", "test")
        for n in range(count):
            task = new_task(max_retries=0, priority=Priority.HIGH)
            await self.stores.tasks.submit([SubmitItem(task=task)])
            claim = step(task.head(), Claim(agent_id="a1", claim_id="c", principal="p"), NOW + 1, RetryPolicy())
            by = Reporter(principal="p", agent_id="a1", attempt=1)
            event = Fail(by=by, error="no") if n % 3 == 2 else Complete(by=by)
            end = step(claim.head, event, NOW + 3, RetryPolicy())
            for transition in (claim, end):
                assert transition.decision is not None
                (done,) = await self.stores.tasks.decide(fence, [transition.decision])
                assert done.applied

    async def check(self) -> None:
        """The numbers are those of the log."""
        assert self.actor is not None
        kinds = Counter(row.kind for row in await self.stores.log.read(0, 100_000))
        values = numbers(await self.actor.render())
        assert total(values, "aragora_cp_tasks_submitted_total") == kinds["task.submitted"]
        assert total(values, "aragora_cp_tasks_completed_total") == kinds["task.completed"]
        assert total(values, "aragora_cp_tasks_failed_total") == kinds["task.dead_lettered"]
        assert total(values, "aragora_cp_task_duration_seconds_count") == kinds["task.completed"]
        await self.actor.save()
        agent = await self.stores.agents.get("w", "a1")
        assert agent is not None
        assert (agent.tasks_completed, agent.tasks_failed) == (kinds["task.completed"], kinds["task.dead_lettered"])


def numbers(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(values: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str) -> float:
    return sum(value for (family, _), value in values.items() if family == name)


@pytest.fixture
async def bench(stores: Stores) -> AsyncIterator[Bench]:
    made = Bench(stores)
    await stores.agents.register([registration("a1")])
    await made.start()
    yield made
    if made.actor is not None:
        await made.kill()


@pytest.mark.parametrize("fault", ["", "before", "after"])
@pytest.mark.parametrize("repeated", [True, False])
async def test_counts_are_exact_wherever_the_actor_dies(bench: Bench, fault: str, repeated: bool) -> None:
    actor = bench.actor
    assert actor is not None
    await bench.work(3)
    await actor.render()
    bench.store.fault = fault
    if fault:
        with pytest.raises(StoreUnavailable):
            await actor.save()
    else:
        await actor.save()
    await bench.work(3)
    if repeated:
        await actor.render()
        await actor.save()
    await bench.kill()
    await bench.work(3)
    await bench.start()
    await bench.check()
    await bench.kill()
    await bench.start()
    await bench.check()


async def test_an_actor_that_was_never_saved_counts_from_the_beginning(bench: Bench) -> None:
    await bench.work(4)
    await bench.kill()
    await bench.start()
    await bench.check()


async def test_two_telemetry_actors_at_once_count_nothing_twice(bench: Bench) -> None:
    """A successor beside its predecessor: whose cursor is not ahead saves nothing."""
    first = bench.actor
    assert first is not None
    await bench.work(3)
    await first.render()
    second = await bench.start()
    await asyncio.gather(first.save(), second.save())
    await first.stop()
    await bench.work(2)
    await bench.kill()
    await bench.start()
    await bench.check()


async def test_increments_are_merged_and_gauges_are_of_now(bench: Bench) -> None:
    actor = bench.actor
    assert actor is not None
    labels = ("GET", "/x", "200")
    for _ in range(2):
        await actor.push([Increment(name="aragora_http_requests_total", labels=labels, amount=2)])
    await bench.stores.tasks.submit([SubmitItem(task=new_task(priority=Priority.URGENT)) for _ in range(3)])
    values = numbers(await actor.render())
    assert total(values, "aragora_http_requests_total") == 4
    assert values["aragora_cp_task_queue_depth", (("priority", "urgent"),)] == 3


async def test_what_the_directory_could_not_read_is_counted_once(bench: Bench) -> None:
    """The rows of a batch are applied again after a failure in the middle."""
    actor = bench.actor
    assert actor is not None
    await bench.stores.agents.register([registration("a2")])
    await bench.work(1)
    actor._directory._store = _Away(bench.stores.agents)
    values = numbers(await actor.render())
    assert total(values, "aragora_cp_store_readable") == 0
    actor._directory._store = bench.stores.agents
    await bench.check()
    assert total(numbers(await actor.render()), "aragora_cp_store_readable") == 1


class _Away:
    """A store of agents that is away for look-ups."""

    def __init__(self, store: AgentStore) -> None:
        self._store = store

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Agent]:
        raise StoreUnavailable("away")


async def test_the_api_serves_its_own_figures_while_telemetry_is_away(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1", "capabilities": ["x"]})
    for n in range(3):
        task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
        await api.get(f"/tasks/{task_id}")
        assert n == 0 or (await api.call("GET", f"/tasks/unknown-{n}")).status_code == 404
    text = (await api.client.get("/metrics")).text
    values = numbers(text)
    assert total(values, "aragora_cp_tasks_submitted_total") == 3
    assert values["aragora_cp_agents_active", (("capability", "x"),)] == 1
    seen = {
        dict(labels)["endpoint"]: value
        for (name, labels), value in values.items()
        if name == "aragora_http_requests_total"
    }
    assert "unknown-1" not in text
    assert all("task_" not in endpoint or "{" in endpoint for endpoint in seen), seen
    await api.kill(TELEMETRY)
    away = await api.client.get("/metrics")
    assert away.status_code == 200
    own = numbers(away.text)
    assert total(own, "aragora_cp_metrics_complete") == 0
    assert total(own, "aragora_cp_store_readable") == 1
    assert total(own, "process_resident_memory_bytes") > 0
    # A counter that is not known is left out: 0 would look as if it had begun anew.
    assert not [name for name, _ in own if name.startswith("aragora_") and name.endswith(("_total", "_count"))]
    await api.start(TELEMETRY)
    again = numbers((await api.client.get("/metrics")).text)
    assert total(again, "aragora_cp_metrics_complete") == 1
    assert total(again, "aragora_cp_tasks_submitted_total") == 3


async def test_the_lag_of_a_sealer_that_is_dead_is_known(bench: Bench) -> None:
    await bench.kill()
    bench.clock = ManualClock(NOW)
    telemetry = await bench.start()

    async def lag() -> tuple[float, float]:
        values = numbers(await telemetry.render())
        return total(values, "aragora_audit_lag_seconds"), total(values, "aragora_audit_lag_rows")

    await seal_all(sealer(bench.stores))
    assert await lag() == (0.0, 0.0)
    await bench.stores.log.append([replace(system_event(f"e{age}"), at=NOW - age) for age in (90.0, 30.0, 5.0)])
    assert await lag() == (90.0, 3.0)
    await bench.stores.pool.execute("update region_state set role = 'secondary'")
    assert await lag() == (0.0, 0.0), "another region seals"
    await bench.stores.pool.execute("update region_state set role = 'primary'")
    await seal_all(sealer(bench.stores))
    assert await lag() == (0.0, 0.0)


async def test_what_no_row_tells_is_counted_all_the_same(api: Api) -> None:
    """Heartbeats, refused registrations, decisions of policies; and how the processes are."""
    await api.post("/policies", {"name": "Short", "task_types": ["quick"], "sla": {"max_execution_seconds": 60}})
    await api.post("/agents", {"agent_id": "a1"})
    await api.post("/agents/a1/heartbeat", {})
    assert (await api.call("POST", "/agents", {"agent_id": ""})).is_client_error
    await api.post("/tasks", {"task_type": "echo"})
    refused = await api.call("POST", "/tasks", {"task_type": "quick", "timeout_seconds": 61})
    assert refused.status_code == 403
    await api.actor(TELEMETRY).measure()
    values = numbers((await api.client.get("/metrics")).text)
    assert values["aragora_cp_agent_heartbeats_total", (("status", "stored"),)] == 2, "to register is a sign of life"
    assert values["aragora_cp_agents_registered_total", (("status", "failure"),)] == 1
    assert values["aragora_cp_agents_registered_total", (("status", "success"),)] == 1
    decisions = "aragora_cp_policy_decisions_total"
    assert values[decisions, (("decision", "allow"), ("policy_type", "none"))] == 1
    assert values[decisions, (("decision", "deny"), ("policy_type", "sla"))] == 1
    assert total(values, "aragora_cp_policy_violations_total") == 1
    assert total(values, "aragora_cp_policy_check_latency_seconds_count") == 2
    followers = {dict(labels)["follower"] for name, labels in values if name == "aragora_cp_log_lag_seconds"}
    assert followers == {"metrics", "scheduler", "api"}
    processes = {dict(labels)["process"] for name, labels in values if name == "aragora_cp_loop_lag_seconds"}
    assert processes == {"api", "telemetry", "region-leader", "scheduler", "agent-host", "deliberation"}
    api_connections = {
        dict(labels)["state"]: value
        for (name, labels), value in values.items()
        if name == "aragora_cp_store_connections" and dict(labels)["process"] == "api"
    }
    assert sum(api_connections.values()) == 16
    assert values["aragora_cp_region_epoch", ()] >= 1
    assert values["aragora_cp_region_primary", ()] == 1
    assert "aragora_cp_region_in_sync" not in {name for name, _ in values}, "a region alone has no in-sync set"


async def test_slow_calls_are_exemplars_for_who_reads_openmetrics(api: Api) -> None:
    await api.call("GET", "/tasks", headers={"X-Request-ID": "trace-of-mine"})
    plain = await api.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "trace-of-mine" not in plain.text
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    open_metrics = await api.client.get("/metrics", headers=accept)
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = openmetrics_families(open_metrics.text)
    exemplars = [
        sample.exemplar.labels["trace_id"]
        for family in families
        for sample in family.samples
        if sample.exemplar is not None and sample.labels["endpoint"] == "/tasks"
    ]
    assert exemplars == ["trace-of-mine"]


async def test_a_port_of_its_own_serves_what_is_measured_beside(bench: Bench) -> None:
    """Without one nothing is measured: nobody would look."""
    assert bench.actor is not None
    assert total(numbers(await bench.actor.render()), "aragora_cp_region_epoch") == 0
    await bench.kill()
    bench.listen = ("127.0.0.1", *free_ports(1))
    await bench.start()
    async with httpx.AsyncClient(verify=False) as client:
        url = f"http://127.0.0.1:{bench.listen[1]}/metrics"

        async def scraped() -> str:
            try:
                text = (await client.get(url, headers={"Accept": "application/openmetrics-text"})).text
            except httpx.TransportError:
                return ""
            return text if "aragora_cp_dead_letters 0.0" in text and "aragora_cp_region_epoch 1.0" in text else ""

        assert (await eventually(scraped)).endswith("# EOF\n")
        plain = await client.get(url)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert total(numbers(plain.text), "aragora_cp_region_epoch") == 1
