"""A lease ends when the process that claimed it is silent, whatever other processes of its agent send."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.domain.base.ids import check_id, claim_id_of, process_of
from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.task import TaskStatus
from tests.support.samples import NOW, new_task
from tests.unit.domain.scheduling.test_core_rules import TTL_S, Shard

AGENT: AgentKey = ("w", "a1")


def _beats(shard: Shard, process: str | None, now: float) -> None:
    if process is None:
        shard.core.heartbeat([AGENT], now)
    else:
        shard.core.heartbeat([], now, [(*AGENT, process)])


def _claims(shard: Shard, process: str | None, now: float) -> None:
    claim_id = f"claim-{now}" if process is None else claim_id_of(process, str(now))
    assert shard.claimed("a1", now, claim_id=claim_id) == []


def _works(shard: Shard, process: str | None, now: float) -> None:
    """Claims a task of its own and reports it."""
    task = new_task(id=f"quick-{now}")
    shard.submit(task, now)
    claim_id = f"claim-{now}" if process is None else claim_id_of(process, str(now))
    assert shard.claimed("a1", now, claim_id=claim_id) == [task.id]
    shard.report(task.id, now)


CALLS: tuple[Callable[[Shard, str | None, float], None], ...] = (_beats, _claims, _works)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("claimed_by", "heard", "held"),
    [
        ("first", "first", True),
        ("first", "second", False),
        ("first", None, True),
        (None, "second", True),
        (None, None, True),
    ],
)
def test_calls_renew_the_leases_of_their_own_process(
    call: Callable[[Shard, str | None, float], None],
    claimed_by: str | None,
    heard: str | None,
    held: bool,
    restarts: bool,
) -> None:
    shard = Shard()
    shard.submit(new_task(id="t", timeout_s=1000.0), NOW)
    claim_id = "claim-0" if claimed_by is None else claim_id_of(claimed_by, "0")
    assert shard.claimed("a1", NOW, claim_id=claim_id) == ["t"]
    if restarts:
        shard.restart(NOW)
    for part in range(1, 6):
        call(shard, heard, NOW + part * TTL_S / 2)
        shard.tick(NOW + part * TTL_S / 2)
        if part == 1:
            assert shard.store["t"].status is TaskStatus.RUNNING
        if shard.store["t"].status is not TaskStatus.RUNNING:
            break
    assert (shard.store["t"].status is TaskStatus.RUNNING) == held


def test_two_processes_of_one_agent_each_keep_their_own_leases() -> None:
    shard = Shard()
    for process in ("first", "second"):
        shard.submit(new_task(id=process, timeout_s=1000.0), NOW)
        assert shard.claimed("a1", NOW, claim_id=claim_id_of(process, "0")) == [process]
    for part in range(1, 8):
        now = NOW + part * TTL_S / 2
        shard.core.heartbeat([], now, [(*AGENT, "first"), (*AGENT, "second")] if part < 4 else [(*AGENT, "second")])
        shard.tick(now)
    assert shard.kinds == {"first": ["submitted", "claimed", "requeued"], "second": ["submitted", "claimed"]}


def test_a_silent_process_may_still_report_before_its_lease_ends() -> None:
    shard = Shard()
    shard.submit(new_task(id="t"), NOW)
    assert shard.claimed("a1", NOW, claim_id=claim_id_of("first", "0")) == ["t"]
    shard.core.heartbeat([], NOW + TTL_S - 1, [(*AGENT, "second")])
    shard.report("t", NOW + TTL_S - 1)
    assert shard.store["t"].status is TaskStatus.COMPLETED


def test_an_agent_restarted_without_end_leaves_nothing_behind() -> None:
    shard = Shard()
    for number in range(50):
        _works(shard, f"process-{number}", NOW + number)
        shard.core.heartbeat([], NOW + number, [(*AGENT, f"silent-{number}")])
    assert shard.core._leases._by_agent[AGENT].processes == {}


def test_only_a_claim_id_of_its_form_names_a_process() -> None:
    assert process_of(check_id(claim_id_of("ab12", "7:8"), "claim_id")) == "ab12"
    for claim_id in (None, "", "claim-1", "process", "process:", "process:ab12", "process::1", "a:process:b:1"):
        assert process_of(claim_id) is None
