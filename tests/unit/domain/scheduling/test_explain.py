"""Every reason for which a task waits is explained, with what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.agents.agent import Agent, Health, Intent, Liveness, TransportKind
from cluster.domain.agents.breaker import RESET_S, Breaker, BreakerState
from cluster.domain.residency import AwayRegion
from cluster.domain.scheduling.explain import Explanation, TaskView, explain, explain_away
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.ready_queue import AGEING_S, QueuePosition
from cluster.domain.tasks.rules import PREFERENCE_S, Affinity, TaskRules
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus
from tests.support.samples import NOW, an_agent, new_task

POSITION = QueuePosition(ahead=3, effective_level=1, share=0.25, dispatches_behind=0.0)


def _explained(
    *agents: Agent,
    now: float = NOW,
    view: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    breakers: Mapping[str, Breaker] | None = None,
    **task: Any,
) -> Explanation:
    """``task``: what is submitted; ``state``: what became of it; ``view``: what its shard sees."""
    head: TaskHead = replace(new_task(id="t", **task).head(), **(state or {}))
    return explain(TaskView(head=head, **({"position": POSITION} | (view or {}))), agents, breakers or {}, now)


def _codes(explained: Explanation) -> list[str]:
    return [reason.code for reason in explained.reasons]


def _busy(agent_id: str, **changes: Any) -> Agent:
    return an_agent(agent_id, running_task_ids=("other",), **changes)


def test_a_task_that_could_start_waits_for_its_turn() -> None:
    found = _explained(an_agent("a1"), an_agent("a2"))
    assert (_codes(found), found.able_agents) == (["waiting_for_turn"], ("a1", "a2"))
    assert found.summary == "3 tasks of its own queue are ahead of it; it is served as normal."
    assert f"{AGEING_S:g} s" in found.reasons[0].unblock
    behind = _explained(an_agent(), view={"position": replace(POSITION, dispatches_behind=2.0)})
    assert "w has 25% of the dispatches" in behind.summary


def test_a_task_that_requires_nothing_is_not_for_agents_that_chat() -> None:
    chats = an_agent("m1", transport=TransportKind.OPENAI, capabilities=("write",))
    found = _explained(chats)
    assert (_codes(found), found.able_agents) == (["no_capable_agent"], ())
    assert "only agents that chat" in found.reasons[0].message
    assert _explained(chats, an_agent("w1")).able_agents == ("w1",)
    assert _explained(chats, required_capabilities=("write",)).able_agents == ("m1",)
    assert _explained(chats, target_agent="m1").able_agents == ("m1",)


@pytest.mark.parametrize("kind", list(ControlKind))
def test_a_pause_names_its_target_its_author_and_how_to_resume(kind: ControlKind) -> None:
    control = Control(workspace="w", kind=kind, name="n", paused=True, principal="user:ann")
    (reason,) = _explained(an_agent(), view={"paused_by": (control,)}).reasons
    assert reason.code == "paused"
    assert "user:ann" in reason.message
    assert reason.unblock == f"Resume it: aragora-cp queue resume n --kind {kind.value}"


def test_a_rate_says_when_it_resets_and_a_slot_who_has_it() -> None:
    rate = Control(workspace="w", kind=ControlKind.QUEUE, name="q", rate_per_s=0.5)
    found = _explained(
        an_agent(),
        view={"rate": rate, "rate_ready_at": NOW + 2, "slot_holders": ("t8", "t9")},
        rules=TaskRules(concurrency_key="k", concurrency_limit=2),
    )
    limited, taken = found.reasons
    assert (limited.code, limited.at) == ("rate_limited", NOW + 2)
    assert taken.code == "concurrency"
    assert "2 of 2 slots of key k are taken by t8, t9" in taken.message
    ready = _explained(an_agent(), view={"rate": rate, "rate_ready_at": NOW})
    assert _codes(ready) == ["waiting_for_turn"]


def test_reasons_that_end_at_a_known_time_say_when() -> None:
    delayed = _explained(an_agent(), run_at=NOW + 60)
    assert (_codes(delayed), delayed.reasons[0].at) == (["delayed"], NOW + 60)
    again = {"detail": TaskDetail.RETRYING, "attempt": 2, "retries": 2, "run_at": NOW + 4}
    (retrying,) = _explained(an_agent(), state=again).reasons
    assert (retrying.code, retrying.at) == ("retrying", NOW + 4)
    assert "Attempt 2 failed (retry 2 of 3)" in retrying.message
    blocked = _explained(an_agent(), state={"detail": TaskDetail.BLOCKED}, view={"waits_for": ("t1", "t2")})
    assert _codes(blocked) == ["blocked"]
    assert "t1, t2" in blocked.summary


@pytest.mark.parametrize(
    ("agents", "required", "unblock"),
    [
        ([], (), "Register an agent."),
        ([], ("gpu",), "Register an agent with gpu."),
        ([an_agent("a1", capabilities=("cpu",))], ("cpu", "gpu"), "Register an agent with gpu."),
        (
            [an_agent("a1", capabilities=("cpu",)), an_agent("a2", capabilities=("gpu",))],
            ("cpu", "gpu"),
            "Register an agent with cpu, gpu.",
        ),
    ],
)
def test_missing_capabilities_are_named_with_what_unblocks(
    agents: list[Agent], required: tuple[str, ...], unblock: str
) -> None:
    found = _explained(*agents, required_capabilities=required)
    assert (_codes(found), found.reasons[0].unblock, found.able_agents) == (["no_capable_agent"], unblock, ())


def test_a_task_for_one_agent_says_what_that_agent_is_missing() -> None:
    others = [an_agent("a2", capabilities=("gpu",))]
    target: dict[str, Any] = {"target_agent": "a1", "required_capabilities": ("gpu",)}
    missing = _explained(*others, **target)
    assert (_codes(missing), missing.reasons[0].unblock) == (["no_agent"], "Register it.")
    unable = _explained(*others, an_agent("a1", capabilities=("cpu",)), **target)
    assert (_codes(unable), unable.reasons[0].unblock) == (["no_capable_agent"], "Register a1 again with gpu.")
    busy = _explained(*others, _busy("a1", capabilities=("gpu",)), **target)
    assert (_codes(busy), busy.able_agents) == (["agents_busy"], ("a1",))
    excluded = _explained(an_agent("a1"), target_agent="a1", rules=TaskRules(excluded_agents=("a1",)))
    assert _codes(excluded) == ["excluded"]


def test_rules_that_forbid_agents_are_named_with_the_agents() -> None:
    rules = TaskRules(excluded_agents=("a1", "a2"), regions=("eu",), affinity=Affinity.STRICT)
    agents = [an_agent("a1", region_id="eu"), an_agent("a2"), an_agent("a3", region_id="us")]
    found = _explained(*agents, rules=rules)
    assert (_codes(found), found.able_agents) == (["excluded", "region"], ())
    assert "excludes a1, a2" in found.reasons[0].message
    assert "must run in eu; a3 could do it" in found.reasons[1].message
    assert found.reasons[1].unblock == "An agent registers in eu."
    some = _explained(*agents, _busy("a4", region_id="eu"), rules=rules)
    assert (_codes(some), some.able_agents) == (["agents_busy", "excluded", "region"], ("a4",))
    free = _explained(*agents, an_agent("a4", available_regions=("eu",)), rules=rules)
    assert (_codes(free), free.able_agents) == (["waiting_for_turn"], ("a4",))
    many = _explained(*(an_agent(f"a{n}") for n in range(8)), rules=replace(rules, excluded_agents=()))
    assert "a0, a1, a2, a3, a4 and 3 more" in many.summary


def test_a_preferred_region_is_waited_for_only_so_long() -> None:
    rules = TaskRules(regions=("eu", "us"), affinity=Affinity.PREFERRED)
    (reason,) = _explained(an_agent("a1", region_id="asia"), rules=rules).reasons
    assert (reason.code, reason.at) == ("region", NOW + PREFERENCE_S)
    later = _explained(an_agent("a1", region_id="asia"), rules=rules, now=NOW + PREFERENCE_S)
    assert _codes(later) == ["waiting_for_turn"]


def test_agents_that_take_no_work_are_named_with_their_states() -> None:
    away = [an_agent("a1", liveness=Liveness.OFFLINE), an_agent("a2", health=Health.FAILED)]
    found = _explained(*away)
    assert (_codes(found), found.able_agents) == (["no_agent"], ("a1", "a2"))
    assert found.summary == "No agent that may have it takes work: a1 is offline, a2 is failed."
    assert found.reasons[0].unblock == "One of them comes back."
    paused = _explained(*away, an_agent("a3", intent=Intent.PAUSED))
    assert paused.reasons[0].unblock == "One of them comes back: aragora-cp agents resume a3."


def test_a_task_that_is_running_says_who_has_it() -> None:
    held = {"status": TaskStatus.RUNNING, "detail": TaskDetail.RUNNING, "attempt": 2, "assigned_agent": "a1"}
    running = _explained(state=held, view={"position": None, "lease_expires_at": NOW + 9})
    assert (_codes(running), running.reasons[0].at) == (["running"], NOW + 9)
    assert running.summary == "Agent a1 is running attempt 2."
    stopping = _explained(state=held | {"detail": TaskDetail.CANCELLING}, view={"position": None})
    assert _codes(stopping) == ["cancelling"]


def test_a_task_that_was_given_up_on_says_how_to_replay_it() -> None:
    dead = {"status": TaskStatus.FAILED, "detail": TaskDetail.DEAD_LETTERED, "attempt": 4, "retries": 3}
    found = _explained(state=dead)
    assert (_codes(found), found.reasons[0].unblock) == (["attempts_exhausted"], "Replay it: aragora-cp dlq replay t")
    assert "all of its 3 retries are used" in found.reasons[0].message
    late = {"status": TaskStatus.TIMEOUT, "detail": TaskDetail.TIMEOUT}
    assert "before an agent took it" in _explained(state=late).reasons[0].message
    assert "in attempt 2" in _explained(state=late | {"attempt": 2}).reasons[0].message
    done = _explained(state={"status": TaskStatus.COMPLETED, "detail": TaskDetail.COMPLETED})
    assert (done.summary, done.reasons) == ("The task has ended: completed.", ())


OPEN = Breaker(name="b", state=BreakerState.OPEN, changed_at=NOW - 20)
ASKED = Breaker(name="b", retry_at=NOW + 90)


@pytest.mark.parametrize(
    ("breaker", "code", "at"),
    [
        (OPEN, "breaker_open", NOW - 20 + RESET_S),
        (ASKED, "agent_asked_to_wait", NOW + 90),
        (replace(OPEN, retry_at=NOW + 90), "agent_asked_to_wait", NOW + 90),
        (replace(OPEN, retry_at=NOW + 1), "breaker_open", NOW - 20 + RESET_S),
    ],
)
@pytest.mark.parametrize("health", [Health.UNKNOWN, Health.FAILED])
def test_an_agent_behind_its_breaker_is_named_with_its_time(
    breaker: Breaker, code: str, at: float, health: Health
) -> None:
    agent = an_agent("a1", transport=TransportKind.HTTP, health=health)
    (reason,) = _explained(agent, breakers={"a1": breaker}).reasons
    assert (reason.code, reason.at) == (code, at)
    assert f"Agent a1 is not called for another {at - NOW:.1f} s" in reason.message
    assert "breaker" in reason.message or code != "breaker_open"
    assert _codes(_explained(agent, now=at, breakers={"a1": breaker})) != [code], "its time has come"


def test_a_breaker_explains_nothing_while_another_agent_is_free() -> None:
    called = an_agent("a1", transport=TransportKind.HTTP)
    assert _codes(_explained(called, an_agent("a2"), breakers={"a1": OPEN})) == ["waiting_for_turn"]
    assert _codes(_explained(called, _busy("a2"), breakers={"a1": OPEN})) == ["breaker_open", "agents_busy"]
    paused = an_agent("a1", transport=TransportKind.HTTP, intent=Intent.PAUSED)
    assert _codes(_explained(paused, breakers={"a1": OPEN})) == ["no_agent"]


def test_a_region_that_is_away_is_what_its_tasks_wait_for() -> None:
    head = new_task(id="t").head()
    found = explain_away(head, AwayRegion(region="eu-central-1", silent_s=7.25))
    assert _codes(found) == ["waiting_region"]
    assert (
        found.summary == "The region eu-central-1, which gives out tasks, has not been heard for 7.2 s, so none starts."
    )
    assert "region status" in found.reasons[0].unblock
    nobody = explain_away(head, AwayRegion(region=None, silent_s=None))
    assert nobody.summary == "No region gives out tasks now, so none starts."
    ended = explain_away(
        replace(head, status=TaskStatus.COMPLETED, detail=TaskDetail.COMPLETED), AwayRegion(region="a", silent_s=1.0)
    )
    assert (ended.reasons, ended.summary) == ((), "The task has ended: completed.")
