"""What counts as an attempt of a called agent: calls that were sent, and no others. Agents behind breakers cost nothing."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from actors.roles import AGENT_HOST, SCHEDULER
from cluster.domain.agents.breaker import RESET_S, THRESHOLD, TRIALS, BreakerState
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentMalformed,
    AgentNotCalled,
    AgentTimeout,
    AgentUnavailable,
    PeerError,
)
from cluster.ports.agent_transport import Ask
from cluster.process.clock import ManualClock
from tests.support.agents import a_call
from tests.support.api import Api
from tests.support.called_agents import Endpoint, ask_agent, ended_task
from tests.support.endpoints import serving
from tests.support.probes import eventually

TASKS = 40
KEY = ("default", "a1")


class Agent:
    """A transport that does what the test says, and keeps what was asked of it: calls begin and end when the test wants."""

    def __init__(self, error: PeerError | None = None) -> None:
        self.error, self.asked = error, list[str]()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, ask: Ask) -> Reply:
        self.asked.append(ask.key.rpartition(":")[0])
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Reply(text='{"result": 1}')


async def _hosted(api: Api, agent: Agent) -> tuple[Any, ManualClock]:
    """The host, whose time and calls the test moves."""
    clock = ManualClock(time.time())
    await api.kill(AGENT_HOST)
    host = await api.start(AGENT_HOST, clock=clock)
    host.bounds._ask = agent
    return host, clock


async def _submitted(api: Api, number: int = TASKS, **fields: Any) -> list[str]:
    body = {"task_type": "t", "required_capabilities": ["c"], "max_retries": 0, **fields}
    return list((await api.post("/tasks/batch", {"tasks": [body] * number}))["task_ids"])


async def _advance_until(clock: ManualClock, condition: Callable[[], Any], step_s: float = 0.05) -> None:
    async def advanced() -> Any:
        await clock.advance(step_s)
        reached = condition()
        return await reached if inspect.isawaitable(reached) else reached

    await eventually(advanced, what="after advancing the clock")


async def _no_claim_waits(api: Api) -> bool:
    return int((await api.actor(SCHEDULER).status())["waiting_claims"]) == 0


async def _claims(api: Api) -> int:
    return sum(row.kind == "task.claimed" for row in await api.rows())


async def _explained(api: Api, task_id: str, code: str) -> Any:
    """The task's one reason, if it is the one that is expected: a breaker is stored a moment after it changed."""
    (reason,) = (await api.get(f"/tasks/{task_id}/explain"))["reasons"]
    return reason if reason["code"] == code else None


async def _register(api: Api, **fields: Any) -> None:
    described = {"agent_id": "a1", "endpoint": "http://127.0.0.1:9/", "capabilities": ["c"], "max_concurrency": 5}
    await api.post("/agents", {**described, **fields})


@pytest.mark.parametrize("error", [AgentUnavailable("away"), AgentTimeout("silent")])
async def test_no_task_dies_that_was_not_sent(api: Api, error: PeerError) -> None:
    agent = Agent(error)
    host, clock = await _hosted(api, agent)
    created = await _submitted(api)
    await _register(api)
    await _advance_until(
        clock, lambda: host.bounds.breaker(KEY) and host.bounds.breaker(KEY).state is BreakerState.OPEN
    )
    await eventually(lambda: not host._push._plan.working and not host._push._plan.waiting)
    await eventually(lambda: _no_claim_waits(api))
    sent = len(agent.asked)
    assert THRESHOLD <= sent <= 5 + THRESHOLD
    reason = await eventually(lambda: _explained(api, created[-1], "breaker_open"))
    assert reason["at"] == host.bounds.breaker(KEY).changed_at + RESET_S

    await clock.advance(RESET_S - 1.0)
    assert len(agent.asked) == sent
    agent.error = None
    await _advance_until(clock, lambda: len(agent.asked) == TASKS)
    ended = [await ended_task(api, task_id) for task_id in created]
    assert {task["id"] for task in ended if task["status"] == "failed"} <= set(agent.asked[:sent])
    assert sum(task["status"] == "completed" for task in ended) == TASKS - sent
    assert len(set(agent.asked)) == len(agent.asked) == TASKS, "each was sent once"


