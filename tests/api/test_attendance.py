"""An agent whose call the control plane keeps waiting counts as alive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from actors.roles import SCHEDULER
from cluster.domain.scheduling.requests import ClaimRequest
from serve_app.routes.claims import _granted, _leased
from tests.support.api import Api, api_settings
from tests.support.principals import principal
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

TIMEOUT_S = 3.0
WORKSPACE = "default"


@pytest.fixture
async def brief(store_urls: StoreUrls, schema: str) -> AsyncIterator[TaskApi]:
    """A control plane in which silence is noticed soon."""
    async with Api(api_settings(store_urls, schema, heartbeat_timeout=TIMEOUT_S)).running() as running:
        yield TaskApi(running)


async def test_agents_with_held_calls_count_as_alive_while_the_scheduler_is_away(brief: TaskApi) -> None:
    """One asks for a renewal, others wait behind it; one reports without saying who it is, one waits for work."""
    api = brief.api
    beating = ["b1", "b2", "b3", "b4"]
    for agent_id in [*beating, "reporter", "extender", "claimer"]:
        await brief.agent(agent_id)
    task_id = await brief.submit()
    await brief.claim_one("reporter")
    await brief.submit()
    lease = await brief.claim_one("extender")
    await api.kill(SCHEDULER)
    gone_at = api.gateway.clock.now()
    held = [asyncio.create_task(brief.post(f"/agents/{agent_id}/heartbeat")) for agent_id in beating]
    held.append(asyncio.create_task(brief.post(f"/tasks/{task_id}/complete")))
    extension = {"lease_token": lease["lease_token"]}
    held.append(asyncio.create_task(brief.post(f"/tasks/{lease['id']}/extend", extension)))
    waiting = asyncio.create_task(brief.claim("claimer", block_ms=20_000))

    async def everybody_spoke_later_than_silence_allows() -> bool:
        last = await api.gateway.heartbeats.last(WORKSPACE, [*beating, "reporter", "extender", "claimer"])
        return len(last) == 7 and min(last.values()) > gone_at + TIMEOUT_S

    await eventually(everybody_spoke_later_than_silence_allows, timeout_s=5 * TIMEOUT_S)
    assert not any(call.done() for call in held)
    await api.start(SCHEDULER)
    answers: list[Any] = await asyncio.gather(*held)
    assert [answer.get("acknowledged") for answer in answers[:4]] == [True] * 4
    assert [answers[4], answers[5]["extended"]] == [{"completed": True}, True]
    await brief.submit()
    assert await waiting is not None
    assert api.gateway.attended.take_due() == api.gateway.reported.take_due() == [], "nobody is attended for ever"


async def test_a_call_that_fails_is_not_attended_any_more(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    await tasks.post("/tasks/no-such-task/complete", expect=404)
    await tasks.post("/tasks/claim", {"agent_id": "a1", "block_ms": 0})
    with pytest.raises(KeyError), tasks.api.gateway.attended.of([("w", "x")]):
        raise KeyError
    assert tasks.api.gateway.attended._open == tasks.api.gateway.reported._open == {}


class _Connected:
    """An admitted request whose client stays."""

    scope: ClassVar[dict[str, Any]] = {"state": {"principal": principal("p", WORKSPACE)}}

    async def receive(self) -> dict[str, str]:
        return await asyncio.get_running_loop().create_future()


def _a_claim(after_seq: int = 0) -> ClaimRequest:
    return ClaimRequest(
        workspace=WORKSPACE,
        agent_id="a1",
        principal="p",
        capabilities=frozenset(),
        max_concurrency=2,
        max_tasks=2,
        claim_id="late",
        client_claim_id=False,
        wait=True,
        after_seq=after_seq,
    )


@pytest.mark.parametrize("ends", [False, True])
async def test_a_lease_that_was_lost_on_the_way_is_not_handed_out(tasks: TaskApi, ends: bool) -> None:
    """The lease is granted, its agent is removed, and another works on the task before the first answer is made."""
    await tasks.agent("a1", max_concurrency=2)
    await tasks.agent("a2")
    kept, lost = await tasks.submit(target_agent="a1"), await tasks.submit()
    gate = tasks.api.gateway
    async with _granted(gate, _Connected(), _a_claim(gate.newest_submit), 5.0) as answer:  # type: ignore[arg-type]
        assert {lease.head.id for lease in answer.leases} == {kept, lost}
        assert [task["id"] for task in await _leased(gate, WORKSPACE, answer.leases)] == [
            lease.head.id for lease in answer.leases
        ]
        token = next(lease.token for lease in answer.leases if lease.head.id == lost)
        await tasks.post(f"/tasks/{lost}/fail", {"lease_token": token, "released": True})
        task = await tasks.claim_one("a2")
        assert task["id"] == lost
        if ends:
            await tasks.complete(task)
        assert [task["id"] for task in await _leased(gate, WORKSPACE, answer.leases)] == [kept]


async def test_a_lease_that_comes_after_its_claim_was_answered_empty_goes_back(tasks: TaskApi) -> None:
    """The time to wait is over, and the lease arrives while the empty answer is being made."""
    await tasks.agent("a1", max_concurrency=2)
    await tasks.agent("a2")
    async with contextlib.AsyncExitStack() as block:
        answer = await block.enter_async_context(_granted(tasks.api.gateway, _Connected(), _a_claim(), 0.01))  # type: ignore[arg-type]
        assert answer.leases == ()
        task_id = await tasks.submit()
        await eventually(lambda: tasks.is_detail(task_id, "running"))
    await eventually(lambda: tasks.is_detail(task_id, "queued"))
    events = (await tasks.get(f"/tasks/{task_id}/events"))["events"]
    assert (events[-1]["type"], events[-1]["data"]["reason"]) == ("requeued", "not_delivered")


@pytest.mark.parametrize("claim_id", ["mine", None])
async def test_a_missing_scheduler_is_not_taken_for_an_empty_queue(tasks: TaskApi, claim_id: str | None) -> None:
    """The first answer is lost, the scheduler dies, and the claim's time is over before its successor is there."""
    own = {"claim_id": claim_id} if claim_id else {}
    await tasks.agent("a1", max_concurrency=3 if claim_id else 1)
    task_id = await tasks.submit()
    await tasks.claim_one("a1", **own)
    await tasks.api.kill(SCHEDULER)
    again = asyncio.create_task(tasks.claim("a1", block_ms=100, **own))
    # The time of the claim is over, and it asks once more.
    waiting = tasks.api.gateway.scheduler._waiting

    def asks_once_more() -> bool:
        requests = (asked.request for asked in waiting.values())
        return any(isinstance(request, ClaimRequest) and not request.wait for request in requests)

    await eventually(asks_once_more)
    await tasks.api.start(SCHEDULER)
    task = await again
    assert (task["id"], task["attempt"], task["redelivered"]) == (task_id, 1, True)
    await tasks.complete(task)


async def test_a_claim_with_an_id_ends_in_503_without_a_scheduler(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    await tasks.api.kill(SCHEDULER)
    tasks.api.gateway.scheduler._hold_s = 0.1
    body = {"agent_id": "a1", "block_ms": 100, "claim_id": "mine"}
    assert (await tasks.post("/tasks/claim", body, expect=503))["code"] == "actor_unavailable"
    assert await tasks.claim("a1", block_ms=100) is None
