"""The scheduler's core against a simple model: a store that takes decisions only as the real one does.

Whatever happens in whatever order: every decision fits the row that it replaces, every attempt has one holder, no task
is lost, and nobody who could work waits beside work.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.base.errors import Conflict, NotFound
from cluster.domain.base.log import LogRow
from cluster.domain.scheduling.answers import Grant
from cluster.domain.scheduling.core import Missing, SchedulerCore
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.events import Complete, Fail, Reporter
from cluster.domain.tasks.task import Priority, TaskHead, TaskStatus
from tests.support import core_calls
from tests.support.invariants import validate_core
from tests.support.samples import NOW, new_task

TTL_S = 30.0
W = "w"
AGENTS = {"plain": frozenset[str](), "x": frozenset({"x"}), "xy": frozenset({"x", "y"}), "talks": frozenset({"x"})}
#: They leave what requires nothing to others.
TALKING = ("talks",)
agents = st.sampled_from(sorted(AGENTS))
required = st.sampled_from([(), ("x",), ("x", "y")])
_claims = itertools.count(1)


@dataclass(frozen=True)
class Token:
    task_id: str
    attempt: int
    agent_id: str
    delivery: int


def fits(head: TaskHead, request: ClaimRequest) -> bool:
    asked_for = head.required or head.target_agent is not None
    meant = head.target_agent in (None, request.agent[1]) and (asked_for or not request.explicit_only)
    return meant and head.required <= request.capabilities


class SchedulerLife(RuleBasedStateMachine):
    @initialize(concurrency=st.integers(1, 2))
    def begin(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.now = NOW
        self.core = SchedulerCore(lease_ttl_s=TTL_S)
        self.store: dict[str, TaskHead] = {}
        self.unread: list[LogRow] = []
        self.tokens: list[Token] = []
        self.holders: dict[tuple[str, int], str] = {}
        self.answers: dict[tuple[str, int], set[int]] = {}
        self.waiting: dict[int, ClaimRequest] = {}
        self.removed: set[str] = set()
        self.unschedulable: set[tuple[str, str]] = set()
        self.tickets = itertools.count(1)
        self.seq = itertools.count(1)

    # --- the store and the log ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """As the shell does after every event: commits what was decided, then tells what was granted."""
        decisions, answered = self.core.take_output(self.now)
        for decision in decisions:
            row = self.store[decision.head.id]
            assert not row.status.terminal, f"{row} had ended, {decision.head} came later"
            assert (row.status, row.attempt) == (decision.expect_status, decision.expect_attempt)
            self.store[row.id] = decision.head
        for answer in answered:
            ticket, grants = answer if isinstance(answer, tuple) else (answer.ticket, answer.grants)
            request = self.waiting.pop(ticket)
            self.told(request, grants)

    def told(self, request: ClaimRequest, grants: tuple[Grant, ...]) -> None:
        for grant in grants:
            assert grant.redelivered or request.agent not in self.unschedulable
            head = self.store[grant.head.id]
            assert (head.status, head.assigned_agent) == (TaskStatus.RUNNING, request.agent[1])
            assert fits(head, request) or (grant.redelivered and head.target_agent in (None, request.agent[1]))
            assert self.holders.setdefault((head.id, head.attempt), request.agent[1]) == request.agent[1]
            self.tokens.append(Token(head.id, head.attempt, request.agent[1], grant.delivery))
            self.answers.setdefault((head.id, head.attempt), set()).add(grant.delivery)

    def log(self, kind: str, entity: str, data: dict[str, Any]) -> LogRow:
        return LogRow(
            seq=next(self.seq), at=self.now, workspace=W, kind=kind, entity=entity, attempt=None, principal="p",
            data=data, digest=b"",
        )  # fmt: skip

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(
        needs=required,
        priority=st.sampled_from(list(Priority)),
        delay=st.sampled_from([None, 5.0]),
        only=st.none() | agents,
        retries=st.integers(0, 1),
        read=st.booleans(),
    )
    def submit(
        self,
        needs: tuple[str, ...],
        priority: Priority,
        delay: float | None,
        only: str | None,
        retries: int,
        read: bool,
    ) -> None:
        run_at = None if delay is None else self.now + delay
        if only is not None:
            needs = tuple(set(needs) & AGENTS[only])
        task = new_task(
            created_at=self.now, required_capabilities=needs, priority=priority, run_at=run_at, target_agent=only,
            max_retries=retries, timeout_s=60.0,
        )  # fmt: skip
        self.store[task.id] = task.head()
        self.unread.append(self.log("task.submitted", task.id, task.head().to_log()))
        if read:
            self.read()

    @rule()
    def read(self) -> None:
        rows, self.unread = self.unread, []
        self.core.apply(rows, self.now, unschedulable=self.unschedulable)
        self.settle()

    @rule(agent=agents, wait=st.booleans(), most=st.sampled_from([None, 1, 3]))
    def claim(self, agent: str, wait: bool, most: int | None) -> None:
        request = ClaimRequest(
            workspace=W, agent_id=agent, principal="p", capabilities=AGENTS[agent], max_concurrency=self.concurrency,
            max_tasks=most, claim_id=f"c{next(_claims)}", client_claim_id=most is not None,
            explicit_only=agent in TALKING,
        )  # fmt: skip
        ticket = next(self.tickets) if wait else None
        try:
            grants = self.core.claim(request, ticket, self.now)
        except NotFound:
            assert agent in self.removed
            return
        if grants is None:
            assert ticket is not None
            self.waiting[ticket] = request
        self.settle()
        if grants:
            self.told(request, grants)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), failed=st.booleans(), requeue=st.booleans())
    def report(self, data: st.DataObject, failed: bool, requeue: bool) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        by = Reporter(principal="p", agent_id=token.agent_id, attempt=token.attempt)
        event = Fail(by=by, error="no", requeue=requeue) if failed else Complete(by=by, result_json="1")
        before = self.store[token.task_id]
        holds = before.status is TaskStatus.RUNNING and before.attempt == token.attempt
        try:
            core_calls.report(self.core, token.task_id, W, event, self.now)
        except Missing:
            assert before.status.terminal
        except Conflict:
            pass
        self.settle()
        assert holds or self.store[token.task_id] == before, "whoever lost the lease changes nothing"

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def undelivered(self, data: st.DataObject) -> None:
        """One answer reached nobody. The lease goes back when that was the last one that could have reached its holder."""
        token = data.draw(st.sampled_from(self.tokens))
        before = self.store[token.task_id]
        holds = before.status is TaskStatus.RUNNING and before.attempt == token.attempt
        answers = self.answers[token.task_id, token.attempt]
        last = answers == {token.delivery}
        answers.discard(token.delivery)
        self.core.undelivered(token.task_id, W, token.attempt, token.agent_id, token.delivery, "p", self.now)
        self.settle()
        after = self.store[token.task_id]
        if holds and last:
            assert after.status in (TaskStatus.PENDING, TaskStatus.CANCELLED) or after.attempt > token.attempt
        else:
            assert after == before

    @precondition(lambda self: self.store)
    @rule(data=st.data(), priority=st.none() | st.sampled_from(list(Priority)))
    def change(self, data: st.DataObject, priority: Priority | None) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.store)))
        try:
            if priority is None:
                core_calls.cancel(self.core, task_id, W, "p", self.now)
            else:
                core_calls.prioritize(self.core, task_id, W, priority, self.now)
        except (Missing, Conflict):
            pass
        self.settle()

    @rule(agent=agents)
    def heartbeat(self, agent: str) -> None:
        for _, agent_id, task_id in self.core.heartbeat([(W, agent)], self.now):
            assert self.store[task_id].assigned_agent == agent_id
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 6.0, 31.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.core.withdraw(ticket)
        del self.waiting[ticket]

    @rule(agent=agents, what=st.sampled_from(["registered", "unregistered", "offline", "rests", "works"]))
    def agent_changes(self, agent: str, what: str) -> None:
        """Whether one that registers again rests is up to its operator: here it does not."""
        kind = f"agent.{what}" if what.endswith("registered") else "agent.status_changed"
        if what != "offline":
            (self.unschedulable.add if what == "rests" else self.unschedulable.discard)((W, agent))
        self.unread.append(self.log(kind, agent, {"new_status": "offline"} if what == "offline" else {}))
        if what == "unregistered":
            self.removed.add(agent)
        elif what == "registered":
            self.removed.discard(agent)
        self.read()

    @rule()
    def killed(self) -> None:
        """Everything in memory is gone; a successor reads the store and the log from there on."""
        for answers in self.answers.values():
            answers.add(0)  # the successor cannot know which of them arrived
        self.core = SchedulerCore(lease_ttl_s=TTL_S)
        self.core.load((head for head in self.store.values() if not head.status.terminal), self.now)
        self.core.load_agents(self.unschedulable)
        self.unread = []
        self.removed = set()
        waiting, self.waiting = self.waiting, {}
        self.settle()
        for request in waiting.values():
            self.claim(agent=request.agent[1], wait=True, most=request.max_tasks)

    # --- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def its_tables_belong_together(self) -> None:
        validate_core(self.core)

    @invariant()
    def memory_is_the_store(self) -> None:
        unread = {row.entity for row in self.unread if row.kind == "task.submitted"}
        for head in self.store.values():
            if head.status.terminal or head.id in unread:
                continue
            held = self.core.head(head.id)
            if head.status is TaskStatus.PENDING:  # that a delay is over is not worth a commit
                held = replace(held, detail=head.detail)
            assert held == head
        assert self.core.open_tasks == sum(
            not head.status.terminal and head.id not in unread for head in self.store.values()
        )

    @invariant()
    def nobody_holds_more_than_it_has_room_for(self) -> None:
        for agent in AGENTS:
            held = [h for h in self.store.values() if h.status is TaskStatus.RUNNING and h.assigned_agent == agent]
            assert len(held) <= self.concurrency

    @invariant()
    def nobody_with_room_waits_beside_work(self) -> None:
        unread = {row.entity for row in self.unread}
        ready = [
            head
            for head in self.store.values()
            if head.status is TaskStatus.PENDING and head.run_at <= self.now and head.id not in unread
        ]
        for request in self.waiting.values():
            agent = request.agent[1]
            if request.agent in self.unschedulable:
                continue
            held = sum(h.status is TaskStatus.RUNNING and h.assigned_agent == agent for h in self.store.values())
            fitting = [h for h in ready if fits(h, request)]
            assert held >= self.concurrency or not fitting, f"{agent} waits beside {fitting}"

    def teardown(self) -> None:
        """Nothing is lost: whatever has not ended can be run to its end by somebody."""
        if not hasattr(self, "core"):
            return
        self.killed()
        for agent in AGENTS:
            self.agent_changes(agent=agent, what="registered")
        for _ in range(20 * (len(self.store) + 1)):
            if all(head.status.terminal for head in self.store.values()):
                return
            self.now += 31.0
            self.core.tick(self.now)
            self.settle()
            for agent in AGENTS:
                self.claim(agent=agent, wait=False, most=3)
            for head in list(self.store.values()):
                if head.status is TaskStatus.RUNNING:
                    by = Reporter(principal="p", agent_id=head.assigned_agent, attempt=head.attempt)
                    core_calls.report(self.core, head.id, W, Complete(by=by), self.now)
                    self.settle()
        raise AssertionError(f"lost: {[head for head in self.store.values() if not head.status.terminal]}")


TestSchedulerLife = SchedulerLife.TestCase
TestSchedulerLife.settings = settings(max_examples=50, stateful_step_count=25)


def test_a_slot_that_becomes_free_serves_the_claim_that_waited_for_it() -> None:
    state = SchedulerLife()
    state.begin(concurrency=1)
    for _ in range(2):
        state.submit(needs=(), priority=Priority.NORMAL, delay=None, only=None, retries=0, read=True)
    state.claim(agent="plain", wait=True, most=1)
    state.claim(agent="plain", wait=True, most=1)
    (token,) = state.tokens
    by = Reporter(principal="p", agent_id=token.agent_id, attempt=token.attempt)
    core_calls.report(state.core, token.task_id, W, Complete(by=by), state.now)
    state.settle()
    state.nobody_with_room_waits_beside_work()


def test_a_claim_that_cannot_take_a_task_does_not_block_other_claims() -> None:
    state = SchedulerLife()
    state.begin(concurrency=1)
    state.claim(agent="talks", wait=True, most=1)
    state.claim(agent="x", wait=True, most=1)
    state.submit(needs=(), priority=Priority.NORMAL, delay=None, only=None, retries=0, read=True)
    assert [token.agent_id for token in state.tokens] == ["x"]
    state.submit(needs=(), priority=Priority.NORMAL, delay=None, only="talks", retries=0, read=True)
    assert [token.agent_id for token in state.tokens] == ["x", "talks"]
