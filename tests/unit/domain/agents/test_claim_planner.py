"""The planner against a dumb model that looks at all agents at each event, and its table against what it does."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.domain.agents import claim_events as events
from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.agents.breaker import Breaker, BreakerState, CallOutcome, admit, postponed, room
from cluster.domain.agents.breaker import step as breaker_step
from cluster.domain.agents.claim_plan import MAX_REST_S, ClaimPlan, Phase, group_of, phase
from cluster.domain.agents.claim_planner import LOOK_AGAIN_S, REST_S, TRANSITIONS, WAITING_PER_GROUP, next_at, step
from cluster.domain.agents.selection import Candidate, Strategy, choose
from tests.support.samples import an_agent

KEYS = [("w", "a0"), ("w", "a1"), ("w", "a2"), ("v", "a0")]
OWNER = "host-1"
T = TypeVar("T")
EXACT = [strategy for strategy in Strategy if strategy is not Strategy.RANDOM]


def agent_of(key: events.Key, **fields: Any) -> Agent:
    return an_agent(key[1], workspace=key[0], **{"transport": TransportKind.HTTP, "max_concurrency": 1, **fields})


class Told:
    """A plan that checks each step against the table."""

    def __init__(self, strategy: Strategy = Strategy.LEAST_LOADED) -> None:
        self.plan = ClaimPlan(owner=OWNER, strategy=strategy)
        self.now = 1000.0

    def tell(self, event: events.Event) -> tuple[events.Effect, ...]:
        keys = {*KEYS, *self.plan.takers, *self.plan.waiting}
        before = {key: phase(self.plan, key, self.now) for key in keys}
        self.plan, effects = step(self.plan, event, self.now)
        allowed = TRANSITIONS[type(event)]
        for key in keys:
            move = (before[key], phase(self.plan, key, self.now))
            assert move[0] is move[1] or move in allowed.moves, (key, event)
        assert {type(effect) for effect in effects} <= allowed.effects
        return effects

    def look(self) -> tuple[events.Effect, ...]:
        """What the loop of a host tells, if nothing has to be read: the claims that are made."""
        for effect in self.tell(events.TimePassed()):
            assert isinstance(effect, events.ReadLeases)
            self.tell(events.LeasesRead(unread=effect.unread, leases=(), living=(), named=()))
        return self.tell(events.ClaimsDue(draw=0.3))

    def seen(self, *agents: Agent) -> tuple[events.Effect, ...]:
        return self.tell(events.AgentsSeen(agents={(agent.workspace, agent.agent_id): agent for agent in agents}))

    def lease(self, agent: Agent, task_id: str) -> tuple[events.Effect, ...]:
        return self.tell(events.TaskLeased(agent=agent, task_id=task_id))


def claimed(effects: tuple[events.Effect, ...]) -> list[str]:
    return sorted(effect.agent.agent_id for effect in effects if isinstance(effect, events.MakeClaim))


PICKS = st.integers(0, 1_000)


def picked(facts: Collection[T], pick: int) -> T:
    """One of them, by number."""
    return sorted(facts)[pick % len(facts)]  # type: ignore[type-var]


class PlannerAgainstModel(RuleBasedStateMachine):
    """The model keeps the facts that it was told, and works out everything else from all of them each time."""

    def __init__(self) -> None:
        super().__init__()
        self.told = Told()
        self.takers: dict[events.Key, Agent] = {}
        self.claims: dict[events.Key, Any] = {}
        self.work: dict[tuple[events.Key, str], float] = {}
        self.named: dict[str, events.Key] = {}
        self.chosen: dict[events.Key, int] = {}
        self.breakers: dict[events.Key, Breaker] = {}
        self.asked: dict[events.Key, int] = {}
        self.rests: dict[events.Key, float] = {}
        self.numbers = 0
        self.tasks = 0
        self.steps = 0

    @initialize(strategy=st.sampled_from(EXACT))
    def begin(self, strategy: Strategy) -> None:
        self.told = Told(strategy)
        self.strategy = strategy

    # --- facts -------------------------------------------------------------------------------------------------------

    @rule(
        key=st.sampled_from(KEYS),
        skills=st.sampled_from([(), (), ("x",)]),
        slots=st.integers(1, 4),
        done=st.integers(0, 3),
        latency=st.sampled_from([0.0, 5.0, 80.0]),
        price=st.sampled_from([None, 1.0, 3.0]),
    )
    def agent_changes(
        self, key: events.Key, skills: tuple[str, ...], slots: int, done: int, latency: float, price: float | None
    ) -> None:
        agent = agent_of(
            key,
            capabilities=skills,
            max_concurrency=slots,
            tasks_completed=done,
            tasks_failed=1,
            latency_ms_sum=latency * done,
            options={} if price is None else {"price": {"output_per_mtok": price}},
        )
        before = self.takers.get(key)
        moved = {group_of(agent)} if before is None else {group_of(before)} ^ {group_of(agent)}
        if before is not None and group_of(before) != group_of(agent):
            moved = {group_of(before), group_of(agent)}
        self.takers[key] = agent
        self._withdrawn(self.told.seen(agent), moved)

    @rule(key=st.sampled_from(KEYS), deregistered=st.booleans())
    def agent_leaves(self, key: events.Key, deregistered: bool) -> None:
        if deregistered:
            self.told.tell(events.AgentDeregistered(key=key))
            for facts in (self.chosen, self.rests, self.breakers):
                facts.pop(key, None)  # type: ignore[attr-defined]
        before = self.takers.pop(key, None)
        moved = set() if before is None else {group_of(before)}
        self.named = {task: named for task, named in self.named.items() if named != key}
        self._withdrawn(self.told.tell(events.AgentsSeen(agents={key: None})), moved)

    def _withdrawn(self, effects: tuple[events.Effect, ...], moved: set[Any]) -> None:
        assert {effect.key for effect in effects if isinstance(effect, events.WithdrawClaim)} == {
            key for key, group in self.claims.items() if group in moved
        }

    @rule(key=st.sampled_from(KEYS), outcome=st.sampled_from(CallOutcome), later=st.sampled_from([None, 3.0]))
    def call_is_made(self, key: events.Key, outcome: CallOutcome, later: float | None) -> None:
        now = self.told.now
        breaker = self.breakers.get(key) or Breaker(name="b", threshold=2, reset_s=10.0)
        breaker = breaker_step(admit(breaker, now)[0], outcome, now)
        self.breakers[key] = breaker if later is None else postponed(breaker, now + later)
        self._bounds(key)

    @rule(key=st.sampled_from(KEYS))
    def call_is_admitted(self, key: events.Key) -> None:
        if key in self.breakers:
            self.breakers[key] = admit(self.breakers[key], self.told.now)[0]
            self._bounds(key)

    @rule(key=st.sampled_from(KEYS))
    def breaker_is_forgotten(self, key: events.Key) -> None:
        self.breakers.pop(key, None)
        self._bounds(key)

    @rule(key=st.sampled_from(KEYS), asked=st.integers(0, 2))
    def questions_have_slots(self, key: events.Key, asked: int) -> None:
        self.asked[key] = asked
        self._bounds(key)

    def _bounds(self, key: events.Key) -> None:
        event = events.BoundsChanged(key=key, breaker=self.breakers.get(key), asked=self.asked.get(key, 0))
        self._withdrawn_if_full(self.told.tell(event), key)

    def _withdrawn_if_full(self, effects: tuple[events.Effect, ...], key: events.Key) -> None:
        full = key in self.claims and key in self.takers and not self._free(key)
        assert effects == ((events.WithdrawClaim(key=key),) if full else ())

    @rule(seconds=st.sampled_from([0.1, 0.6, 4.0, 11.0, LOOK_AGAIN_S, MAX_REST_S]))
    def time_passes(self, seconds: float) -> None:
        self.told.now += seconds

    @rule(key=st.sampled_from(KEYS))
    def task_names(self, key: events.Key) -> None:
        self.tasks += 1
        self.told.tell(events.TaskNamed(key=key, task_id=f"t{self.tasks}"))
        if key in self.takers:
            self.named[f"t{self.tasks}"] = key

    @rule(pick=PICKS)
    def named_task_ends(self, pick: int) -> None:
        if self.named:
            task = picked(self.named, pick)
            del self.named[task]
            self.told.tell(events.TaskOver(task_id=task))

    @rule(pick=PICKS, brings=st.booleans(), named=st.booleans())
    def claim_ends(self, pick: int, brings: bool, named: bool) -> None:
        if not self.claims:
            return
        key = picked(self.claims, pick)
        theirs = sorted(task for task, name in self.named.items() if name == key)
        if brings:
            self.tasks += 1
            self._leased(key, theirs[0] if named and theirs else f"t{self.tasks}")
        self.told.tell(events.ClaimEnded(key=key))
        del self.claims[key]

    @rule(key=st.sampled_from(KEYS))
    def late_lease_comes(self, key: events.Key) -> None:
        self.tasks += 1
        self._leased(key, f"t{self.tasks}")

    def _leased(self, key: events.Key, task: str) -> None:
        agent = self.takers.get(key) or agent_of(key)
        effects = self.told.lease(agent, task)
        if (key, task) in self.work:
            assert effects == ()
            return
        assert effects == (events.DoTask(agent=agent, task_id=task),)
        self.numbers += 1
        self.chosen[key] = self.numbers
        self.work[key, task] = self.told.now

    @rule(pick=PICKS)
    def lease_comes_twice(self, pick: int) -> None:
        """The answer to a claim that was made again brings the same attempt."""
        if self.work:
            self._leased(*picked(self.work, pick))

    @rule(pick=PICKS, unsent=st.booleans(), later=st.sampled_from([None, 2.0, 1000.0]))
    def work_ends(self, pick: int, unsent: bool, later: float | None) -> None:
        if not self.work:
            return
        key, task = picked(self.work, pick)
        if unsent:
            breaker = self.breakers.get(key)
            if breaker is None or room(breaker, self.told.now).left(0) != 0:
                self.rests[key] = self.told.now + (REST_S if later is None else min(later, MAX_REST_S))
            self._withdrawn_if_full(self.told.tell(events.TaskUnsent(key=key, retry_after_s=later)), key)
        del self.work[key, task]
        assert self.told.tell(events.WorkEnded(key=key, task_id=task)) == ()

    # --- what follows from them ----------------------------------------------------------------------------------

    @invariant()
    def claims_are_due(self) -> None:
        """After every other event, so that some are told together."""
        self.steps += 1
        if self.steps % 2:
            return
        expected = self._claims_of_model()
        made = self.told.look()
        assert claimed_keys(made) == expected
        ids = [effect.claim_id for effect in made if isinstance(effect, events.MakeClaim)]
        assert len(set(ids)) == len(ids)
        assert all(text.startswith(f"{OWNER}-") for text in ids)

    def _claims_of_model(self) -> set[events.Key]:
        made = set()
        for key, agent in sorted(self.takers.items()):
            at_work = {task for holder, task in self.work if holder == key}
            if {task for task, name in self.named.items() if name == key} - at_work:
                made |= self._claimed(key, agent)
        for group in {group_of(agent) for agent in self.takers.values()}:
            passed = {key for key, claim in self.claims.items() if claim == group}
            for _ in range(WAITING_PER_GROUP - len(passed)):
                members = {key[1]: key for key, agent in self.takers.items() if group_of(agent) == group}
                views = [self._view(key, taken=key in passed) for key in members.values()]
                chosen = choose(self.strategy, views)
                if chosen is None:
                    break
                passed.add(members[chosen])
                made |= self._claimed(members[chosen], self.takers[members[chosen]])
        return made

    def _claimed(self, key: events.Key, agent: Agent) -> set[events.Key]:
        if key in self.claims or not self._free(key):
            return set()
        self.claims[key] = group_of(agent)
        return {key}

    def _load(self, key: events.Key) -> int:
        now, slots = self.told.now, self.takers[key].max_concurrency
        begun = [at for (holder, _), at in self.work.items() if holder == key]
        if self.rests.get(key, 0.0) > now:
            return slots
        taken = len(begun) + self.asked.get(key, 0)
        if key not in self.breakers:
            return taken
        now_room = room(self.breakers[key], now)
        left = now_room.left(len([at for at in begun if at >= now_room.since]))
        return taken if left is None else max(taken, slots - left)

    def _free(self, key: events.Key) -> bool:
        return self._load(key) < self.takers[key].max_concurrency

    def _view(self, key: events.Key, *, taken: bool) -> Candidate:
        agent = self.takers[key]
        price = agent.options.price
        view = Candidate(
            agent_id=key[1],
            load=self._load(key),
            slots=agent.max_concurrency,
            latency_ms=agent.avg_latency_ms or None,
            success=agent.tasks_completed / (agent.tasks_completed + agent.tasks_failed),
            cost=price.output_per_mtok if price else None,
            region=agent.region_id,
            chosen=self.chosen.get(key, 0),
        )
        return replace(view, load=view.slots) if taken else view

    @invariant()
    def indexes_agree(self) -> None:
        plan = self.told.plan
        assert plan.waiting == self.claims
        assert {(key, group) for group, names in plan.claims.items() for key in [(group[0], n) for n in names]} == {
            *plan.waiting.items()
        }
        assert all(plan.claims.values())
        assert {group: len(ranking) for group, ranking in plan.rankings.items()} == counts(self.takers)
        assert plan.names == self.named
        assert {(key, task) for key, tasks in plan.named.items() for task in tasks} == {
            (key, task) for task, key in self.named.items()
        }
        assert {(key, task): at for key, tasks in plan.working.items() for task, at in tasks.items()} == self.work
        assert all(plan.working.values())
        assert all(plan.named.values())
        assert sorted(plan.chosen, key=plan.chosen.__getitem__) == sorted(self.chosen, key=self.chosen.__getitem__)
        assert plan.breakers == self.breakers
        assert plan.asked == {key: asked for key, asked in self.asked.items() if asked}
        assert plan.unread <= plan.takers.keys()
        assert plan.due == bool(plan.free or plan.short)
        assert plan.tasks == len(self.work)


def claimed_keys(effects: tuple[events.Effect, ...]) -> set[events.Key]:
    made = [effect.agent for effect in effects if isinstance(effect, events.MakeClaim)]
    return {(agent.workspace, agent.agent_id) for agent in made}


def counts(takers: dict[events.Key, Agent]) -> dict[Any, int]:
    groups = [group_of(agent) for agent in takers.values()]
    return {group: groups.count(group) for group in groups}


TestPlannerAgainstModel = PlannerAgainstModel.TestCase
TestPlannerAgainstModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def drawn_life(draw: random.Random, steps: int) -> None:
    """Each rule as often as any other. Hypothesis, which looks for short failures, seldom lets an agent come, get work and go."""
    life = PlannerAgainstModel()
    life.begin(strategy=draw.choice(EXACT))

    def key() -> events.Key:
        return draw.choice(KEYS)

    def pick() -> int:
        return draw.randrange(1_000)

    rules = [
        lambda: life.agent_changes(
            key=key(),
            skills=draw.choice([(), (), ("x",)]),
            slots=draw.randint(1, 4),
            done=draw.randrange(4),
            latency=draw.choice([0.0, 5.0, 80.0]),
            price=draw.choice([None, 1.0, 3.0]),
        ),
        lambda: life.agent_leaves(key=key(), deregistered=draw.random() < 0.5),
        lambda: life.call_is_made(key=key(), outcome=draw.choice(list(CallOutcome)), later=draw.choice([None, 3.0])),
        lambda: life.call_is_admitted(key=key()),
        lambda: life.breaker_is_forgotten(key=key()),
        lambda: life.questions_have_slots(key=key(), asked=draw.randrange(3)),
        lambda: life.time_passes(seconds=draw.choice([0.1, 0.6, 4.0, 11.0, LOOK_AGAIN_S, MAX_REST_S])),
        lambda: life.task_names(key=key()),
        lambda: life.named_task_ends(pick=pick()),
        lambda: life.claim_ends(pick=pick(), brings=draw.random() < 0.5, named=draw.random() < 0.5),
        lambda: life.late_lease_comes(key=key()),
        lambda: life.lease_comes_twice(pick=pick()),
        lambda: life.work_ends(pick=pick(), unsent=draw.random() < 0.3, later=draw.choice([None, 2.0, 1000.0])),
    ]
    life.indexes_agree()
    for _ in range(steps):
        draw.choice([*rules, rules[0]])()
        life.claims_are_due()
        life.indexes_agree()


@pytest.mark.parametrize("seed", range(4))
def test_drawn_lives_agree_with_the_model(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(100):
        drawn_life(draw, 80)


# --- leases on which nobody works --------------------------------------------------------------------------------

A, B = KEYS[0], KEYS[1]


def held(key: events.Key, task_id: str, process: str, agent: Agent | None) -> events.Held:
    return events.Held(key=key, task_id=task_id, claim_id=f"{process}-7", agent=agent)


@pytest.mark.parametrize(
    ("process", "taker", "known", "worked_on"),
    [
        (OWNER, True, True, True),
        (OWNER, False, True, True),
        (OWNER, False, False, False),
        ("host-2", True, True, False),
        ("host-2", False, True, False),
        ("dead", True, True, True),
        ("dead", False, True, False),
    ],
)
def test_a_lease_is_worked_on_by_who_claimed_it_or_the_heir(
    process: str, taker: bool, known: bool, worked_on: bool
) -> None:
    told, agent = Told(), agent_of(A)
    if taker:
        told.seen(agent)
    assert told.tell(events.TimePassed()) == (events.ReadLeases(unread=(A,) if taker else ()),)
    leases = [held(A, "t1", process, agent if known else None)]
    effects = told.tell(events.LeasesRead(unread=(), leases=leases, living={OWNER, "host-2"}, named=()))
    assert effects == ((events.DoTask(agent=agent, task_id="t1"),) if worked_on else ())


def test_what_ended_while_it_was_read_is_neither_worked_on_nor_claimed() -> None:
    told, agent = Told(), agent_of(A, max_concurrency=9, capabilities=("x",))
    told.seen(agent)
    told.lease(agent, "t1")
    told.tell(events.TimePassed())
    told.tell(events.WorkEnded(key=A, task_id="t1"))
    told.tell(events.TaskOver(task_id="t2"))
    leases = [held(A, "t1", OWNER, agent), held(A, "t3", OWNER, agent)]
    named = [(A, "t2"), (A, "t4"), (B, "t5")]
    effects = told.tell(events.LeasesRead(unread=(A,), leases=leases, living=(), named=named))
    assert effects == (events.DoTask(agent=agent, task_id="t3"),)
    assert told.plan.names == {"t4": A}, "B takes nothing here; its tasks are read when it does"


def test_leases_are_read_for_new_agents_lost_processes_and_by_time() -> None:
    told = Told()
    assert told.tell(events.TimePassed()) == (events.ReadLeases(unread=()),)
    assert told.tell(events.TimePassed()) == (), "one is under way"
    told.tell(events.ReadingFailed())
    assert told.tell(events.TimePassed()) == (events.ReadLeases(unread=()),)
    told.tell(events.LeasesRead(unread=(), leases=(), living=(), named=()))
    assert told.tell(events.TimePassed()) == ()
    assert next_at(told.plan) == told.now + LOOK_AGAIN_S
    told.now = next_at(told.plan)
    told.look()
    told.tell(events.ProcessLost())
    assert next_at(told.plan) <= told.now
    told.look()
    told.seen(agent_of(B), agent_of(A))
    assert told.tell(events.TimePassed()) == (events.ReadLeases(unread=(A, B)),)
    told.tell(events.ProcessLost())
    told.tell(events.LeasesRead(unread=(A, B), leases=(), living=(), named=()))
    assert told.tell(events.TimePassed()) == (events.ReadLeases(unread=()),), "the process died during the reading"
    told.tell(events.LeasesRead(unread=(), leases=(), living=(), named=()))
    told.seen(agent_of(A))
    assert told.tell(events.TimePassed()) == (), "an agent that changed has been read"


def test_the_open_tasks_of_a_new_agent_are_claimed_for() -> None:
    told = Told()
    told.seen(*[agent_of(key) for key in KEYS[:3]])
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a0", "a1"]
    told.tell(events.TimePassed())
    told.tell(events.LeasesRead(unread=(), leases=(), living=(), named=[(KEYS[2], "t1")]))
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a2"]
    told.tell(events.ClaimEnded(key=KEYS[2]))
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a2"], "it brought nothing"


def test_an_agent_with_room_again_is_claimed_for_by_its_name() -> None:
    told = Told()
    told.seen(*[agent_of(key) for key in KEYS[:3]])
    told.tell(events.BoundsChanged(key=KEYS[2], breaker=None, asked=1))
    told.tell(events.TaskNamed(key=KEYS[2], task_id="t1"))
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a0", "a1"]
    told.tell(events.BoundsChanged(key=KEYS[2], breaker=None, asked=0))
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a2"]


def test_an_agent_that_has_gone_is_not_read() -> None:
    told = Told()
    told.look()
    told.seen(agent_of(A), agent_of(B))
    told.tell(events.AgentsSeen(agents={A: None}))
    assert told.tell(events.TimePassed()) == (events.ReadLeases(unread=(B,)),)


def test_a_rest_is_kept_until_its_end() -> None:
    told = Told()
    told.seen(agent_of(A))
    told.tell(events.TaskUnsent(key=A, retry_after_s=10.0))
    told.now += 9.0
    told.look()
    assert told.plan.rests == {A: told.now + 1.0}
    told.now += 1.0
    told.look()
    assert told.plan.rests == {}


def test_who_leaves_a_group_without_a_claim_makes_room_for_another() -> None:
    """Both agents that would be chosen have a claim of their former group, so none waits for the group that they joined."""
    told = Told()
    told.seen(*[agent_of(key) for key in KEYS[:2]])
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a0", "a1"]
    told.seen(*[agent_of(key, capabilities=("x",)) for key in KEYS[:2]], agent_of(KEYS[2], capabilities=("x",)))
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == []
    told.seen(*[agent_of(key) for key in KEYS[:2]])
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a2"]


def test_an_agent_is_ranked_again_when_time_first_changes_its_room() -> None:
    told, agent = Told(), agent_of(A, max_concurrency=2)
    told.seen(agent)
    told.look()
    trial = admit(replace(Breaker(name="b"), state=BreakerState.HALF_OPEN, changed_at=told.now), told.now)[0]
    told.tell(events.BoundsChanged(key=A, breaker=trial, asked=0))
    told.tell(events.TaskUnsent(key=A, retry_after_s=None))
    assert next_at(told.plan) == told.now + REST_S
    told.now += REST_S
    told.tell(events.ClaimEnded(key=A))
    told.tell(events.TimePassed())
    assert claimed(told.tell(events.ClaimsDue(draw=0.0))) == ["a0"]


def test_random_choices_take_each_agent_about_as_often() -> None:
    taken = dict.fromkeys("abcd", 0)
    for number in range(400):
        told = Told(Strategy.RANDOM)
        told.seen(*[agent_of(("w", name)) for name in taken])
        for name in claimed(told.tell(events.ClaimsDue(draw=number / 400))):
            taken[name] += 1
    assert all(150 <= count <= 250 for count in taken.values()), taken


# --- the table ---------------------------------------------------------------------------------------------------


class Recorded(Told):
    """Notes which rows of the table it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: set[tuple[type, Phase, Phase]] = set()
        self.effects: set[tuple[type, type]] = set()

    def tell(self, event: events.Event) -> tuple[events.Effect, ...]:
        before = {key: phase(self.plan, key, self.now) for key in KEYS}
        effects = super().tell(event)
        after = {key: phase(self.plan, key, self.now) for key in KEYS}
        self.moves |= {(type(event), before[key], after[key]) for key in KEYS if before[key] is not after[key]}
        self.effects |= {(type(event), type(effect)) for effect in effects}
        return effects


