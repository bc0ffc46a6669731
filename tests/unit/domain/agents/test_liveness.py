"""Liveness in any order of heartbeats, work, sweeps, losses of the store and restarts of the sweep."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.agents.agent import Agent, Liveness, TransportKind
from cluster.domain.agents.liveness import (
    DEAF_TIMEOUTS,
    Activity,
    WaitingWork,
    Watch,
    next_watch,
    sweep,
)
from tests.support.samples import NOW, an_agent

TIMEOUT_S = 30.0
SWEEP_S = 10.0
KEYS = [("w", f"a{i}") for i in range(3)]


class LivenessMachine(RuleBasedStateMachine):
    """A fleet, its store of signs and a monitor. What must hold is checked against when each agent really spoke."""

    @initialize()
    def start(self) -> None:
        self.now = NOW
        self.store = "one"
        self.reachable = True
        self.activity: dict[tuple[str, str], float] = dict.fromkeys(KEYS, NOW)
        self.last_activity: dict[tuple[str, str], float] = {}
        self.spoke = dict.fromkeys(KEYS, NOW)
        self.did = dict.fromkeys(KEYS, NOW)
        self.agents: dict[tuple[str, str], Agent] = {key: an_agent(key[1]) for key in KEYS}
        self.waiting: list[WaitingWork] = []
        self.blind_since = NOW
        self.watch = Watch(since=NOW)
        self.swept = False

    @rule(key=st.sampled_from(KEYS))
    def heartbeat(self, key: tuple[str, str]) -> None:
        """While the store is away a heartbeat is refused, and the agent says it again."""
        if self.reachable:
            self.spoke[key] = self.activity[key] = self.now
        self.swept = False

    @rule(key=st.sampled_from(KEYS))
    def claim(self, key: tuple[str, str]) -> None:
        self.heartbeat(key)
        self.did[key] = self.now
        if self.reachable:
            self.last_activity[key] = self.now

    @rule(sweeps=st.sampled_from([0, 1, 2, 4, 13]), rest_s=st.sampled_from([0.0, 1.0, 9.0]))
    def time_passes(self, sweeps: int, rest_s: float) -> None:
        for _ in range(sweeps):
            self.now += SWEEP_S
            self.sweeps()
        self.now += rest_s
        self.swept = False

    @rule()
    def work_is_offered(self) -> None:
        self.waiting.append(WaitingWork(workspace="w", target=None, required=frozenset(), since=self.now))

    @rule()
    def work_is_taken(self) -> None:
        self.waiting.clear()

    @rule()
    def the_store_is_lost(self) -> None:
        self.store += "+"
        self.activity.clear()
        self.last_activity.clear()
        self.blind_since = self.now
        self.swept = False

    @rule()
    def the_store_goes_away_or_comes_back(self) -> None:
        self.reachable = not self.reachable
        self.swept = False

    @rule()
    def the_monitor_restarts(self) -> None:
        self.watch = Watch(since=self.now)
        self.blind_since = self.now

    @rule()
    def sweeps(self) -> None:
        before = dict(self.agents)
        self.watch = next_watch(self.watch, self.store if self.reachable else None, self.now)
        self.swept = self.reachable
        if not self.reachable:
            self.blind_since = self.now
            return
        activity = Activity(last=dict(self.activity), last_activity=dict(self.last_activity))
        verdicts = sweep(
            self.agents.values(),
            activity,
            self.waiting,
            now=self.now,
            watching_since=self.watch.since,
            timeout_s=TIMEOUT_S,
        )
        for verdict in verdicts:
            key = (verdict.workspace, verdict.agent_id)
            assert verdict.was is before[key].liveness
            assert verdict.was is not verdict.now
            self.agents[key] = replace(self.agents[key], liveness=verdict.now)
            if verdict.now is Liveness.OFFLINE:
                assert self.now - self.spoke[key] > TIMEOUT_S, "declared dead although it spoke within the timeout"
                assert self.now - self.blind_since > TIMEOUT_S, "declared dead although nobody could have heard it"
            if verdict.now is Liveness.DEAF:
                assert any(work.since <= self.now - TIMEOUT_S * DEAF_TIMEOUTS for work in self.waiting)
                assert self.now - self.did[key] > TIMEOUT_S * DEAF_TIMEOUTS
        again = sweep(
            self.agents.values(),
            activity,
            self.waiting,
            now=self.now,
            watching_since=self.watch.since,
            timeout_s=TIMEOUT_S,
        )
        assert again == [], "a second look at the same signs changes nothing"

    @precondition(lambda self: getattr(self, "swept", False))
    @invariant()
    def after_a_sweep_the_silent_are_offline_and_who_spoke_is_not(self) -> None:
        for key, agent in self.agents.items():
            heard = self.activity.get(key)
            if heard is not None and heard == self.now:
                assert agent.liveness in (Liveness.ALIVE, Liveness.DEAF), agent
            if self.now - max(self.spoke[key], self.watch.since) > TIMEOUT_S:
                assert agent.liveness is Liveness.OFFLINE, agent
            if self.last_activity.get(key) == self.now:
                assert agent.liveness is Liveness.ALIVE, agent


TestLiveness = LivenessMachine.TestCase
TestLiveness.settings = settings(max_examples=200, stateful_step_count=40)


def _sweep(agent: Agent, heard: float | None, now: float, since: float = NOW) -> list[Liveness]:
    activity = Activity(last={} if heard is None else {("w", agent.agent_id): heard})
    return [verdict.now for verdict in sweep([agent], activity, now=now, watching_since=since, timeout_s=TIMEOUT_S)]


def test_an_agent_with_late_heartbeats_is_suspect_before_it_is_offline() -> None:
    agent = an_agent()
    assert _sweep(agent, NOW, NOW + 20) == []
    assert _sweep(agent, NOW, NOW + 21) == [Liveness.SUSPECT]
    assert _sweep(agent, NOW, NOW + 31) == [Liveness.OFFLINE]


def test_an_agent_with_an_endpoint_is_not_judged_by_heartbeats() -> None:
    agent = an_agent(transport=TransportKind.HTTP, endpoint="http://a")
    assert _sweep(agent, None, NOW + 1000) == []


def test_only_an_idle_agent_that_ignores_fitting_tasks_is_deaf() -> None:
    now = NOW + 1000
    waiting = [WaitingWork(workspace="w", target=None, required=frozenset(), since=NOW)]
    idle = an_agent()
    busy = an_agent(running_task_ids=("t1",))
    other = an_agent(capabilities=("x",), agent_id="a1")
    activity = Activity(last={("w", "a1"): now})

    def verdicts(agent: Agent, waiting: list[WaitingWork]) -> list[Liveness]:
        found = sweep([agent], activity, waiting, now=now, watching_since=NOW, timeout_s=TIMEOUT_S)
        return [verdict.now for verdict in found]

    assert verdicts(idle, waiting) == [Liveness.DEAF]
    assert verdicts(busy, waiting) == []
    assert verdicts(other, [replace(waiting[0], required=frozenset({"y"}))]) == []
    assert verdicts(idle, [replace(waiting[0], target="another")]) == []