async def test_a_half_open_breaker_is_given_the_trials_and_no_more(api: Api) -> None:
    agent = Agent(AgentUnavailable("away"))
    host, clock = await _hosted(api, agent)
    await _submitted(api)
    await _register(api, max_concurrency=20)
    await _advance_until(
        clock, lambda: host.bounds.breaker(KEY) and host.bounds.breaker(KEY).state is BreakerState.OPEN
    )
    await eventually(lambda: not host._push._plan.working)
    sent = len(agent.asked)
    before = await _claims(api)
    agent.gate.clear()
    await clock.advance(RESET_S)
    await eventually(lambda: len(agent.asked) == sent + TRIALS)
    await eventually(lambda: not host._push._plan.waiting)
    assert sum(len(tasks) for tasks in host._push._plan.working.values()) == TRIALS
    assert await _claims(api) - before == len(agent.asked) - sent == TRIALS, "nothing was claimed to be given back"
    agent.gate.set()
    await eventually(lambda: host.bounds.breaker(KEY).state is BreakerState.OPEN)
    agent.error = None
    await clock.advance(RESET_S)
    await _advance_until(clock, lambda: len(agent.asked) == TASKS)


async def test_a_lease_that_comes_when_the_breaker_has_opened_goes_back(api: Api) -> None:
    agent = Agent()
    host, clock = await _hosted(api, agent)
    await _register(api)
    await eventually(lambda: bool(host._push._plan.waiting))
    exchange, late = host._shard, list[Any]()
    deliver = exchange._deliver
    exchange._deliver = lambda number, answer: late.append((number, answer))
    (created,) = await _submitted(api, 1)
    await eventually(lambda: any(getattr(answer, "leases", ()) for _, answer in late))
    agent.error = AgentUnavailable("away")
    for number in range(THRESHOLD):
        with pytest.raises(AgentUnavailable):
            await ask_agent(api, a_call("a1", key=f"k{number}"))
    exchange._deliver = deliver
    for number, answer in late:
        deliver(number, answer)

    async def is_back() -> bool:
        return bool((await api.get(f"/tasks/{created}"))["status_detail"] == "queued")

    await eventually(is_back)
    rows = [row for row in await api.rows(created) if row.kind == "task.requeued"]
    assert [row.data["reason"] for row in rows] == ["not_delivered"]
    agent.error = None
    await clock.advance(RESET_S)
    task = await ended_task(api, created)
    assert (task["status"], task["retries"], agent.asked.count(created)) == ("completed", 0, 1)


