"""Random lives of two workspaces in a scheduler's core, held to a count of what runs."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.domain.base.log import LogRow
from cluster.domain.quotas.quotas import QuotaKind, Quotas
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.events import Complete, Reporter
from cluster.domain.tasks.task import TaskHead
from tests.support.invariants import validate_core
from tests.support.samples import ASKER, NOW, new_task

WORKSPACES = ("w", "x")


def _head(task_id: str, workspace: str) -> TaskHead:
    return new_task(id=task_id, origin=replace(ASKER, workspace=workspace)).head()


def _row(quotas: Quotas) -> LogRow:
    record = quotas.record(ASKER)
    return LogRow(
        seq=1,
        at=NOW,
        workspace=record.workspace,
        kind=record.kind,
        entity=record.entity,
        principal=record.principal,
        attempt=None,
        digest=b"",
        data=record.data,
    )


class Life(RuleBasedStateMachine):
    """The model keeps which tasks wait and run, and what each workspace may."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(1)
        self.waiting: dict[str, list[str]] = {name: [] for name in WORKSPACES}
        self.running: dict[str, dict[str, tuple[str, int]]] = {name: {} for name in WORKSPACES}
        self.quotas = {name: Quotas(workspace=name) for name in WORKSPACES}
        self.polls: dict[int, str] = {}
        self.heads: dict[str, TaskHead] = {}
        self.core = SchedulerCore(lease_ttl_s=1e6)

    def may_start(self, workspace: str) -> int:
        limit = self.quotas[workspace].running_tasks
        return 10**6 if limit is None else max(0, limit - len(self.running[workspace]))

    def granted(self, workspace: str, grants: object) -> None:
        for grant in grants:  # type: ignore[attr-defined]
            self.waiting[workspace].remove(grant.head.id)
            self.running[workspace][grant.head.id] = (grant.head.assigned_agent, grant.head.attempt)

    def settle(self) -> None:
        """Takes the answers to claims that wait."""
        _, answered = self.core.take_output(NOW)
        for answer in answered:
            self.granted(self.polls.pop(answer.ticket), answer.grants)

    @initialize(first=st.integers(1, 3))
    def begin(self, first: int) -> None:
        self.change(workspace=WORKSPACES[0], limit=first, is_late=False)

    @rule(workspace=st.sampled_from(WORKSPACES), tasks=st.integers(1, 3))
    def submit(self, workspace: str, tasks: int) -> None:
        heads = [_head(f"t{next(self.numbers):04}", workspace) for _ in range(tasks)]
        self.waiting[workspace] += [head.id for head in heads]
        self.core.load(heads, NOW)
        self.settle()

    @rule(workspace=st.sampled_from(WORKSPACES), slots=st.integers(1, 3), polls=st.sampled_from([True, True, False]))
    def claim(self, workspace: str, slots: int, polls: bool) -> None:
        n = next(self.numbers)
        request = ClaimRequest(
            workspace=workspace,
            agent_id=f"a{n}",
            principal="p",
            capabilities=frozenset(),
            max_concurrency=slots,
            max_tasks=slots,
            claim_id=f"c{n}",
            client_claim_id=True,
            wait=polls,
        )
        expected = min(slots, len(self.waiting[workspace]), self.may_start(workspace))
        grants = self.core.claim(request, n if polls else None, NOW)
        assert len(grants or ()) == expected
        if grants is None:
            self.polls[n] = workspace
        else:
            self.granted(workspace, grants)
        self.settle()

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        all_running = [(name, task_id) for name in WORKSPACES for task_id in sorted(self.running[name])]
        workspace, task_id = data.draw(st.sampled_from(all_running))
        agent_id, attempt = self.running[workspace].pop(task_id)
        by = Reporter(principal="p", agent_id=agent_id, attempt=attempt)
        head, transition = self.core.consider(task_id, workspace, Complete(by=by, result_json="1"), NOW)
        self.core.carry_out(head, transition, NOW)
        self.settle()

    @rule(workspace=st.sampled_from(WORKSPACES), limit=st.none() | st.integers(1, 4), is_late=st.booleans())
    def change(self, workspace: str, limit: int | None, is_late: bool) -> None:
        before = self.quotas[workspace]
        after = self.quotas[workspace] = before.changed({QuotaKind.RUNNING_TASKS: limit}, "p", NOW)
        rows = [_row(after)]
        if is_late and before.version:
            rows.append(_row(before))  # a row that is older than what is in force changes nothing
        self.core.apply(rows, NOW, unschedulable=())
        self.settle()

    @rule()
    def restart(self) -> None:
        """A new core has what the store has."""
        heads = [
            self.core.head(task_id) for name in WORKSPACES for task_id in (*self.waiting[name], *self.running[name])
        ]
        self.core = SchedulerCore(lease_ttl_s=1e6)
        self.polls.clear()
        self.core.load_quotas([quotas for quotas in self.quotas.values() if quotas.version])
        self.core.load(heads, NOW)
        self.core.loaded(1)

    @invariant()
    def its_tables_belong_together(self) -> None:
        validate_core(self.core)

    @invariant()
    def nobody_waits_for_what_may_start(self) -> None:
        for ticket, workspace in self.polls.items():
            assert not self.waiting[workspace] or not self.may_start(workspace), f"claim {ticket} is left waiting"


def test_as_many_run_as_may_and_no_more() -> None:
    run_state_machine_as_test(Life, settings=settings(max_examples=200, stateful_step_count=40, deadline=None))
