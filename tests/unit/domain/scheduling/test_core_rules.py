"""The scheduler's core against a model of its rules: the same choices in any order of events, with any number of restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.base.errors import NotFound
from cluster.domain.base.log import LogRow, Origin
from cluster.domain.scheduling.answers import Grant
from cluster.domain.scheduling.core import Missing, SchedulerCore
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.events import Complete, Fail, Reporter, Undelivered
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.rules import Affinity, Edge, TaskRules, WhenFailed
from cluster.domain.tasks.task import NewTask, Priority, TaskDecision, TaskDetail, TaskHead, TaskStatus
from tests.support import core_calls
from tests.support.invariants import validate_core
from tests.support.samples import NOW, new_task
from tests.support.scheduler_model import Model

TTL_S = 30.0
AGENTS = ("a1", "a2", "a3")
CAPABILITIES = {"a1": frozenset("x"), "a2": frozenset("xy"), "a3": frozenset()}
STATE_OF = {TaskStatus.COMPLETED: "done", TaskStatus.FAILED: "failed", TaskStatus.CANCELLED: "cancelled"}


class Shard:
    """A core with a store: what it decides is written as the SQL would, and a restart reads it back."""

    def __init__(self) -> None:
        self.store: dict[str, TaskHead] = {}
        self.controls: dict[str, Control] = {}
        self.seq = 0
        self.tickets = 0
        self.answered: dict[int, tuple[Grant, ...]] = {}
        self.kinds: dict[str, list[str]] = {}
        self.unschedulable: set[tuple[str, str]] = set()
        self.restart(NOW)

    def restart(self, now: float) -> None:
        self.core = SchedulerCore(lease_ttl_s=TTL_S)
        self.core.load_controls(self.controls.values(), now)
        heads = [head for head in self.store.values() if not head.status.terminal]
        self.core.load(sorted(heads, key=lambda head: (head.created_at, head.id)), now)
        self.core.load_agents(self.unschedulable)
        self.flush(now)

    def flush(self, now: float) -> None:
        while True:
            decisions, answered = self.core.take_output(now)
            for decision in decisions:
                self._write(decision)
            self.answered |= {answer.ticket: answer.grants for answer in answered}
            unresolved = [i for ids in self.core.take_unresolved().values() for i in ids]
            if not unresolved:
                return
            self.core.ended_before([(i, self.store[i].status) for i in unresolved], now)

    def _write(self, decision: TaskDecision) -> None:
        stored = self.store[decision.head.id]
        assert (stored.status, stored.attempt) == (decision.expect_status, decision.expect_attempt)
        assert not stored.status.terminal
        self.store[decision.head.id] = decision.head
        self.kinds[decision.head.id].append(decision.record.kind.removeprefix("task."))

    def submit(self, task: NewTask, now: float) -> None:
        self.store[task.id], self.kinds[task.id] = task.head(), ["submitted"]
        record = task.record()
        self._row(record.kind, task.id, record.data, now, record.workspace)

    def control(self, kind: str, name: str, now: float, **values: object) -> None:
        control = Control(workspace="w", kind=ControlKind(kind), name=name, seq=self.seq + 1, **values)  # type: ignore[arg-type]
        self.controls[control.entity] = control
        self._row("control.changed", control.entity, control.to_log(), now)

    def _row(self, kind: str, entity: str, data: object, now: float, workspace: str = "w") -> None:
        self.seq += 1
        row = LogRow(
            seq=self.seq,
            at=now,
            workspace=workspace,
            kind=kind,
            entity=entity,
            attempt=None,
            principal="p",
            data=data,  # type: ignore[arg-type]
            digest=b"",
        )
        self.core.apply([row], now, unschedulable=self.unschedulable)
        self.flush(now)

    def agent_row(self, agent: str, kind: str, now: float, *, is_unschedulable: bool = False) -> None:
        """``is_unschedulable`` as the store has it when the row is read."""
        (self.unschedulable.add if is_unschedulable else self.unschedulable.discard)(("w", agent))
        self._row(f"agent.{kind}", agent, {}, now)

    def claim(
        self, agent: str, now: float, *, wait: bool = False, workspace: str = "w", **changes: object
    ) -> tuple[Grant, ...] | int:
        """Grants, or the number of a claim that waits now."""
        values: dict[str, object] = {
            "workspace": workspace,
            "agent_id": agent,
            "principal": "p",
            "capabilities": CAPABILITIES.get(agent, frozenset()),
            "max_concurrency": 1000,
            "max_tasks": 1,
            "claim_id": f"c{self.seq}-{now}-{self.tickets}",
            "client_claim_id": True,
        }
        self.tickets += 1
        ticket = self.tickets
        grants = self.core.claim(ClaimRequest(**(values | changes)), ticket if wait else None, now)  # type: ignore[arg-type]
        self.flush(now)
        return ticket if grants is None else grants

    def claimed(self, agent: str, now: float, **changes: object) -> list[str]:
        grants = self.claim(agent, now, **changes)
        assert not isinstance(grants, int)
        return [grant.head.id for grant in grants]

    def report(self, task_id: str, now: float, error: str | None = None, **changes: object) -> None:
        head = self.store[task_id]
        by = Reporter(principal="p", agent_id=head.assigned_agent, attempt=head.attempt)
        event = Complete(by=by) if error is None else Fail(by=by, error=error, **changes)  # type: ignore[arg-type]
        core_calls.report(self.core, task_id, "w", event, now)
        self.flush(now)

    def cancel(self, task_id: str, now: float) -> None:
        core_calls.cancel(self.core, task_id, "w", "p", now)
        self.flush(now)

    def tick(self, now: float) -> None:
        self.core.tick(now)
        self.flush(now)

    def running(self) -> list[str]:
        return [i for i, head in self.store.items() if head.status is TaskStatus.RUNNING]


class SchedulerLife(RuleBasedStateMachine):
    """Time only moves forward; agents give signs of life unless all of them fall silent at once."""

    make_shard: Callable[[], Any] = Shard

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.shard = type(self).make_shard()
        self.model = Model()
        self.number = 0

    @rule(
        priority=st.sampled_from(list(Priority)),
        required=st.sampled_from(["", "x", "xy"]),
        tenant=st.sampled_from([None, None, "t1", "t2"]),
        queue=st.sampled_from(["default", "q"]),
        kind=st.sampled_from(["k1", "k2"]),
        for_agent=st.sampled_from([None, None, None, "a2"]),
        excluded=st.sampled_from([(), (), ("a1",), ("a1", "a2")]),
        key=st.sampled_from([None, None, "c"]),
        versions=st.sampled_from([None, None, ">=2"]),
        limit=st.sampled_from([1, 2]),
        delay=st.sampled_from([0, 0, 0, 50]),
        retries=st.integers(0, 2),
        after=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(list(WhenFailed))), max_size=2),
    )
    def submit(
        self, priority, required, tenant, queue, kind, for_agent, excluded, key, versions, limit, delay, retries, after
    ) -> None:  # type: ignore[no-untyped-def]
        self.number += 1
        ids = list(self.model.tasks)
        edges = {ids[index % len(ids)]: when for index, when in after} if ids else {}
        rules = TaskRules(
            tenant=tenant,
            excluded_agents=excluded,
            concurrency_key=key,
            concurrency_limit=limit if key else 1,
            worker_version=versions,
            after=tuple(Edge(after=i, when_failed=when) for i, when in edges.items()),
        ).or_none()
        task = new_task(
            id=f"t{self.number:03d}",
            task_type=kind,
            created_at=self.now,
            priority=priority,
            required_capabilities=tuple(required),
            queue=queue,
            target_agent=for_agent,
            run_at=self.now + delay if delay else None,
            max_retries=retries,
            timeout_s=1e9,
            rules=rules,
        )
        self.shard.submit(task, self.now)
        self.model.submit(task.head(), self.now)

    @rule(
        agent=st.sampled_from(AGENTS),
        tasks=st.integers(1, 3),
        types=st.sampled_from([None, None, frozenset({"k1"}), frozenset({"k2", "k3"})]),
        queues=st.sampled_from([None, None, frozenset({"default"}), frozenset({"q", "none"})]),
        version=st.sampled_from([None, "1", "2"]),
    )
    def claim(
        self,
        agent: str,
        tasks: int,
        types: frozenset[str] | None,
        queues: frozenset[str] | None,
        version: str | None,
    ) -> None:
        got = self.shard.claimed(agent, self.now, max_tasks=tasks, task_types=types, queues=queues, version=version)
        expected = []
        while len(expected) < tasks:
            head = self.model.claim(agent, CAPABILITIES[agent], self.now, types, queues, version)
            if head is None:
                break
            expected.append(head)
        assert got == expected

    def _some_running(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.model.running())))

    @precondition(lambda self: self.model.running())
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        task_id = self._some_running(data)
        cancelling = self.shard.store[task_id].detail is TaskDetail.CANCELLING
        self.shard.report(task_id, self.now)
        assert not cancelling or self.shard.store[task_id].status is TaskStatus.COMPLETED
        self.model.complete(task_id, self.now)

    @precondition(lambda self: self.model.running())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        task_id = self._some_running(data)
        if self.shard.store[task_id].detail is TaskDetail.CANCELLING:
            self.shard.report(task_id, self.now, "stopped")
            self.model.stop(task_id, self.now)
            return
        self.shard.report(task_id, self.now, "no")
        self.model.lose(task_id, self.now, back_at=self.shard.store[task_id].run_at)

    @precondition(lambda self: any(not t.over for t in self.model.tasks.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(i for i, t in self.model.tasks.items() if not t.over)))
        self.shard.cancel(task_id, self.now)
        if self.model.tasks[task_id].state == "pending":
            self.model.cancel_waiting(task_id, self.now)

    @rule(kind=st.sampled_from(list(ControlKind)), on=st.booleans())
    def pause_or_resume(self, kind: ControlKind, on: bool) -> None:
        name = {"queue": "q", "task_type": "k1", "tenant": "t1"}[kind.value]
        weight = self.model.weights.get("t1", 1.0) if kind is ControlKind.TENANT else 1.0
        self.shard.control(kind.value, name, self.now, paused=on, weight=weight)
        (self.model.paused.add if on else self.model.paused.discard)((kind.value, name))

    @rule(weight=st.sampled_from([0.5, 1.0, 3.0]))
    def weigh(self, weight: float) -> None:
        self.shard.control("tenant", "t1", self.now, weight=weight, paused=("tenant", "t1") in self.model.paused)
        self.model.weights["t1"] = weight

    @rule(seconds=st.sampled_from([1.0, 8.0, 60.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        """In steps shorter than a lease, with a sign of life from everybody at each. Graces end meanwhile."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 5.0)
            self.shard.core.heartbeat([("w", agent) for agent in AGENTS], self.now)
            self.shard.tick(self.now)
            for task_id in self.model.running():
                if self.shard.store[task_id].status is TaskStatus.CANCELLED:
                    self.model.stop(task_id, self.now)
            self.model.advance(self.now)

    @rule()
    def everybody_falls_silent(self) -> None:
        self.now += TTL_S + 1
        lost = sorted(self.model.running())
        stopping = [i for i in lost if self.shard.store[i].detail is TaskDetail.CANCELLING]
        self.shard.tick(self.now)
        for task_id in lost:
            if task_id in stopping:
                self.model.stop(task_id, self.now)
            else:
                self.model.lose(task_id, self.now)
        self.model.advance(self.now)
        self._same_turns()

    def _same_turns(self) -> None:
        """Tasks of several leases came back in an order of their own, which the model takes over."""
        queue = self.shard.core._queue
        self.model.virtual = queue._virtual
        self.model.tags = {share.removeprefix("w\x1f"): tag for share, tag in queue._tags.items()}

    @rule()
    def restart(self) -> None:
        self.shard.restart(self.now)
        self.model.restart(self.now)

    @invariant()
    def its_tables_belong_together(self) -> None:
        validate_core(self.shard.core)

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        for task_id, task in self.model.tasks.items():
            head = self.shard.store[task_id]
            state = STATE_OF.get(head.status, head.status.value)
            assert (state, head.attempt, head.retries) == (task.state, task.attempt, task.retries), task_id
            assert head.assigned_agent == task.agent or task.state != "running"
        assert self.model.slots("c") <= 2

    @invariant()
    def nothing_happens_after_an_end(self) -> None:
        ends = {"completed", "failed", "cancelled", "dead_lettered", "timeout"}
        for kinds in (getattr(self, "shard", None) and self.shard.kinds.values()) or ():
            assert not ends & set(kinds[:-1])


