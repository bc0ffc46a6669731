"""Sticky keys against a simple model: which agent a task waits for, and that nobody else has to wait."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.scheduling.explain import explain
from cluster.domain.scheduling.lease_table import LeaseTable
from cluster.domain.scheduling.sticky_keys import StickyKeys
from cluster.domain.tasks.rules import STICKY_S, TaskRules
from cluster.domain.tasks.task import Priority, TaskStatus
from tests.support import core_calls
from tests.support.invariants import validate_core
from tests.support.samples import NOW, new_task
from tests.unit.domain.scheduling.test_core_rules import Shard

AGENTS = ("a1", "a2", "a3")
#: No sum of the other times, so that no two things of the model are due at once.
BACKOFF_S = 1.0123
TTL_S = 30.0


def _task(task_id: str, key: str | None = "k", created_at: float = NOW, **values: object):  # type: ignore[no-untyped-def]
    rules = TaskRules(sticky_key=key).or_none()
    return new_task(id=task_id, rules=rules, created_at=created_at, timeout_s=1e9, **values)


@dataclass
class Known:
    """What the model knows of a task."""

    agent: str | None = None
    waits_for: str | None = None
    key: str | None = None
    created_at: float = NOW
    ready_at: float = NOW
    ended: bool = False


class StickyLife(RuleBasedStateMachine):
    """All tasks are alike but for their keys, so the oldest that an agent may have is the one that it gets. Every agent is heard
    all the time."""

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.shard = Shard()
        self.tasks: dict[str, Known] = {}
        self.holders: dict[str, str] = {}
        self.slots: dict[str, int] = {}
        self.held: set[str] = set()
        self.order: list[str] = []

    # --- the model ------------------------------------------------------------------------------------------------

    def _running(self, agent: str) -> list[str]:
        return [i for i, t in self.tasks.items() if t.agent == agent and not t.ended]

    def _bound(self, agent: str) -> list[str]:
        return [i for i in self.order if self.tasks[i].waits_for == agent]

    def _room(self, agent: str) -> int:
        return self.slots.get(agent, 0) - len(self._running(agent))

    def _ready(self, task_id: str) -> None:
        task = self.tasks[task_id]
        holder = self.holders.get(task.key or "")
        if holder is None or task.ready_at + STICKY_S <= self.now or holder in self.held:
            return
        if self._room(holder) > len(self._bound(holder)):
            task.waits_for = holder
            self.order = [i for i in self.order if i != task_id] + [task_id]

    def _give_up(self, agent: str, most: int) -> None:
        for task_id in self._bound(agent)[max(0, most) :]:
            self.tasks[task_id].waits_for = None

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(key=st.sampled_from([None, "k1", "k1", "k2"]))
    def submit(self, key: str | None) -> None:
        task_id = f"t{len(self.tasks):03d}"
        self.tasks[task_id] = Known(key=key, created_at=self.now, ready_at=self.now)
        self._ready(task_id)
        self.shard.submit(_task(task_id, key, self.now, max_retries=9), self.now)

    @rule(agent=st.sampled_from(AGENTS), slots=st.integers(1, 3), most=st.integers(1, 2))
    def claim(self, agent: str, slots: int, most: int) -> None:
        expected = []
        if agent not in self.held:
            self.slots[agent] = slots
            for _ in range(min(slots - len(self._running(agent)), most)):
                able = [i for i, t in self.tasks.items() if t.agent is None and not t.ended]
                able = [i for i in able if self.tasks[i].waits_for in (None, agent)]
                if not able:
                    break
                task_id = min(able, key=lambda i: (self.tasks[i].created_at, i))
                expected.append(task_id)
                task = self.tasks[task_id]
                task.agent, task.waits_for = agent, None
                if task.key is not None:
                    self.holders[task.key] = agent
                self._give_up(agent, self._room(agent))
        got = self.shard.claimed(agent, self.now, max_tasks=most, max_concurrency=slots)
        assert got == expected

    @precondition(lambda self: any(self._running(agent) for agent in AGENTS))
    @rule(data=st.data(), failed=st.booleans())
    def report(self, data: st.DataObject, failed: bool) -> None:
        task_id = data.draw(st.sampled_from(sorted(i for agent in AGENTS for i in self._running(agent))))
        task = self.tasks[task_id]
        if not failed:
            self.shard.report(task_id, self.now)
            task.ended = True
            return
        self.shard.report(task_id, self.now, "no", retry_after_s=BACKOFF_S)
        if self.holders.get(task.key or "") == task.agent and task.key is not None:
            del self.holders[task.key]
        task.agent = None
        self.now = task.ready_at = self.shard.store[task_id].run_at
        self._expire()
        self._ready(task_id)
        self.shard.tick(self.now)

    @rule(seconds=st.sampled_from([0.5, STICKY_S - 1, STICKY_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._expire()
        self.shard.core.heartbeat([("w", agent) for agent in AGENTS], self.now)
        self.shard.tick(self.now)

    def _expire(self) -> None:
        for task in self.tasks.values():
            if task.ready_at + STICKY_S <= self.now:
                task.waits_for = None

    @rule(agent=st.sampled_from(AGENTS))
    def is_held_or_resumed(self, agent: str) -> None:
        (self.held.remove if agent in self.held else self.held.add)(agent)
        if agent in self.held:
            self._give_up(agent, 0)
        self.shard.agent_row(agent, "status_changed", self.now, is_unschedulable=agent in self.held)

    # --- what is always so ----------------------------------------------------------------------------------------

    @invariant()
    def its_tables_belong_together(self) -> None:
        validate_core(self.shard.core)

    @invariant()
    def tasks_wait_for_whom_the_model_says(self) -> None:
        if not hasattr(self, "shard"):
            return
        sticky, queue = self.shard.core._sticky, self.shard.core._queue
        for task_id, task in self.tasks.items():
            assert sticky.agent_of(task_id) == task.waits_for, task_id
            entry = queue._entries.get(task_id)
            assert task.waits_for == (None if entry is None else entry.sub_queue.demand.sticky_agent)
        for agent, holder in sticky._by_agent.items():
            assert holder.keys or holder.tasks
            assert set(holder.keys) == {key for (_, key), of in sticky._agents.items() if of == agent[1]}


TestStickyLife = StickyLife.TestCase
TestStickyLife.settings = settings(max_examples=60, stateful_step_count=30)


# --- promises one by one ----------------------------------------------------------------------------------------------


def _held_by_a1(**claim: object) -> Shard:
    """Agent a1 runs a task of key k and has a slot left."""
    shard = Shard()
    shard.submit(_task("t0"), NOW)
    assert shard.claimed("a1", NOW, **({"max_concurrency": 2} | claim)) == ["t0"]
    return shard


def test_a_task_waits_for_its_agent_and_then_for_anybody() -> None:
    shard = _held_by_a1()
    shard.submit(_task("t1"), NOW)
    assert shard.claimed("a2", NOW + STICKY_S - 0.1) == []
    own_type = frozenset({_task("t").task_type})  # which moves the type's tasks to sub-queues of their own
    assert shard.claimed("a2", NOW + STICKY_S - 0.1, task_types=own_type) == []
    waiting = shard.claim("a2", NOW + STICKY_S - 0.1, wait=True)
    shard.tick(NOW + STICKY_S)
    assert [grant.head.id for grant in shard.answered[waiting]] == ["t1"]  # type: ignore[index]


def test_a_waiting_claim_of_the_agent_gets_the_task_before_older_claims() -> None:
    shard = _held_by_a1()
    older = shard.claim("a2", NOW, wait=True)
    own = shard.claim("a1", NOW, wait=True, max_concurrency=2)
    shard.submit(_task("t1"), NOW)
    assert own in shard.answered
    assert older not in shard.answered


@pytest.mark.parametrize("how", ["unregistered", "paused", "offline"])
def test_an_agent_that_is_away_gives_tasks_up_at_once(how: str) -> None:
    shard = _held_by_a1()
    shard.submit(_task("t1"), NOW)
    waiting = shard.claim("a2", NOW, wait=True)
    if how == "offline":
        shard._row("agent.status_changed", "a1", {"new_status": "offline"}, NOW)
    else:
        shard.agent_row("a1", "unregistered" if how == "unregistered" else "status_changed", NOW, is_unschedulable=True)
    assert waiting in shard.answered


def test_an_agent_that_gets_full_gives_tasks_up_at_once() -> None:
    shard = _held_by_a1()
    other = shard.claim("a2", NOW, wait=True, task_types=frozenset({"echo"}))
    shard.submit(_task("t1", task_type="echo"), NOW)
    assert other not in shard.answered
    shard.submit(_task("t2", None, task_type="report", priority=Priority.URGENT), NOW)
    assert shard.claimed("a1", NOW, max_concurrency=2) == ["t2"]
    assert other in shard.answered


def test_what_a_full_agent_gives_up_is_offered_at_once() -> None:
    shard = _held_by_a1(capabilities=frozenset("x"))
    own = shard.claim("a1", NOW, wait=True, capabilities=frozenset("x"), max_concurrency=2)
    other = shard.claim("a2", NOW, wait=True, capabilities=frozenset("x"))
    with_flush, shard.flush = shard.flush, lambda now: None  # type: ignore[method-assign]  # both rows are read at once
    shard.submit(_task("t1", required_capabilities=("x",)), NOW)
    shard.submit(_task("t2", None, priority=Priority.URGENT, target_agent="a1"), NOW)
    with_flush(NOW)
    assert [grant.head.id for grant in shard.answered[own]] == ["t2"]  # type: ignore[index]
    assert [grant.head.id for grant in shard.answered[other]] == ["t1"]  # type: ignore[index]


def test_a_silent_agent_is_not_waited_for() -> None:
    shard = _held_by_a1()
    shard.report("t0", NOW)
    late = NOW + TTL_S
    shard.submit(_task("t1", created_at=late), late)
    assert shard.claimed("a2", late) == ["t1"]


@pytest.mark.parametrize(
    "values",
    [{"required_capabilities": ("y",)}, {"task_type": "other"}, {"queue": "other"}],
    ids=["capabilities", "task_type", "queue"],
)
def test_an_agent_that_may_not_have_a_task_is_not_waited_for(values: dict[str, object]) -> None:
    shard = _held_by_a1(
        capabilities=frozenset("x"), task_types=frozenset({_task("t").task_type}), queues=frozenset({"default"})
    )
    shard.submit(_task("t1", **values), NOW)
    assert shard.claimed("a2", NOW, capabilities=frozenset("xy")) == ["t1"]


def test_after_a_restart_agents_of_running_tasks_hold_their_keys() -> None:
    shard = _held_by_a1()
    shard.restart(NOW)
    assert shard.claimed("a1", NOW, max_concurrency=2) == []
    shard.submit(_task("t1"), NOW)
    assert shard.claimed("a2", NOW) == []
    assert shard.claimed("a1", NOW, max_concurrency=2) == ["t1"]


def test_a_moved_task_keeps_its_agent_and_its_time() -> None:
    shard = _held_by_a1(max_concurrency=4)
    for task_id in ("t1", "t2"):
        shard.submit(_task(task_id), NOW)
    core_calls.prioritize(shard.core, "t2", "w", None, NOW + 1, position=1)
    shard.flush(NOW + 1)
    assert shard.claimed("a2", NOW + 1) == []
    assert shard.claimed("a1", NOW + 1, max_concurrency=4) == ["t2"]
    shard.tick(NOW + STICKY_S)
    assert shard.claimed("a2", NOW + STICKY_S) == ["t1"]


def test_an_explanation_names_the_agent_and_the_time() -> None:
    shard = _held_by_a1()
    shard.submit(_task("t1"), NOW)
    explained = explain(shard.core.view("t1", "w", NOW + 1), [], {}, NOW + 1)
    (first, *_) = explained.reasons
    assert (first.code, first.at) == ("sticky_key", NOW + STICKY_S)
    assert first.message == "It waits for agent a1, which had the last task of sticky key k, for another 4.0 s."


def test_the_keys_that_were_taken_longest_ago_are_forgotten() -> None:
    sticky = StickyKeys(LeaseTable(TTL_S), most_keys=2)
    for key in ("k1", "k2", "k1", "k3"):
        sticky.hold(replace(_task("t", key).head(), status=TaskStatus.RUNNING, assigned_agent="a1"))
    assert [key for _, key in sticky._agents] == ["k1", "k3"]