async def test_a_group_goes_on_while_some_of_it_are_behind_breakers(api: Api) -> None:
    host, clock = await _hosted(api, Agent())
    well, away = Agent(), Agent(AgentUnavailable("away"))

    async def ask(ask: Ask) -> Reply:
        return await (away if ask.agent_id.startswith("a") else well)(ask)

    host.bounds._ask = ask
    for name in ("a1", "a2", "b1"):
        await _register(api, agent_id=name)
    created, began = await _submitted(api, max_retries=5), clock.now()

    async def all_ended() -> bool:
        ended = [row.entity for row in await api.rows() if row.kind == "task.completed"]
        return sorted(ended) == sorted(created)

    await _advance_until(clock, all_ended)  # also what the host tries again after a moment
    trials = TRIALS * math.floor((clock.now() - began) / RESET_S)  # a busy machine may let a breaker become half open
    assert len(away.asked) <= 2 * (5 + THRESHOLD + trials)


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (AgentLimited("busy", None, 90.0), 0),
        (AgentUnavailable("busy", None, 90.0), 1),
        (AgentLimited("busy", None, 7200.0), 0),
        (AgentLimited("busy", None, 90.4), 0),
    ],
)
async def test_an_agent_is_not_called_before_it_wants_to_be(api: Api, error: AgentUnavailable, failures: int) -> None:
    agent, wait_s = Agent(error), error.retry_after_s or 0.0
    host, clock = await _hosted(api, agent)
    await _register(api, max_concurrency=1)
    first, *others = await _submitted(api, 6, max_retries=1)
    await _advance_until(clock, lambda: host.bounds.breaker(KEY) and host.bounds.breaker(KEY).retry_at)
    asked_at = clock.now()
    await eventually(lambda: not host._push._plan.working and not host._push._plan.waiting)
    assert (len(agent.asked), host.bounds.breaker(KEY).failures) == (1, failures)
    task = await api.get(f"/tasks/{agent.asked[0]}")
    assert (task["status_detail"], task["retries"]) == ("retrying", 1)
    assert task["run_at"] >= asked_at + wait_s - 1.0
    waiting = next(task_id for task_id in (first, *others) if task_id not in agent.asked)
    reason = await eventually(lambda: _explained(api, waiting, "agent_asked_to_wait"))
    assert reason["at"] == host.bounds.breaker(KEY).retry_at

    with pytest.raises(AgentNotCalled) as refused:
        await ask_agent(api, a_call("a1", timeout_s=5.0))
    assert refused.value.retry_after_s == pytest.approx(wait_s, abs=1.0)
    agent.error = None
    await clock.advance(host.bounds.breaker(KEY).retry_at - clock.now() - 0.5)
    assert len(agent.asked) == 1
    await _advance_until(clock, lambda: len(agent.asked) == 6)
    for task_id in {first, *others} - {agent.asked[0]}:
        ended = await ended_task(api, task_id)
        assert (ended["status"], ended["retries"]) == ("completed", 0)


async def test_what_an_agent_wants_outlives_its_host_and_ends_with_a_registration(api: Api) -> None:
    agent = Agent(AgentLimited("busy", None, 3600.0))
    _, clock = await _hosted(api, agent)
    await _register(api, max_concurrency=1)
    await _submitted(api, 1)
    await _advance_until(clock, lambda: agent.asked)

    async def stored() -> Any:
        return [found for found in await api.stores.breakers.load() if found.breaker.retry_at is not None]

    await eventually(stored)
    successor = Agent()
    await _hosted(api, successor)
    (created,) = await _submitted(api, 1)
    with pytest.raises(AgentNotCalled):
        await ask_agent(api, a_call("a1", timeout_s=5.0))
    assert not successor.asked
    await _register(api, max_concurrency=1)
    assert (await ended_task(api, created))["status"] == "completed"


async def test_a_deliberations_call_waits_if_the_agents_time_comes_within_its_own(api: Api) -> None:
    agent = Agent(AgentLimited("busy", None, 4.0))
    await _register(api)  # before the host starts: a registration that it reads later ends the agent's wish to wait
    _, clock = await _hosted(api, agent)
    with pytest.raises(AgentLimited):
        await ask_agent(api, a_call("a1", key="k1"))
    agent.error = None
    asked = ask_agent(api, a_call("a1", key="k2", timeout_s=60.0))
    await clock.advance(3.0)
    assert len(agent.asked) == 1
    await _advance_until(clock, lambda: asked.done(), step_s=0.2)
    assert len(agent.asked) == 2


