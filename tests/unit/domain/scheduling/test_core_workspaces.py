"""The scheduler's core while workspaces are suspended, resumed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cluster.domain.access.workspaces import StateChange, WorkspaceState
from cluster.domain.base.log import LogRow
from cluster.domain.scheduling import workspace_ends
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.explain import explain
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.rules import Edge, TaskRules
from cluster.domain.tasks.task import TaskDecision
from tests.support import core_calls
from tests.support.samples import ASKER, NOW, new_task

W = ASKER.workspace


def _row(kind: str, entity: str, data: Mapping[str, Any], seq: int = 1, workspace: str = W) -> LogRow:
    return LogRow(
        seq=seq,
        at=NOW,
        workspace=workspace,
        kind=kind,
        entity=entity,
        attempt=None,
        principal="user:root",
        data=dict(data),
        digest=b"",
    )


class Ground:
    def __init__(self) -> None:
        self.core = SchedulerCore(lease_ttl_s=30.0)
        self.decided: list[TaskDecision] = []
        self.answered: dict[int, int] = {}

    def submit(self, *ids: str, **fields: Any) -> None:
        for id in ids:
            record = new_task(id=id, **fields).record()
            self.core.apply([_row(record.kind, id, record.data)], NOW, unschedulable=())
        self.settle()

    def becomes(self, state: WorkspaceState, workspace: str = W, seq: int = 7) -> None:
        row = _row("access.workspace_changed", workspace, {"state": state.value}, seq, workspace)
        self.core.apply([row], NOW, unschedulable=())
        self.settle()

    def claim(self, ticket: int | None = None, agent: str = "a1") -> int | None:
        request = ClaimRequest(
            workspace=W,
            agent_id=agent,
            principal="p",
            capabilities=frozenset(),
            max_concurrency=50,
            max_tasks=50,
            claim_id=f"c{ticket}{agent}",
            client_claim_id=True,
            wait=ticket is not None,
        )
        grants = self.core.claim(request, ticket, NOW)
        self.settle()
        return None if grants is None else len(grants)

    def settle(self, now: float = NOW) -> None:
        decisions, answered = self.core.take_output(now)
        self.decided += decisions
        self.answered |= {answer.ticket: len(answer.grants) for answer in answered}

    def rows(self) -> list[tuple[str, str, str, str]]:
        records = [decision.record for decision in self.decided]
        return [(each.entity, each.kind, each.principal, each.cause) for each in records]


@pytest.fixture
def ground() -> Ground:
    return Ground()


def test_nothing_starts_in_a_suspended_workspace_until_it_is_resumed(ground: Ground) -> None:
    ground.submit("t1")
    ground.becomes(WorkspaceState.SUSPENDED)
    assert (ground.claim(), ground.claim(ticket=1)) == (0, None)
    ground.submit("t2")
    reasons = explain(ground.core.view("t2", W, NOW), [], {}, NOW).reasons
    assert reasons[0].code == "workspace_suspended"
    ground.becomes(WorkspaceState.SUSPENDED, workspace="other")
    assert ground.decided == []
    ground.becomes(WorkspaceState.ACTIVE, seq=8)
    assert ground.answered == {1: 2}
    assert {row[1] for row in ground.rows()} == {"task.claimed"}


def test_what_runs_in_a_suspended_workspace_may_end(ground: Ground) -> None:
    ground.submit("t1")
    assert ground.claim() == 1
    ground.becomes(WorkspaceState.SUSPENDED)
    assert ground.core.heartbeat([(W, "a1")], NOW + 20) == []
    ground.core.tick(NOW + 40)
    ground.settle(NOW + 40)
    assert [row[1] for row in ground.rows()] == ["task.claimed"]


def test_a_deletion_ends_every_task_of_its_workspace_and_says_why(ground: Ground) -> None:
    ground.submit("t1", "t2")
    assert ground.claim() == 2
    ground.submit("t3")
    ground.submit("t4", rules=TaskRules(after=(Edge(after="t3"),)))
    ground.submit("t5", run_at=NOW + 600)
    core_calls.cancel(ground.core, "t2", W, "user:ann", NOW)
    ground.settle()
    ground.decided.clear()
    ground.becomes(WorkspaceState.DELETED)
    last = {entity: row for entity, *row in ground.rows()}
    assert set(last) == {"t1", "t2", "t3", "t4", "t5"}
    assert {row[0] for row in last.values()} <= {"task.cancelled", "task.failed"}
    assert {row[2] for row in last.values()} == {"#7"}
    assert last["t3"] == ["task.cancelled", "user:root", "#7"]
    assert ground.core.open_tasks == 0
    ground.submit("t6")  # by a replica that did not know yet
    assert ground.rows()[-1] == ("t6", "task.cancelled", "user:root", "#7")


def test_a_large_workspace_ends_in_parts(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_ends, "ENDED_AT_ONCE", 2)
    ground.submit(*(f"t{n}" for n in range(5)))
    ground.becomes(WorkspaceState.DELETED)
    for left in (3, 1, 0):
        assert ground.core.open_tasks == left
        due = ground.core.next_timer()
        if left:
            assert due is not None
            ground.core.tick(due)
            ground.settle(due)
    assert [row[1] for row in ground.rows()] == ["task.cancelled"] * 5


def test_a_new_shard_goes_on_with_what_its_predecessor_began(ground: Ground) -> None:
    heads = [new_task(id="t1").head(), new_task(id="t2").head()]
    ground.core.load_states({W: StateChange(state=WorkspaceState.DELETED, principal="root", cause="#7")})
    ground.core.load(heads, NOW)
    ground.core.end_deleted(NOW)
    ground.settle()
    assert ground.rows() == [(each, "task.cancelled", "root", "#7") for each in ("t1", "t2")]
    other = Ground()
    other.core.load_states({W: StateChange(state=WorkspaceState.SUSPENDED)})
    other.core.load(heads, NOW)
    other.core.end_deleted(NOW)
    assert (other.claim(), other.core.open_tasks) == (0, 2)