TestSchedulerLife = SchedulerLife.TestCase
TestSchedulerLife.settings = settings(max_examples=80, stateful_step_count=40)


# --- promises one by one ----------------------------------------------------------------------------------------------


def _rules(**values: object) -> TaskRules:
    return TaskRules(**values)  # type: ignore[arg-type]


def test_tenants_get_their_shares_whatever_each_has_waiting() -> None:
    shard, weights = Shard(), {"small": 1.0, "middle": 2.0, "large": 5.0}
    for tenant, weight in weights.items():
        shard.control("tenant", tenant, NOW, weight=weight)
    for tenant, tasks in (("small", 1500), ("middle", 700), ("large", 900)):
        for n in range(tasks):
            shard.submit(new_task(id=f"{tenant}{n:05d}", rules=_rules(tenant=tenant)), NOW)
    served = shard.claimed("a1", NOW, max_tasks=1000)
    for tenant, weight in weights.items():
        share = sum(task_id.startswith(tenant) for task_id in served) / 1000
        fair = weight / sum(weights.values())
        assert abs(share - fair) / fair <= 0.10, (tenant, share, fair)


def test_a_tenant_gets_no_credit_for_its_absence() -> None:
    shard = Shard()
    for n in range(400):
        shard.submit(new_task(id=f"busy{n:05d}", rules=_rules(tenant="busy")), NOW)
    shard.claimed("a1", NOW, max_tasks=200)
    for n in range(200):
        shard.submit(new_task(id=f"back{n:05d}", rules=_rules(tenant="back")), NOW)
    served = shard.claimed("a1", NOW, max_tasks=100)
    assert 45 <= sum(task_id.startswith("back") for task_id in served) <= 55