@pytest.mark.parametrize(
    ("error", "status", "retry_in_s"),
    [
        (AgentFailed("it cannot do this"), "failed", None),
        (AgentFailed("it cannot do this", None, 600.0), "pending", 600.0),
        (AgentMalformed("it cannot do this"), "failed", None),
    ],
)
async def test_an_error_of_the_application_is_the_tasks(
    api: Api, error: PeerError, status: str, retry_in_s: float | None
) -> None:
    agent = Agent(error)
    host, clock = await _hosted(api, agent)
    await _register(api)
    created = await _submitted(api, 9, max_retries=0 if retry_in_s is None else 1)
    await _advance_until(clock, lambda: len(agent.asked) == 9)

    async def reported() -> Any:
        tasks = [await api.get(f"/tasks/{task_id}") for task_id in created]
        return tasks if all("it cannot do this" in (task["error"] or "") for task in tasks) else None

    tasks = await eventually(reported)
    assert {task["status"] for task in tasks} == {status}
    if retry_in_s is not None:
        assert all(task["run_at"] > time.time() + retry_in_s - 60.0 for task in tasks)
    breaker = host.bounds.breaker(KEY)
    assert (breaker.state, breaker.failures, breaker.retry_at) == (BreakerState.CLOSED, 0, None)
    monitor = await api.start_health_monitor()
    await monitor.probes.look_at_breakers()
    assert (await api.get("/agents/a1"))["health"] != "failed"
    agent.error = None
    (other,) = await _submitted(api, 1)
    assert (await ended_task(api, other))["status"] == "completed"


async def test_a_task_that_the_agents_own_rate_refuses_costs_no_attempt(api: Api) -> None:
    agent = Agent()
    _, clock = await _hosted(api, agent)
    created = await _submitted(api, 3, timeout_seconds=5)
    await _register(api, rate={"per_minute": 1, "burst": 1})
    await _advance_until(clock, lambda: len(agent.asked) == 3, step_s=0.5)
    for task_id in created:
        ended = await ended_task(api, task_id)
        assert (ended["status"], ended["retries"]) == ("completed", 0)


async def test_slots_that_deliberations_use_are_not_claimed_for(api: Api) -> None:
    agent = Agent()
    host, _ = await _hosted(api, agent)
    agent.gate.clear()
    await _register(api, max_concurrency=2)
    calls = [ask_agent(api, a_call("a1", key=f"k{number}:")) for number in range(2)]
    await eventually(lambda: len(agent.asked) == 2)
    created = await _submitted(api, 2, timeout_seconds=5)
    await eventually(lambda: not host._push._plan.waiting)
    assert {(await api.get(f"/tasks/{task_id}"))["status"] for task_id in created} == {"pending"}
    agent.gate.set()
    await asyncio.gather(*calls)
    for task_id in created:
        assert (await ended_task(api, task_id))["attempt"] == 1


@pytest.mark.parametrize(("reason", "shown"), [("length", {"finish_reason": "length"}), ("", {})])
async def test_a_chats_result_says_why_the_model_stopped(api: Api, reason: str, shown: dict[str, str]) -> None:
    host, _ = await _hosted(api, Agent())

    async def ask(ask: Ask) -> Reply:
        return Reply(text="Paris", input_tokens=3, output_tokens=4, finish_reason=reason)

    host.bounds._ask = ask
    await _register(api, transport="openai", model="m")
    (created,) = await _submitted(api, 1, payload={"prompt": "Where?"})
    usage = {"input_tokens": 3, "output_tokens": 4, "estimated": False}
    assert (await ended_task(api, created))["result"] == {"text": "Paris", "usage": usage, **shown}


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_of_a_real_server_moves_the_next_attempt(api: Api, status: int) -> None:
    endpoint = Endpoint(httpx.Response(status, headers={"retry-after": "90"}), {"result": 1})
    async with serving(endpoint) as url:
        await _register(api, endpoint=url)
        (created,) = await _submitted(api, 1, max_retries=1)

        async def retrying() -> Any:
            task = await api.get(f"/tasks/{created}")
            return task if task["status_detail"] == "retrying" else None

        task = await eventually(retrying)
        assert task["run_at"] > time.time() + 60.0
        assert len(endpoint.asked) == 1
