"""Any order of events leads to one terminal, a journal that holds the state, and a budget that is kept: of the machine in
``cluster.domain.deliberation.machine``.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.consensus.aggregate import aggregate, aggregation_from_document
from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation.calls import Call, outstanding
from cluster.domain.deliberation.events import Answered, CancelAsked, Faulted, Taken, Tick
from cluster.domain.deliberation.ledger import Amount
from cluster.domain.deliberation.person import PersonAnswered
from cluster.domain.deliberation.state import CALLING, TRANSITIONS, Phase, Terminal
from cluster.domain.deliberation.timing import next_alarm
from cluster.domain.tasks.questions import Verdict
from tests.support.panels import World, contract, members
from tests.support.samples import NOW

AGENTS = ("a", "b", "c", "d")
FAULTS = ("timeout", "http", "malformed", "refusal")
CONFIGS: tuple[dict[str, Any], ...] = (
    *({"options": ["A", "B", "C"], "consensus": mode.value} for mode in Mode),
    {"options": ["A", "B", "C"], "consensus": "plurality", "debate_on": "always", "rounds": 3},
    {"options": ["A", "B"], "debate_on": "disagreement"},
    {"answer_type": "number", "tolerance": 1},
    {"answer_type": "boolean", "consensus": "unanimous"},
    {"answer_type": "set"},
    {"answer_type": "json", "schema": {"type": "object"}},
    {"consensus": "plurality"},
    {"consensus": "judge"},
    {"consensus": "schulze"},
)
BUDGETS: tuple[dict[str, Any], ...] = ({}, {"tokens": 0}, {"tokens": 900}, {"tokens": 4000}, {"usd": 0.004})


def any_reply(chance: random.Random, call: Call) -> str:
    """What a model may say: mostly something that fits the schema, at times not."""
    if chance.random() < 0.1:
        return chance.choice(["", "no", '{"answer": "Z"}', '{"answer": null}', '{"abstain": true}', "[1]", '{"a":'])
    properties = call.schema["properties"]
    if "critiques" in properties:
        targets = properties["critiques"]["items"]["properties"]["target"]["enum"]
        found = [
            {"target": target, "defect": "wrong", "severity": "high"} for target in targets if chance.random() < 0.5
        ]
        return json.dumps({"critiques": found})
    value: dict[str, Any] = {"rationale": "r", "confidence": "low"}
    for name in ("ranking", "approve"):
        if name in properties:
            labels = properties[name]["items"]["enum"]
            value[name] = chance.sample(labels, chance.randint(1, len(labels)))
    if "answer" in properties:
        value["answer"] = _any_answer(chance, properties["answer"])
    if "because" in properties:
        value["because"] = chance.choice(properties["because"]["enum"])
    return json.dumps(value)


def _any_answer(chance: random.Random, schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kinds: dict[str, Any] = {
        "number": chance.randint(0, 5),
        "array": chance.sample(["x", "y"], chance.randint(0, 2)),
        "object": {"k": chance.randint(0, 1)},
    }
    return kinds.get(str(schema.get("type")), chance.choice(["text one", "text two", "Text  One"]))


class Chaos:
    """Answers, faults, late answers, doubled answers, time, kills and a cancel, as chance will have it; and a person, if one is
    asked."""

    def __init__(self, seed: int, config: dict[str, Any], budget: dict[str, Any], asks: str | None) -> None:
        self.chance = random.Random(seed)
        config = config if asks is None else {**config, "ask_person": {"when": asks}}
        agreed = contract(budget=budget, seed=str(seed), max_tokens=64, min_agents=self.chance.randint(1, 2), **config)
        self.world = World.of(agreed, {})
        names = AGENTS[: self.chance.randint(2, 4)]
        judge = members("j")[0] if self.chance.random() < 0.8 else None
        self.world.start(members(*names), pool=members("p", "q")[: self.chance.randint(0, 2)], judge=judge)
        self.said: list[Any] = []

    def step(self) -> None:
        calls = self.world.calls()
        roll = self.chance.random()
        if self.world.state.phase is Phase.INPUT_REQUIRED and roll > 0.5:
            self.world.happens(self._person())
        elif roll < 0.02:
            self.world.happens(CancelAsked())
        elif roll < 0.10:
            self.world = self.world.resumed(self.chance.randint(2, len(self.world.journal)))
            self.world.happens(Taken(again=True))
        elif roll < 0.25 or not calls:
            alarm = next_alarm(self.world.state)
            self.world.now = max(self.world.now, alarm if not calls or roll < 0.15 else self.world.now + 1.0)
            self.world.now = min(self.world.now, NOW + 1e6)  # while a person is asked there is no alarm
            self.world.happens(Tick())
        elif roll < 0.35 and self.said:
            self.world.happens(self.chance.choice(self.said))
        else:
            picked = self.chance.sample(calls, self.chance.randint(1, len(calls)))
            events = [self._one(call) for call in picked]
            self.said += events
            self.world.happens(*events)

    def _person(self) -> PersonAnswered:
        verdict = self.chance.choice([None, *Verdict])
        value = self.chance.choice([True, False, 3, "A", "text one", ["x"], {"k": 1}, None])
        by = {} if verdict is None else {"answered_by": "user:ann", "answered_at": self.world.now}
        return PersonAnswered(verdict=verdict, value=value, **by)

    def _one(self, call: Call) -> Answered | Faulted:
        where: dict[str, Any] = {"agent_id": call.agent_id, "phase": call.phase, "attempt": call.attempt}
        where["round"] = call.round
        if self.chance.random() < 0.15:
            return Faulted(**where, fault=self.chance.choice(FAULTS), detail="injected")
        tokens = self.chance.choice([0, 30, 150, 5000])
        usage = {"tokens": tokens, "input_tokens": tokens // 2, "output_tokens": tokens - tokens // 2}
        return Answered(**where, text=any_reply(self.chance, call), seconds=self.chance.random(), **usage)


@settings(max_examples=150)
@given(
    st.integers(0, 2**32),
    st.sampled_from(CONFIGS),
    st.sampled_from(BUDGETS),
    st.sampled_from([None, "no_consensus", "always"]),
)
def test_every_interleaving_reaches_exactly_one_terminal(
    seed: int, config: dict[str, Any], budget: dict[str, Any], asks: str | None
) -> None:
    chaos = Chaos(seed, config, budget, asks)
    for _ in range(500):
        if chaos.world.state.phase is Phase.ENDED:
            break
        chaos.step()  # the world checks fold, budget and terminals after every step
    world = chaos.world
    assert world.state.phase is Phase.ENDED
    assert world.state.ledger.reserved == {}
    _the_end_can_be_made_again(world)
    ended = world.state
    world.happens(Tick(), CancelAsked(), PersonAnswered(verdict=Verdict.REJECTED), *chaos.said[:3])
    assert world.state == ended, "nothing happens after the end"


def _the_end_can_be_made_again(world: World) -> None:
    data = world.journal[-1].data
    outcome = data["outcome"]
    assert outcome["authoritative"] == (data["terminal"] == "DECIDED")
    assert "debate_delta" in outcome
    if data["aggregation"] is None:
        return
    result = aggregate(aggregation_from_document(data["aggregation"]), world.state.snapshot)
    assert result.leader == outcome["option"]
    terminal = data["terminal"] if "person" not in outcome else outcome["person"]["agents"]["terminal"]
    assert result.reached == (terminal == "DECIDED") or terminal in (
        Terminal.DEADLINE_EXCEEDED,
        Terminal.CANCELLED,
    )


@settings(max_examples=8)
@given(st.integers(0, 2**32), st.sampled_from(CONFIGS))
def test_a_restart_after_any_event_decides_alike_and_repeats_no_journalled_call(
    seed: int, config: dict[str, Any]
) -> None:
    """Agents answer one call always alike, as under one idempotency key."""

    def fixed(call: Call) -> str:
        return any_reply(random.Random(f"{seed}{call.key}"), call)

    behaviours = dict.fromkeys((*AGENTS, "p", "j"), fixed)
    world = World.of(contract(**config), behaviours)
    world.start(members(*AGENTS[:3]), pool=members("p"), judge=members("j")[0]).run()
    decided = (world.state.terminal, world.outcome["answer"], world.outcome["confidence"], world.outcome["tally"])
    for events in range(2, len(world.journal)):
        again = world.resumed(events)
        before = again.journalled()
        again.happens(Taken(again=True))
        again.run()
        assert not set(again.made) & before
        outcome = again.outcome
        assert (again.state.terminal, outcome["answer"], outcome["confidence"], outcome["tally"]) == decided


def test_calls_in_flight_at_a_kill_are_counted_and_billed_again() -> None:
    world = World.of(contract(options=["A", "B"]), {})
    world.start(members("a", "b"))
    reserved = world.state.ledger.held
    again = world.resumed(len(world.journal))
    again.happens(Taken(again=True))
    assert again.state.calls == 4
    assert again.state.ledger.held == Amount(2 * reserved.tokens, 2 * reserved.nanos)
    again.behaviours = dict.fromkeys("ab", lambda call: json.dumps({"answer": "A"}))
    again.run()
    assert again.outcome["tokens"] == 4 * sum(again.usage)
    assert again.outcome["cost"]["estimated"]


def test_a_repeat_that_the_budget_does_not_cover_is_given_up() -> None:
    world = World.of(contract(options=["A", "B"]), {})
    world.start(members("a", "b"))
    tight = World.of(contract(options=["A", "B"], budget={"tokens": world.state.ledger.held.tokens + 10}), {})
    tight.start(members("a", "b"))
    again = tight.resumed(len(tight.journal))
    again.happens(Taken(again=True))
    assert again.state.terminal is Terminal.BUDGET_EXHAUSTED or not outstanding(again.state)


def test_the_table_of_phases_is_complete() -> None:
    assert set(TRANSITIONS) == set(Phase)
    for phase, rules in TRANSITIONS.items():
        assert all(rule.guard for rule in rules[:-1]), f"a rule of {phase} can never be reached"
        assert not rules or rules[-1].guard == "", f"{phase} may find no rule"
    assert {rule.to for rules in TRANSITIONS.values() for rule in rules} | {Phase.PROPOSE} >= CALLING


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_mode_and_type_runs_to_its_end_with_agents_that_agree(config: dict[str, Any]) -> None:
    def first(call: Call) -> str:
        return any_reply(random.Random(7), call)

    world = World.of(contract(**config), dict.fromkeys((*AGENTS, "j"), first))
    world.start(members(*AGENTS), judge=members("j")[0]).run()
    assert world.state.terminal in (Terminal.DECIDED, Terminal.NO_CONSENSUS)