def happen(told: Told, draw: random.Random) -> None:
    """Something happens to one agent: perhaps it is told of, if there is such a claim or work."""
    key, plan, task = draw.choice(KEYS), told.plan, f"t{draw.randrange(2)}"
    opened = breaker_step(Breaker(name="b", threshold=1, reset_s=5.0), CallOutcome.FAILURE, told.now)
    agent = agent_of(key, max_concurrency=draw.randint(1, 2), capabilities=draw.choice([(), ("x",)]))
    breaker, asked = draw.choice([None, None, opened]), draw.randrange(2)
    leases = [held(key, task, "dead", agent)]
    happened: list[events.Event] = [
        events.AgentsSeen(agents={key: draw.choice([agent, None])}),
        events.AgentDeregistered(key=key),
        events.BoundsChanged(key=key, breaker=breaker, asked=asked),
        events.TaskLeased(agent=plan.takers.get(key, agent), task_id=task),
        events.TimePassed(),
        events.LeasesRead(unread=(), leases=leases, living=(), named=()),
        events.ClaimsDue(draw=draw.random()),
        events.ClaimsDue(draw=draw.random()),
    ]
    if key in plan.waiting:
        happened += [events.ClaimEnded(key=key)] * 4
    if task in plan.working.get(key, ()):
        happened += [events.WorkEnded(key=key, task_id=task), events.TaskUnsent(key=key, retry_after_s=None)] * 4
    told.now += draw.choice([0.0, 0.0, 0.0, 0.1, 6.0])
    told.tell(draw.choice(happened))


def test_every_row_of_the_table_happens() -> None:
    moves = {(event, *move) for event, row in TRANSITIONS.items() for move in row.moves}
    effects = {(event, effect) for event, row in TRANSITIONS.items() for effect in row.effects}
    told, draw = Recorded(), random.Random(20)
    for _ in range(20_000):
        happen(told, draw)
        if told.moves == moves and told.effects == effects:
            break
    assert moves - told.moves == set()
    assert effects - told.effects == set()