def test_urgent_tasks_delay_a_low_one_within_the_bound() -> None:
    """Three ageing steps to the highest level, then whatever was submitted before it."""
    shard, now = Shard(), NOW
    shard.submit(new_task(id="low", priority=Priority.LOW, created_at=now), now)
    for n in range(10):
        shard.submit(new_task(id=f"before{n}", priority=Priority.URGENT, created_at=now), now)
    number = 0
    while now < NOW + 3 * 120.0:
        for _ in range(20):
            number += 1
            shard.submit(new_task(id=f"u{number:06d}", priority=Priority.URGENT, created_at=now), now)
        assert "low" not in shard.claimed("a1", now, max_tasks=10)
        now += 10.0
    assert shard.claimed("a1", now, max_tasks=1) == ["low"]


def test_a_rate_is_kept_over_any_stretch_of_time_restarts_included() -> None:
    shard, now, starts = Shard(), NOW, []
    shard.control("queue", "q", now, rate_per_s=2.0, burst=5)
    for n in range(500):
        shard.submit(new_task(id=f"t{n:04d}", queue="q"), now)
    for step in range(120):
        now += 0.25
        if step % 17 == 16:
            shard.restart(now)
        starts += [now] * len(shard.claimed("a1", now, max_tasks=100))
    assert len(starts) >= 2.0 * 30 * 0.9
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= 5 + 2.0 * (starts[last] - starts[first]) + 1e-6


