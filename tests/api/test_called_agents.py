"""Agents that are called at their endpoints, through the host and the shard: answers, limits and tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from actors.agents.questions import HOUSEKEEPING_S
from actors.roles import AGENT_HOST, SCHEDULER
from cluster.agent_transports import chat
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.base.errors import AgentNotCalled, AgentTimeout, AgentUnavailable
from cluster.domain.tasks.task import LeaseToken
from cluster.process.clock import ManualClock, SystemClock
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeReply
from tests.support.agents import a_call
from tests.support.api import Api
from tests.support.called_agents import Endpoint, ask_agent, ended_task
from tests.support.endpoints import a2a_server, completion, serving
from tests.support.probes import eventually


async def test_usage_of_a_called_agent_is_reported(api: Api) -> None:
    endpoint = Endpoint({"text": "yes", "input_tokens": 3, "output_tokens": 4})
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        assert await ask_agent(api, a_call("a1")) == Reply(text="yes", tokens=7, input_tokens=3, output_tokens=4)


async def test_failed_calls_open_a_breaker_that_holds_over_restarts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_BACKOFF_S", 3600.0)  # each is one call: its second would come too late
    endpoint = Endpoint(httpx.Response(503))
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        for number in range(3):
            with pytest.raises(AgentUnavailable):
                await ask_agent(api, a_call("a1", key=f"k{number}"))

        async def opened() -> Any:
            return [breaker for breaker in (await api.get("/breakers"))["breakers"] if breaker["state"] == "open"]

        (breaker,) = await eventually(opened)
        assert set(breaker) == {
            "name",
            "state",
            "failure_count",
            "success_count",
            "last_failure",
            "reset_timeout_ms",
        }
        assert (breaker["name"], breaker["failure_count"], breaker["reset_timeout_ms"]) == ("health_a1", 3, 60_000)
        calls = len(endpoint.asked)
        await api.kill(AGENT_HOST)
        await api.start(AGENT_HOST)
        with pytest.raises(AgentUnavailable, match="is not called"):
            await ask_agent(api, a_call("a1", key="k9"))
        assert len(endpoint.asked) == calls
        monitor = await api.start_health_monitor()
        await monitor.probes.look_at_breakers()
        assert (await api.get("/agents/a1"))["status"] == "failed"


async def test_a_call_leaves_when_its_region_lets_it_leave(api: Api) -> None:
    """One that may not is none: its task is given back, and it says nothing about the agent."""
    endpoint = Endpoint({"text": "yes"})
    waits, may = asyncio.Event(), asyncio.Event()
    refused = 4  # more than a breaker takes

    async def may_leave() -> None:
        nonlocal refused
        waits.set()
        await may.wait()
        if refused:
            refused -= 1
            raise AgentNotCalled("What it rests on is not replicated yet.", "not_replicated")

    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        api.actor(AGENT_HOST).bounds._may_leave = may_leave
        task_id = (await api.post("/tasks", {"task_type": "echo", "target_agent": "a1"}))["task_id"]
        await waits.wait()
        assert endpoint.asked == []
        may.set()
        assert (await ended_task(api, task_id))["status"] == "completed"
        assert (refused, len(endpoint.asked)) == (0, 1)
        listed = (await api.get("/breakers"))["breakers"]
        assert [breaker for breaker in listed if breaker["failure_count"]] == []


async def test_hanging_calls_count_against_their_agent_and_withdrawn_ones_do_not(api: Api) -> None:
    endpoint = Endpoint()
    endpoint.gate.clear()

    async def failures(state: str) -> int:
        listed = (await api.get("/breakers"))["breakers"]
        return max((breaker["failure_count"] for breaker in listed if breaker["state"] == state), default=0)

    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        for number in range(2):
            with pytest.raises(AgentTimeout):
                await ask_agent(api, a_call("a1", key=f"k{number}", timeout_s=0.3))
        await eventually(lambda: failures("closed"))
        before = len(endpoint.asked)
        withdrawn = ask_agent(api, a_call("a1", key="k2"))
        await eventually(lambda: len(endpoint.asked) > before)
        withdrawn.cancel()
        await asyncio.gather(withdrawn, return_exceptions=True)
        with pytest.raises(AgentTimeout):
            await ask_agent(api, a_call("a1", key="k3", timeout_s=0.3))
        assert await eventually(lambda: failures("open")) == 3


async def test_slots_and_rate_bound_what_is_asked_at_once(api: Api) -> None:
    endpoint = Endpoint()
    endpoint.gate.clear()
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url, "max_concurrency": 2})
        asked = [ask_agent(api, a_call("a1", key=f"k{number}")) for number in range(5)]
        await eventually(lambda: len(endpoint.asked) == 2)
        endpoint.gate.set()
        await asyncio.gather(*asked)
        limited = {"agent_id": "a2", "endpoint": url, "max_concurrency": 5, "rate": {"per_minute": 1, "burst": 2}}
        await api.post("/agents", limited)
        outcomes = await asyncio.gather(
            *(ask_agent(api, a_call("a2", key=f"r{number}")) for number in range(3)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, AgentUnavailable)]
        assert [error.retry_after_s is not None and error.retry_after_s > 20 for error in refused] == [True]


async def test_calls_of_a_dead_caller_are_cancelled_and_the_caller_is_forgotten(api: Api) -> None:
    clock = ManualClock(time.time())
    await api.kill(AGENT_HOST)
    host = await api.start(AGENT_HOST, clock=clock)
    endpoint = Endpoint()
    endpoint.gate.clear()
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})

        async def exchange(caller: str, *calls: AgentCall) -> ExchangeReply:
            return await api.processes[f"{AGENT_HOST}-0"].run(
                host.exchange(ExchangeCall(caller=caller, requests=tuple(enumerate(calls))))
            )

        dying = asyncio.ensure_future(exchange("dying", a_call("a1")))
        await eventually(lambda: endpoint.asked)
        known = (await dying).session

        async def given_up() -> bool:
            await clock.advance(HOUSEKEEPING_S)
            return (await host.status())["calls"] == 0

        await eventually(given_up)
        endpoint.gate.set()
        reply = await exchange("dying", a_call("a1", key="turn-2"))
        assert reply.session != known, "it was forgotten"
        assert [answer.text for _, answer in reply.answers] == ["yes"]


async def test_a_withdrawn_call_is_answered_to_its_caller(api: Api) -> None:
    endpoint = Endpoint()
    endpoint.gate.clear()
    host = api.actor(AGENT_HOST)
    client = ExchangeClient("worker", host.exchange, clock=SystemClock())
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        asked = asyncio.ensure_future(client.request(a_call("a1"), long_poll=True))
        await eventually(lambda: endpoint.asked)
        asked.cancel()
        await eventually(lambda: asked.done() and not client._given_up)
        assert (await host.status())["calls"] == 0
    await client.close()


async def test_a_called_agent_is_given_tasks_by_its_host(api: Api) -> None:
    endpoint = Endpoint({"result": {"sum": 3}})
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url, "capabilities": ["add"]})
        body = {"task_type": "add", "payload": {"terms": [1, 2]}, "required_capabilities": ["add"]}
        created = await api.post("/tasks", body)
        task = await ended_task(api, created["task_id"])
        assert (task["status"], task["result"], task["assigned_agent"]) == ("completed", {"sum": 3}, "a1")
        given = endpoint.asked[0]
        assert given["task"] == {
            "id": created["task_id"],
            "task_type": "add",
            "payload": {"terms": [1, 2]},
            "metadata": {},
            "attempt": 1,
            "lease_token": LeaseToken(task_id=created["task_id"], attempt=1, agent_id="a1").encode(),
        }
        assert given["contract"] == 2
        assert given["idempotency_key"] == f"{created['task_id']}:1"


async def test_a_task_that_names_its_agent_reaches_it(api: Api) -> None:
    async with serving(Endpoint({"result": 1})) as url:
        agents = [{"agent_id": f"a{i}", "endpoint": url} for i in range(6)]
        await api.post("/agents/batch", {"agents": agents})
        created = [await api.post("/tasks", {"task_type": "t", "target_agent": f"a{i}"}) for i in (5, 3, 4)]
        ended = [await ended_task(api, answer["task_id"]) for answer in created]
        assert [(task["status"], task["assigned_agent"]) for task in ended] == [
            ("completed", "a5"),
            ("completed", "a3"),
            ("completed", "a4"),
        ]


async def test_tasks_that_name_a_busy_agent_follow_each_other_at_once(api: Api) -> None:
    clock = ManualClock(time.time())  # looking again, which would find them too, never comes
    await api.kill(AGENT_HOST)
    await api.start(AGENT_HOST, clock=clock)
    endpoint = Endpoint({"result": 1})
    endpoint.gate.clear()
    async with serving(endpoint) as url:
        agents = [{"agent_id": f"a{i}", "endpoint": url, "capabilities": ["c"]} for i in range(4)]
        await api.post("/agents/batch", {"agents": agents})
        created = [await api.post("/tasks", {"task_type": "t", "target_agent": "a2"}) for _ in range(4)]
        await _advance_until(clock, lambda: len(endpoint.asked) == 1)
        endpoint.gate.set()
        await _advance_until(clock, lambda: len(endpoint.asked) == 4, step_s=0.005)
        for task in created:
            assert (await ended_task(api, task["task_id"]))["assigned_agent"] == "a2"


async def test_a_claim_for_a_named_task_outlives_changes_among_the_agents(api: Api) -> None:
    clock = ManualClock(time.time())
    await api.kill(AGENT_HOST)
    await api.start(AGENT_HOST, clock=clock)
    async with serving(Endpoint({"result": 1})) as url:
        agents = [{"agent_id": f"a{i}", "endpoint": url} for i in range(6)]
        await api.post("/agents/batch", {"agents": agents})
        soon = [{"task_type": "t", "target_agent": f"a{i}", "delay_seconds": 4.0} for i in (3, 4, 5)]
        created = (await api.post("/tasks/batch", {"tasks": soon}))["task_ids"]

        async def claims_wait() -> bool:
            """Those of the three. Which others wait, and how many, depends on who was chosen before the tasks came."""
            theirs = {"a3", "a4", "a5"} <= {agent_id for _, agent_id in api.actor(AGENT_HOST)._push._plan.waiting}
            return theirs and int((await api.actor(SCHEDULER).status())["waiting_claims"]) >= 3

        await eventually(claims_wait)
        await api.post("/agents", {"agent_id": "a6", "endpoint": url})
        for task_id in created:
            assert (await ended_task(api, task_id))["status"] == "completed"


async def _advance_until(clock: ManualClock, condition: Callable[[], bool], step_s: float = 0.05) -> None:
    async def advanced() -> bool:
        await clock.advance(step_s)
        return condition()

    await eventually(advanced, what="after advancing the clock")


async def test_what_an_agent_is_offered_follows_its_registration_and_its_operator(api: Api) -> None:
    async with serving(Endpoint({"result": 1})) as url:
        for name, capability in (("a1", "x"), ("a2", "y")):
            await api.post("/agents", {"agent_id": name, "endpoint": url, "capabilities": [capability]})

        async def taker(capability: str) -> str:
            created = await api.post("/tasks", {"task_type": "t", "required_capabilities": [capability]})
            return str((await ended_task(api, created["task_id"]))["assigned_agent"])

        assert (await taker("x"), await taker("y")) == ("a1", "a2")
        await api.post("/agents", {"agent_id": "a2", "endpoint": url, "capabilities": ["x", "z"]})
        await api.post("/agents/a1/pause")
        assert (await taker("x"), await taker("z")) == ("a2", "a2")
        await api.post("/agents/a1/resume")
        await api.call("DELETE", "/agents/a2")
        assert await taker("x") == "a1"


async def test_an_agent_that_answers_an_error_fails_its_task(api: Api) -> None:
    async with serving(Endpoint({"error": "cannot", "requeue": False})) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        task = await ended_task(api, (await api.post("/tasks", {"task_type": "t"}))["task_id"])
        assert (task["status"], task["error"]) == ("failed", "cannot")


async def test_tasks_go_to_the_least_loaded_agent(api: Api) -> None:
    busy, idle = Endpoint({"result": 1}), Endpoint({"result": 2})
    busy.gate.clear()
    idle.gate.clear()
    async with serving(busy) as first, serving(idle) as second:
        agents = [
            {"agent_id": name, "endpoint": url, "max_concurrency": 5} for name, url in (("a", first), ("b", second))
        ]
        await api.post("/agents/batch", {"agents": agents})
        created = []
        for number in range(1, 7):
            created.append((await api.post("/tasks", {"task_type": "t"}))["task_id"])
            await eventually(lambda: len(busy.asked) + len(idle.asked) == number)  # noqa: B023
        assert (len(busy.asked), len(idle.asked)) == (3, 3)
        busy.gate.set()
        idle.gate.set()
        for task_id in created:
            assert (await ended_task(api, task_id))["status"] == "completed"


async def test_a_language_model_is_given_tasks_as_chats(api: Api) -> None:
    model = Endpoint(
        completion("It is about queues.", usage={"prompt_tokens": 9, "completion_tokens": 5}),
        completion('Here it is:\n```json\n{"label": "spam"}\n```'),
    )
    async with serving(model) as url:
        described = {"transport": "openai", "endpoint": url, "model": "m1", "capabilities": ["write"]}
        await api.post("/agents", {"agent_id": "writer", **described})

        async def done(payload: Any) -> Any:
            body = {"task_type": "t", "payload": payload, "required_capabilities": ["write"]}
            return await ended_task(api, (await api.post("/tasks", body))["task_id"])

        first = await done({"prompt": "What is it about?", "max_tokens": 50})
        usage = {"input_tokens": 9, "output_tokens": 5, "estimated": False}
        assert first["result"] == {"text": "It is about queues.", "usage": usage}
        asked = model.asked[0]
        assert (asked["model"], asked["max_tokens"]) == ("m1", 50)
        assert asked["messages"] == [{"role": "user", "content": "What is it about?"}]

        schema = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
        messages = [{"role": "system", "content": "Label it."}, {"role": "user", "content": "Buy now!"}]
        second = await done({"messages": messages, "schema": schema})
        assert second["result"]["answer"] == {"label": "spam"}
        asked = model.asked[1]
        assert asked["messages"] == messages
        assert asked["response_format"]["json_schema"]["schema"] == schema


async def test_an_answer_that_does_not_fit_its_schema_is_asked_again(api: Api) -> None:
    model = Endpoint(completion("no idea"), completion("[1, 2]"))
    async with serving(model) as url:
        await api.post("/agents", {"agent_id": "m", "transport": "openai", "endpoint": url, "model": "m"})
        body = {
            "task_type": "t",
            "payload": {"text": "Rate it.", "schema": {"type": "array", "items": {"type": "integer"}}},
            "target_agent": "m",
        }
        task = await ended_task(api, (await api.post("/tasks", body))["task_id"])
        assert (task["status"], task["attempt"], task["result"]["answer"]) == ("completed", 2, [1, 2])
        assert model.asked[0]["messages"] == [{"role": "user", "content": '{"text": "Rate it."}'}]


async def test_a_refused_schema_stands_in_the_error_of_its_task(api: Api) -> None:
    words = "Invalid schema for response_format 'answer'"
    model = Endpoint(httpx.Response(400, json={"error": {"message": words}}), completion("Sure!"))
    async with serving(model) as url:
        await api.post("/agents", {"agent_id": "m", "transport": "openai", "endpoint": url, "model": "m"})
        payload = {"prompt": "Rate it.", "schema": {"type": "object"}}
        body = {"task_type": "t", "payload": payload, "target_agent": "m", "max_retries": 0}
        task = await ended_task(api, (await api.post("/tasks", body))["task_id"])
    assert task["status"] == "failed"
    assert words in task["error"]


def _cut(text: str, finish: str = "length") -> httpx.Response:
    message = {"role": "assistant", "content": text}
    return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": finish}]})


async def test_a_cut_answer_fails_its_attempt_unless_the_task_allows_it(api: Api) -> None:
    model = Endpoint(_cut("The three ri"))
    async with serving(model) as url:
        await api.post("/agents", {"agent_id": "m", "transport": "openai", "endpoint": url, "model": "m"})

        async def done(**payload: Any) -> Any:
            body = {"task_type": "t", "payload": {"prompt": "Name three risks.", **payload}, "target_agent": "m"}
            return await ended_task(api, (await api.post("/tasks", {**body, "max_retries": 0}))["task_id"])

        failed = await done()
        assert failed["status"] == "failed"
        assert "finish_reason: length" in failed["error"]
        allowed = await done(allow_incomplete=True)
        assert (allowed["status"], allowed["result"]["text"]) == ("completed", "The three ri")
        wrong = await done(allow_incomplete="yes")
        assert "payload.allow_incomplete must be true or false" in wrong["error"]
        assert len(model.asked) == 2


async def test_a_cut_answer_in_a_deliberation_is_put_again_to_its_member(api: Api) -> None:
    whole = '{"answer": "A", "rationale": "r", "confidence": "high"}'
    cut, fine = Endpoint(_cut(whole[:20]), _cut(whole, "stop")), Endpoint(_cut(whole, "stop"))
    empty = Endpoint(_cut("", "content_filter"))
    async with serving(cut) as first, serving(fine) as second, serving(empty) as third:
        for name, url in (("cut", first), ("fine", second), ("empty", third)):
            await api.post("/agents", {"agent_id": name, "transport": "openai", "endpoint": url, "model": "m"})
        config = {"agents": ["cut", "fine", "empty"], "options": ["A", "B"], "consensus": "majority", "rounds": 0}
        record = await api.post("/deliberations", {"content": "Which?", "config": config, "timeout_seconds": 20})
    assert record["tally"] == {"A": 2.0}
    assert record["abstained"] == [{"agent": "empty", "reason": "malformed"}]
    assert [len(endpoint.asked) for endpoint in (cut, fine, empty)] == [2, 1, 2]
    assert "finish_reason: length" in str(cut.asked[1]["messages"])


async def test_an_agent_that_registers_again_is_called_by_what_it_says_now(api: Api) -> None:
    former, present = Endpoint({"result": "former"}), Endpoint({"result": "present"})
    async with serving(former) as old, serving(present) as new:
        await api.post("/agents", {"agent_id": "a1", "endpoint": old})
        push = api.actor(AGENT_HOST)._push
        await eventually(lambda: bool(push._plan.waiting))  # its claim waits, made for the former registration
        await api.post("/agents", {"agent_id": "a1", "endpoint": new})
        known = api.actor(AGENT_HOST)._directory
        await eventually(lambda: {agent.endpoint for agent in known.agents()} == {new})
        task = await ended_task(api, (await api.post("/tasks", {"task_type": "t"}))["task_id"])
    assert (task["result"], len(former.asked)) == ("present", 0)


async def test_a_payload_that_cannot_be_a_chat_fails_without_a_retry(api: Api) -> None:
    model = Endpoint(completion("never"))
    async with serving(model) as url:
        await api.post("/agents", {"agent_id": "m", "transport": "openai", "endpoint": url, "model": "m"})
        body = {"task_type": "t", "payload": {"messages": ["hello"]}, "target_agent": "m"}
        task = await ended_task(api, (await api.post("/tasks", body))["task_id"])
        assert (task["status"], task["attempt"]) == ("failed", 1)
        assert "payload.messages must be a list of {role, content}" in task["error"]
        assert not model.asked


async def test_an_anthropic_model_and_an_a2a_agent_take_tasks_too(api: Api) -> None:
    pytest.importorskip("a2a")
    message = httpx.Response(
        200,
        json={
            "content": [{"type": "tool_use", "name": "answer", "id": "t1", "input": {"label": "ham"}}],
            "usage": {"input_tokens": 3, "output_tokens": 2},
        },
    )
    url: list[str] = []

    def says_hello(body: Any) -> Any:
        text = body["params"]["message"]["parts"][0]["text"]
        return {"message": {"messageId": "m1", "role": "ROLE_AGENT", "parts": [{"text": f"You said: {text}"}]}}

    async with serving(Endpoint(message)) as model, serving(a2a_server(url, says_hello)) as spoken:
        url.append(spoken)
        await api.post("/agents", {"agent_id": "claude", "transport": "anthropic", "endpoint": model, "model": "m"})
        await api.post("/agents", {"agent_id": "other", "transport": "a2a", "endpoint": spoken})

        async def done(agent: str, payload: Any) -> Any:
            created = await api.post("/tasks", {"task_type": "t", "payload": payload, "target_agent": agent})
            return (await ended_task(api, created["task_id"]))["result"]

        labelled = await done("claude", {"prompt": "Buy now!", "schema": {"type": "object", "required": ["label"]}})
        assert labelled["answer"] == {"label": "ham"}
        assert (await done("other", {"prompt": "Hello."}))["text"] == "You said: Hello."


async def test_a_task_that_requires_nothing_is_left_to_agents_that_work(api: Api) -> None:
    model = Endpoint(completion("Let me talk about it."))
    async with serving(model) as url:
        for name in ("m1", "m2", "m3"):
            await api.post("/agents", {"agent_id": name, "transport": "openai", "endpoint": url, "model": "m"})
        created = await api.post("/tasks", {"task_type": "resize"})
        explained = await api.get(f"/tasks/{created['task_id']}/explain")
        assert [reason["code"] for reason in explained["reasons"]] == ["no_capable_agent"]
        assert "only agents that chat" in explained["reasons"][0]["message"]
        async with serving(Endpoint({"result": 1})) as worker:
            await api.post("/agents", {"agent_id": "worker", "endpoint": worker})
            assert (await ended_task(api, created["task_id"]))["assigned_agent"] == "worker"
        assert not model.asked


async def test_a_task_of_a_region_reaches_an_agent_that_is_called_there(api: Api) -> None:
    async with serving(Endpoint({"result": 1})) as url:
        agents = [{"agent_id": f"here{i}", "endpoint": url} for i in range(3)]
        await api.post(
            "/agents/batch", {"agents": [*agents, {"agent_id": "there", "endpoint": url, "region_id": "eu"}]}
        )
        body = {"task_type": "t", "target_region": "eu", "region_routing_mode": "strict"}
        created = [await api.post("/tasks", body) for _ in range(3)]
        assert {(await ended_task(api, task["task_id"]))["assigned_agent"] for task in created} == {"there"}


async def test_a_lease_that_arrives_after_its_claim_was_cancelled_is_executed(api: Api) -> None:
    async with serving(Endpoint({"result": 1})) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        host = api.actor(AGENT_HOST)
        push = host._push
        await eventually(lambda: bool(push._plan.waiting))
        (claim,), late = push._claims.values(), []
        exchange = host._shard

        deliver = exchange._deliver

        def held(number: int, answer: Any) -> None:
            late.append((number, answer))

        exchange._deliver = held
        created = await api.post("/tasks", {"task_type": "t"})
        await eventually(lambda: any(getattr(answer, "leases", ()) for _, answer in late))
        claim.cancel()
        await asyncio.gather(claim, return_exceptions=True)
        exchange._deliver = deliver
        for number, answer in late:
            deliver(number, answer)
        task = await ended_task(api, created["task_id"])
        assert (task["status"], task["attempt"]) == ("completed", 1)
