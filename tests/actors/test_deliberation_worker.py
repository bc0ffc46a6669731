"""The deliberation worker without Ray, on real stores: kills at every event, faults, load, deadlines."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.agents.calls import AgentCall
from cluster.domain.base.errors import AgentUnavailable, ImpossibleTransition, InvalidRequest, StoreUnavailable
from cluster.domain.deliberation.stored import JournalAppend
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.stores import Stores
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from tests.support.access import a_workspace
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.stores import StoreUrls, fresh_name
from tests.support.workers import Agent, Workshop, phase_of, run_all, saying


@pytest.fixture
async def shop(store_urls: StoreUrls, stores: Stores) -> AsyncIterator[Workshop]:
    redis = connect(store_urls.redis)
    bell = RedisDoorbell(redis, fresh_name())
    yield Workshop(stores, bell)
    await bell.close()
    await redis.aclose()


def revising(first: str, then: str) -> Agent:
    """Changes its answer in the first debate round, for an error of its own."""

    async def agent(call: AgentCall) -> str:
        if phase_of(call) == "CRITIQUE":
            targets = call.schema["properties"]["critiques"]["items"]["properties"]["target"]["enum"]
            return json.dumps({"critiques": [{"target": targets[0], "defect": "wrong", "severity": "high"}]})
        answer = then if phase_of(call) == "REVISE" else first
        return json.dumps({"answer": answer, "rationale": "r", "confidence": "high", "because": "own_error"})

    return agent


class Dying:
    """The store of a worker that is killed after its n-th append: the write is there, the worker learns nothing of it."""

    def __init__(self, stores: Stores, appends: int) -> None:
        self._store = stores.deliberations
        self._left = appends
        self.died = asyncio.Event()
        self.buried = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, items: Sequence[JournalAppend]) -> list[bool]:
        done = await self._store.append(items) if self._left > 0 else []
        self._left -= 1
        if self._left <= 0:
            self.died.set()
            await self.buried.wait()
            raise StoreUnavailable("The worker is dead.")
        return done


async def test_a_worker_killed_after_any_commit_has_a_successor_that_decides_alike(
    shop: Workshop,
) -> None:
    await shop.register(a=revising("A", "B"), b=saying("B"), c=saying("C"))
    config = {"options": ["A", "B", "C"], "consensus": "majority", "agents": ["a", "b", "c"]}
    (whole,) = await run_all(shop, [shop.admission("whole", **config)])
    assert whole.result is not None
    assert (whole.terminal, whole.result["answer"]) == ("DECIDED", "B")
    commits = await _killed(shop, config, whole.result)
    assert commits >= 6


async def _killed(shop: Workshop, config: dict[str, Any], expected: Any) -> int:
    """How many commits there were to be killed after."""
    commits = 0
    while True:
        commits += 1
        request_id = f"killed-{commits}"
        store = Dying(shop.stores, commits)
        first = shop.worker(store)
        await first.start()
        await shop.admit(shop.admission(request_id, **config))
        died = asyncio.ensure_future(store.died.wait())
        ended = asyncio.ensure_future(shop.ended(request_id))
        await asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED)
        journalled = _answered(await shop.stores.deliberations.journal(ASKER.workspace, request_id))
        await first.stop()
        store.buried.set()
        died.cancel()
        if not store.died.is_set():
            await ended
            return commits - 1
        shop.calls.clear()
        second = shop.worker()
        await second.start()
        deliberation = await ended
        await second.stop()
        assert not set(shop.calls) & journalled
        assert deliberation.result is not None
        for name in ("answer", "confidence", "tally", "dissent", "supporters"):
            assert deliberation.result[name] == expected[name], f"killed after commit {commits}"


def _answered(events: Any) -> set[str]:
    answers = [(event, event.data) for event in events if event.kind in ("answered", "faulted", "late")]
    return {f"{e.data['agent']}/{d['phase']}/{d['round']}/{d['attempt']}" for e, d in answers}


def unreliable(seed: int) -> Agent:
    """10 % never answer, 10 % answer nonsense, 5 % are server errors."""

    async def agent(call: AgentCall) -> str:
        roll = random.Random(f"{seed}{call.key}").random()
        if roll < 0.10:
            await asyncio.Event().wait()
        if roll < 0.20:
            return "the answer is: maybe"
        if roll < 0.25:
            raise AgentUnavailable("500")
        if phase_of(call) == "CRITIQUE":
            return '{"critiques": []}'
        answer = random.Random(f"{call.key}").choice(["A", "B"])
        return json.dumps({"answer": answer, "rationale": "r", "confidence": "low", "because": "none"})

    return agent


async def test_with_faults_everywhere_all_end_in_time_and_within_budget(shop: Workshop) -> None:
    await shop.register(**{f"u{index}": unreliable(index) for index in range(7)})
    config = {"options": ["A", "B"], "budget": {"tokens": 12_000}}
    items = [shop.admission(f"f{index}", timeout_s=6.0, seed=str(index), **config) for index in range(60)]
    ended = await run_all(shop, items)
    assert len(ended) == 60
    for deliberation in ended:
        assert deliberation.completed_at is not None
        assert deliberation.result is not None
        # Some agents never answer, so a deadline that is not kept is missed for ever. The rest of the bound is the machine's.
        assert deliberation.completed_at <= deliberation.deadline_at + 30.0
        assert deliberation.result["tokens"] <= 12_000
    assert {deliberation.terminal for deliberation in ended} <= {
        "DECIDED",
        "NO_CONSENSUS",
        "QUORUM_LOST",
        "BUDGET_EXHAUSTED",
        "DEADLINE_EXCEEDED",
    }
    assert sum(deliberation.terminal == "DECIDED" for deliberation in ended) > 30


async def test_five_hundred_deliberations_at_once_are_all_decided(shop: Workshop) -> None:
    """No agent answers before the first waves of all of them have been asked."""
    all_asked = asyncio.Event()

    async def held(call: AgentCall) -> str:
        if len(shop.calls) == 1000:
            all_asked.set()
        await all_asked.wait()
        return json.dumps({"answer": "A", "rationale": "r", "confidence": "high"})

    await shop.register(a=held, b=held, c=held)
    items = [shop.admission(f"m{index}", options=["A", "B"]) for index in range(500)]
    ended = await run_all(shop, items)
    assert [deliberation.terminal for deliberation in ended] == ["DECIDED"] * 500
    assert len(shop.calls) == 1000


async def test_a_worker_whose_deliberation_was_taken_away_writes_nothing_more(shop: Workshop) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def held(call: AgentCall) -> str:
        reached.set()
        await go.wait()
        return json.dumps({"answer": "A", "rationale": "r", "confidence": "high"})

    await shop.register(a=held, b=held)
    old, new = shop.worker(), shop.worker()
    await old.start()
    await shop.admit(shop.admission("r1", options=["A", "B"]))
    await reached.wait()
    await new.start()
    go.set()
    deliberation = await shop.ended("r1")
    await old.stop()
    await new.stop()
    events = await shop.stores.deliberations.journal(ASKER.workspace, "r1")
    assert deliberation.terminal == "DECIDED"
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events].count("ended") == 1


@pytest.mark.parametrize("bug", [KeyError("a bug"), ImpossibleTransition("a bug"), InvalidRequest("a bug")], ids=repr)
async def test_a_bug_in_the_protocol_ends_one_deliberation_as_failed(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    from cluster.domain.deliberation import decision

    await shop.register(a=saying("A"), b=saying("A"))

    def broken(*_: Any) -> Any:
        raise bug

    monkeypatch.setattr(decision, "stop_reason_of", broken)
    (deliberation,) = await run_all(shop, [shop.admission("r1", options=["A", "B"])])
    assert deliberation.terminal == "FAILED"
    assert deliberation.result is not None
    assert deliberation.result["authoritative"] is False


async def _put(shop: Workshop, state: WorkspaceState, *, is_told: bool = True) -> None:
    changed = a_workspace(ASKER.workspace, state=state)
    await shop.stores.access.put_workspace(ASKER, changed)
    if is_told:
        await shop.bell.notify(*WakeTopic)


async def _prepared(shop: Workshop) -> None:
    await shop.stores.access.create_workspace(ASKER, a_workspace(ASKER.workspace))
    await shop.register(a=saying("yes"), b=saying("yes"))


@pytest.mark.parametrize("restarts", [False, True])
async def test_turns_of_a_suspended_workspace_wait_until_it_is_resumed(shop: Workshop, restarts: bool) -> None:
    await _prepared(shop)
    await _put(shop, WorkspaceState.SUSPENDED, is_told=False)
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1"))
    await eventually(lambda: _is_asking(shop, "d1"), what="the panel is chosen")
    if restarts:
        await worker.stop()
        worker = shop.worker()
        await worker.start()
    assert shop.calls == []
    await _put(shop, WorkspaceState.ACTIVE)
    ended = await shop.ended("d1")
    await worker.stop()
    assert ended.terminal == "DECIDED"
    assert len(set(shop.calls)) == len(shop.calls) > 0


async def _is_asking(shop: Workshop, request_id: str) -> bool:
    journal = await shop.stores.deliberations.journal(ASKER.workspace, request_id)
    return any(event.kind == "asked" for event in journal)


@pytest.mark.parametrize("restarts", [False, True])
async def test_deliberations_of_a_deleted_workspace_are_cancelled(shop: Workshop, restarts: bool) -> None:
    await _prepared(shop)
    await shop.register(c=hanging)
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1", agents=["a", "c"]))
    await eventually(lambda: shop.calls, what="a call")
    if restarts:
        await worker.stop()
    await _put(shop, WorkspaceState.DELETED)
    if restarts:
        worker = shop.worker()
        await worker.start()
    ended = await shop.ended("d1")
    await worker.stop()
    assert ended.terminal == "CANCELLED"
    rows = await shop.stores.log.read(0, 1000)
    (deletion,) = [row for row in rows if row.kind == "access.workspace_changed"]
    (wish,) = [row for row in rows if row.kind == "deliberation.cancel_requested"]
    assert wish.cause == f"#{deletion.seq}"


async def hanging(call: AgentCall) -> str:
    await asyncio.Event().wait()
    return ""