def test_a_waiting_claim_is_served_when_the_next_token_comes_in() -> None:
    shard, now = Shard(), NOW
    shard.control("queue", "q", now, rate_per_s=0.5, burst=1)
    shard.submit(new_task(id="t", queue="q"), now)
    ticket = shard.claim("a1", now, wait=True)
    due = shard.core.next_timer()
    assert due == pytest.approx(NOW + 2.0, abs=1e-6)
    shard.tick(due - 0.1)
    assert ticket not in shard.answered
    shard.tick(due)
    assert [grant.head.id for grant in shard.answered[ticket]] == ["t"]  # type: ignore[index]


def test_tasks_beyond_a_concurrency_key_wait_for_a_free_slot() -> None:
    shard = Shard()
    for n in range(4):
        shard.submit(new_task(id=f"t{n}", rules=_rules(concurrency_key="k", concurrency_limit=2)), NOW)
    shard.submit(new_task(id="x-free"), NOW)
    assert shard.claimed("a1", NOW, max_tasks=10) == ["t0", "t1", "x-free"]
    ticket = shard.claim("a2", NOW, wait=True, capabilities=frozenset())
    assert shard.core.view("t2", "w", NOW).slot_holders == ("t0", "t1")
    shard.restart(NOW)
    assert shard.claimed("a2", NOW) == [], "slots are counted from leases, so a restart frees none"
    ticket = shard.claim("a2", NOW, wait=True)
    shard.report("t0", NOW + 1)
    assert [grant.head.id for grant in shard.answered[ticket]] == ["t2"]  # type: ignore[index]
    shard.tick(NOW + TTL_S + 2)
    back = shard.claimed("a3", NOW + TTL_S + 2, max_tasks=10)
    assert back == ["t1", "t2", "x-free"], "expired leases give their slots back"


def test_a_cancelled_task_of_a_full_key_does_not_block_the_others() -> None:
    shard = Shard()
    for n in range(4):
        shard.submit(new_task(id=f"t{n}", rules=_rules(concurrency_key="k")), NOW)
    assert shard.claimed("a1", NOW, max_tasks=10) == ["t0"]
    shard.report("t0", NOW)
    shard.cancel("t1", NOW)
    assert shard.claimed("a1", NOW, max_tasks=10) == ["t2"]


def test_queue_time_bounds_each_wait_and_total_time_everything() -> None:
    shard = Shard()
    shard.submit(new_task(id="q", rules=_rules(queue_timeout_s=10.0)), NOW)
    shard.submit(new_task(id="total", rules=_rules(total_timeout_s=25.0)), NOW)
    shard.submit(new_task(id="taken", rules=_rules(queue_timeout_s=10.0, total_timeout_s=100.0)), NOW)
    assert shard.claimed("a1", NOW + 5, max_tasks=1) == ["q"]
    shard.restart(NOW + 6)
    shard.tick(NOW + 10)
    assert shard.store["taken"].status is TaskStatus.TIMEOUT
    assert shard.store["q"].status is TaskStatus.RUNNING
    shard.report("q", NOW + 12, "again")
    retry_at = shard.store["q"].run_at
    shard.tick(retry_at)
    shard.tick(retry_at + 9.9)
    assert shard.store["q"].status is TaskStatus.PENDING
    shard.tick(retry_at + 10.1)
    assert shard.store["q"].status is TaskStatus.TIMEOUT
    assert shard.kinds["q"][-1] == "timeout"
    assert shard.claimed("a1", NOW + 24) == ["total"]
    shard.core.heartbeat([("w", "a1")], NOW + 24)
    shard.tick(NOW + 25)
    assert shard.store["total"].status is TaskStatus.TIMEOUT


def test_rate_limited_failures_wait_by_a_clock_of_their_own() -> None:
    shard = Shard()
    shard.submit(new_task(id="t"), NOW)
    shard.claimed("a1", NOW)
    shard.report("t", NOW, "busy", error_class=ErrorClass.RATE_LIMITED)
    assert 7.5 <= shard.store["t"].run_at - NOW <= 15.0
    shard.submit(new_task(id="u"), NOW)
    shard.claimed("a1", NOW)
    shard.report("u", NOW, "broken", error_class=ErrorClass.NOT_RETRYABLE)
    assert shard.store["u"].detail is TaskDetail.FAILED


def test_regions_are_asked_for_or_preferred() -> None:
    shard = Shard()
    eu, us = frozenset({"eu"}), frozenset({"us"})
    shard.submit(new_task(id="strict", rules=_rules(regions=("eu",), affinity=Affinity.STRICT)), NOW)
    shard.submit(new_task(id="soft", rules=_rules(regions=("eu",), affinity=Affinity.PREFERRED)), NOW)
    assert shard.claimed("a1", NOW, regions=us, max_tasks=5) == []
    ticket = shard.claim("a1", NOW, wait=True, regions=us)
    shard.tick(NOW + 9)
    assert ticket not in shard.answered
    shard.tick(NOW + 10)
    assert [grant.head.id for grant in shard.answered[ticket]] == ["soft"]  # type: ignore[index]
    assert shard.claimed("a2", NOW + 10, regions=us) == []
    assert shard.claimed("a2", NOW + 10, regions=eu | us) == ["strict"]


def test_a_task_passed_over_by_one_claim_goes_to_the_next() -> None:
    shard = Shard()
    first = shard.claim("a1", NOW, wait=True)
    second = shard.claim("a2", NOW, wait=True, capabilities=CAPABILITIES["a1"])
    shard.submit(new_task(id="t", rules=_rules(excluded_agents=("a1",))), NOW)
    assert first not in shard.answered
    assert [grant.head.id for grant in shard.answered[second]] == ["t"]  # type: ignore[index]


@pytest.mark.parametrize("how", ["status_changed", "registered"])
@pytest.mark.parametrize("restarted", [False, True])
def test_an_unschedulable_agent_gets_no_new_tasks(how: str, restarted: bool) -> None:
    shard = Shard()
    shard.agent_row("a1", "status_changed", NOW, is_unschedulable=True)
    if restarted:
        shard.restart(NOW)
    shard.submit(new_task(id="t"), NOW)
    assert shard.claimed("a1", NOW) == []
    ticket = shard.claim("a1", NOW, wait=True)
    shard.submit(new_task(id="u"), NOW)
    assert ticket not in shard.answered
    shard.agent_row("a1", how, NOW)
    assert [grant.head.id for grant in shard.answered[ticket]] == ["t"]  # type: ignore[index]
    assert shard.claimed("a1", NOW, max_tasks=5) == ["u"]


def test_a_claim_of_an_unschedulable_agent_is_answered_when_it_becomes_schedulable() -> None:
    shard = Shard()
    shard.submit(new_task(id="t"), NOW)
    ticket = shard.claim("a1", NOW, wait=True, unschedulable=True)
    assert ticket not in shard.answered
    shard.agent_row("a1", "status_changed", NOW)
    assert shard.answered[ticket] == ()  # type: ignore[index]
    assert shard.claimed("a1", NOW) == ["t"]


def test_a_claim_waits_through_a_registration_that_changes_nothing_for_it() -> None:
    shard = Shard()
    ticket = shard.claim("a1", NOW, wait=True)
    shard.agent_row("a1", "registered", NOW)
    assert ticket not in shard.answered
    shard.submit(new_task(id="t"), NOW)
    assert [grant.head.id for grant in shard.answered[ticket]] == ["t"]  # type: ignore[index]


def test_an_agent_that_comes_back_after_it_was_removed_starts_anew() -> None:
    shard = Shard()
    shard.submit(new_task(id="t"), NOW)
    shard.agent_row("a1", "status_changed", NOW, is_unschedulable=True)
    ticket = shard.claim("a1", NOW, wait=True)
    shard.agent_row("a1", "unregistered", NOW)
    assert shard.answered[ticket] == ()  # type: ignore[index]
    with pytest.raises(NotFound):
        shard.claim("a1", NOW)
    shard.agent_row("a1", "registered", NOW)
    assert shard.claimed("a1", NOW) == ["t"]


def test_a_lease_is_released_if_no_answer_with_it_arrived() -> None:
    shard = Shard()
    shard.submit(new_task(id="t", max_retries=0), NOW)

    def answered(claim_id: str) -> Grant:
        (grant,) = shard.claim("a1", NOW, claim_id=claim_id)  # type: ignore[misc]
        return grant

    def lost(grant: Grant) -> tuple[TaskStatus, int]:
        shard.core.undelivered("t", "w", grant.head.attempt, "a1", grant.delivery, "p", NOW)
        shard.flush(NOW)
        return shard.store["t"].status, shard.store["t"].retries

    assert lost(answered("first")) == (TaskStatus.PENDING, 0)
    first, second, third = (answered("second") for _ in range(3))
    assert first.head == second.head == third.head
    assert lost(second) == (TaskStatus.RUNNING, 0)
    assert lost(second) == (TaskStatus.RUNNING, 0), "an answer is lost once, however often that is said"
    assert lost(first) == (TaskStatus.RUNNING, 0)
    assert lost(third) == (TaskStatus.PENDING, 0)
    kept = answered("third")
    assert lost(first) == (TaskStatus.RUNNING, 0), "of another attempt"
    shard.restart(NOW)
    again = answered("third")
    assert lost(again) == (TaskStatus.RUNNING, 0), "what a predecessor answered may have arrived"
    assert kept.head == again.head


def test_a_position_outlives_restart_lease_and_change_of_priority() -> None:
    shard = Shard()
    for name in ("t1", "t2", "t3", "t4"):
        shard.submit(new_task(id=name, created_at=NOW), NOW)
    core_calls.prioritize(shard.core, "t4", "w", None, NOW, position=2)
    shard.flush(NOW)
    assert shard.kinds["t4"] == ["submitted", "prioritized"]
    core_calls.prioritize(shard.core, "t4", "w", None, NOW, position=2)
    shard.flush(NOW)
    assert shard.kinds["t4"] == ["submitted", "prioritized"], "it is there already"
    shard.restart(NOW)
    assert [shard.claimed("a1", NOW), shard.claimed("a1", NOW)] == [["t1"], ["t4"]]
    core_calls.report(shard.core, "t4", "w", Undelivered(by=Reporter(principal="p", agent_id="a1", attempt=1)), NOW)
    shard.flush(NOW)
    assert shard.claimed("a1", NOW, max_tasks=2) == ["t4", "t2"]
    shard.submit(new_task(id="u1", created_at=NOW, priority=Priority.URGENT), NOW)
    core_calls.prioritize(shard.core, "t3", "w", Priority.URGENT, NOW, position=0)
    shard.flush(NOW)
    assert shard.claimed("a1", NOW, max_tasks=2) == ["t3", "u1"]


def test_a_long_chain_of_dependencies_fails_with_its_first_task() -> None:
    shard = Shard()
    shard.submit(new_task(id="t0"), NOW)
    for n in range(1, 3000):
        shard.submit(new_task(id=f"t{n}", rules=_rules(after=(Edge(after=f"t{n - 1}"),))), NOW)
    shard.cancel("t0", NOW)
    assert {head.status for i, head in shard.store.items() if i != "t0"} == {TaskStatus.FAILED}
    with pytest.raises(Missing):
        shard.cancel("t2999", NOW)


def test_an_edge_that_runs_anyway_still_waits_for_the_end() -> None:
    shard = Shard()
    shard.submit(new_task(id="a", max_retries=0), NOW)
    edges = (Edge(after="a", when_failed=WhenFailed.RUN_ANYWAY),)
    shard.submit(new_task(id="b", run_at=NOW + 60, rules=_rules(after=edges)), NOW)
    assert shard.core.view("b", "w", NOW).waits_for == ("a",)
    shard.claimed("a1", NOW)
    shard.report("a", NOW + 1, "no")
    assert shard.store["b"].detail is TaskDetail.DELAYED
    shard.restart(NOW + 2)
    shard.tick(NOW + 60)
    assert shard.claimed("a1", NOW + 60) == ["b"]


def test_a_control_that_is_older_than_what_was_read_changes_nothing() -> None:
    shard = Shard()
    shard.control("queue", "q", NOW, paused=True)
    paused = shard.controls["queue:q"]
    shard.restart(NOW)
    shard.core._dispatch.control(replace(paused, paused=False), NOW)
    shard.submit(new_task(id="t", queue="q"), NOW)
    assert shard.claimed("a1", NOW) == []


def test_workspaces_share_neither_tasks_nor_names() -> None:
    shard = Shard()
    elsewhere = Origin(workspace="v", principal="p")
    shard.submit(new_task(id="mine", rules=_rules(concurrency_key="k")), NOW)
    shard.submit(new_task(id="other", origin=elsewhere, rules=_rules(concurrency_key="k")), NOW)
    shard.control("queue", "default", NOW, paused=True)
    assert shard.claimed("a1", NOW) == []
    assert [grant.head.id for grant in shard.claim("a1", NOW, workspace="v")] == ["other"]  # type: ignore[union-attr]
    shard.control("queue", "default", NOW, paused=False)
    assert shard.claimed("a1", NOW) == ["mine"]
