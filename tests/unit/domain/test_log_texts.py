"""No row of the log has words in its data: every place that makes a row is checked."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord, LogRow
from cluster.domain.deliberation.calls import Call
from cluster.domain.deliberation.events import Broken, CancelAsked, Tick
from cluster.domain.deliberation.person import PersonAnswered
from cluster.domain.deliberation.sla import SlaLevel
from cluster.domain.deliberation.state import Phase as Step
from cluster.domain.tasks import events as e
from cluster.domain.tasks.agent_bounds import AgentBounds
from cluster.domain.tasks.machine import EVENTS, TRANSITIONS, step
from cluster.domain.tasks.phases import TERMINAL, TaskPhase, phase_of
from cluster.domain.tasks.questions import Answer, Asking, Question, Verdict
from cluster.domain.tasks.retries import ErrorClass, RetryPolicy
from cluster.domain.tasks.rules import Affinity, Edge, TaskRules, WhenFailed
from cluster.domain.tasks.task import Priority, TaskDetail, TaskHead, TaskStatus
from serve_app.streams.hub import frame
from tests.support.log_texts import LOG_TEXTS, words_in
from tests.support.panels import World, contract, members, says
from tests.support.samples import NOW, new_task

ROOT = Path(__file__).parents[3]
WORDS = "The patient said that it hurts."
POLICY = RetryPolicy()
BY = e.Reporter(principal="p1", agent_id="a1", attempt=1)
UNFENCED = e.Reporter(principal="p1")
EVERY_RULE = TaskRules(
    tenant="tenant-1",
    concurrency_key="key-1",
    excluded_agents=("a9",),
    regions=("r1",),
    affinity=Affinity.PREFERRED,
    after=(Edge(after="task_0", when_failed=WhenFailed.RUN_ANYWAY),),
    parent="task_1",
    depth=1,
    policies=(
        AgentBounds(
            policy_id="policy_1",
            version=1,
            allowed=frozenset({"a1"}),
            blocked=frozenset({"a2"}),
            regions=frozenset({"r1"}),
            blocked_regions=frozenset({"r2"}),
        ),
    ),
)
QUESTION = Question(
    text=WORDS, schema={"type": "string"}, answerers=("role:admin",), time_limit_s=60.0, default_json=f'"{WORDS}"'
)


def _events() -> Iterator[e.Event]:
    """At least one of each kind, and the variants that lead to rows of their own."""
    yield from (kind() for kind in EVENTS if not _fields(kind))
    yield e.Claim(agent_id="a1", claim_id="c1", principal="p1")
    for by in (BY, UNFENCED):
        yield from (e.Complete(by=by, result_json=result) for result in (None, f'"{WORDS}"', '{"text":"Much to say."}'))
        yield e.CancelAcknowledged(by=by)
        for requeue, kind in product((True, False), ErrorClass):
            yield e.Fail(by=by, error=WORDS, error_class=kind, requeue=requeue)
    yield e.Undelivered(by=BY)
    yield from (e.CancelRequested(principal="p1", parent_ended=parent_ended) for parent_ended in (False, True))
    yield from (e.AgentLost(was_deregistered=known) for known in (True, False))
    yield from (
        e.DependencyFailed(after="task_0", status=status) for status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
    )
    yield e.Prioritized(principal="p1", priority=Priority.URGENT, order_key=(NOW, "task_7"))
    yield e.Asked(by=BY, question=QUESTION)
    yield e.ParkAsked(by=BY, children=("task_8", "task_9"))
    for verdict, value_json in product(Verdict, (None, f'"{WORDS}"')):
        answer = Answer(verdict=verdict, principal="p1", value_json=value_json, reason=WORDS)
        yield from (e.Answered(attempt=attempt, answer=answer) for attempt in (0, 1))


def _fields(kind: type[e.Event]) -> set[str]:
    return set(kind.__dataclass_fields__) - {"cause", "brought_by"}


def _heads() -> Iterator[TaskHead]:
    for retries, rules in product((0, 3), (None, EVERY_RULE)):
        plain = replace(new_task(rules=rules, target_agent="a1", queue="q1").head(), detail=TaskDetail.QUEUED)
        running = step(plain, e.Claim(agent_id="a1", claim_id="c1", principal="p1"), NOW, POLICY).head
        yield replace(plain, detail=TaskDetail.BLOCKED)
        for attempt, asking in product((0, 1), (QUESTION.asking, Asking(time_limit_s=60.0))):
            yield replace(plain, detail=TaskDetail.INPUT_REQUIRED, attempt=attempt, asking=asking)
        yield step(running, e.ParkAsked(by=BY, children=("task_8",)), NOW, POLICY).head
        for head in (plain, running, step(running, e.CancelRequested(principal="p1"), NOW, POLICY).head):
            yield replace(head, retries=retries)


def _task_records() -> Iterator[LogRecord]:
    yield new_task(
        rules=EVERY_RULE, queue="q1", target_agent="a1", required_capabilities=("x",), replay_of="t0"
    ).record()
    yield new_task(question=QUESTION).record()
    for head, event in product(_heads(), _events()):
        try:
            decision = step(head, event, NOW, POLICY).decision
        except ControlPlaneError:
            continue
        if decision is not None:
            yield decision.record


def test_no_event_of_a_task_puts_words_into_data() -> None:
    assert {type(event) for event in _events()} == set(EVENTS)
    assert {phase_of(head) for head in _heads()} == set(TaskPhase) - set(TERMINAL)
    made: dict[str, list[LogRecord]] = {}
    for record in _task_records():
        made.setdefault(record.kind, []).append(record)
        texts = words_in(record.kind, _without_edges(record.data))
        assert texts == [], f"{record.kind}: {texts}"
        assert WORDS not in record.data_json()
    rules = [rule for rule in TRANSITIONS.values() if hasattr(rule, "kinds")]
    assert set(made) == {"task.submitted"} | {kind for rule in rules for kind in rule.kinds}
    said = {kind for kind, records in made.items() if any(record.private for record in records)}
    ends = {"task.completed", "task.failed", "task.retried", "task.dead_lettered", "task.timeout"}
    assert said == ends | {"task.asked", "task.answered"}


def test_readers_see_data_and_words_as_one_object_as_they_did_before() -> None:
    for record in _task_records():
        words = record.private or {}
        together = json.loads(canonical_json({**record.data, **words}))
        first = _row(record, data=together)
        second = _row(record, data=json.loads(record.data_json()), private_json=record.private_text("salt"))
        assert json.dumps(frame(second, words=True)) == json.dumps(frame(first, words=True))


def _row(record: LogRecord, **parts: Any) -> LogRow:
    columns = {name: getattr(record, name) for name in ("at", "workspace", "kind", "entity", "attempt", "principal")}
    return LogRow(seq=1, digest=b"", **columns, **parts)


def _without_edges(data: Any) -> Any:
    """What a task does when one of its edges fails is the edge's second part: of a closed set, without a field's name."""
    edges = data.get("rules", {}).get("after")
    if edges is None:
        return data
    assert {what for _, what in edges} <= set(WhenFailed)
    return {**data, "rules": {**data["rules"], "after": [after for after, _ in edges]}}


def _wordy(answer: Any, **more: Any) -> Any:
    def reply(call: Call) -> str:
        if call.phase is Step.CRITIQUE:
            peers = call.schema["properties"]["critiques"]["items"]["properties"]["target"]["enum"]
            critique = {"target": peers[0], "claim_quote": WORDS, "defect": WORDS, "severity": "high", "fix": WORDS}
            return json.dumps({"critiques": [critique]})
        return str(says(answer, revised=f"{answer} after all", **more)(call))

    return reply


def _worlds() -> Iterator[World]:
    broken = {"x": lambda call: WORDS, "y": lambda call: ("http", WORDS), "z": lambda call: ("malformed", WORDS)}
    for mode in ("majority", "plurality", "judge", "agree_k"):
        answers = {"a": _wordy("Yes, it does."), "b": _wordy("No, not at all."), "c": _wordy("It depends on much.")}
        answers |= broken | {"j": _wordy("Yes, it does.")}
        world = World.of(contract(question=WORDS, consensus=mode, rounds=2), answers)
        yield world.start(members("a", "b", "c", *broken), judge=members("j")[0] if mode == "judge" else None)
    closed = {"a": says("A"), "b": says("B")}
    yield World.of(contract(question=WORDS, options=["A", "B"], consensus="majority"), closed).start(members("a", "b"))


def test_no_step_of_a_deliberation_puts_words_into_data() -> None:
    rows = []
    for world in _worlds():
        rows += world.run().rows
        assert all(words_in(kind, data) == [] for kind, data, _ in world.rows)
    silent = World.of(contract(question=WORDS), {}).start(members("a", "b"))
    while silent.state.phase is not Step.ENDED:
        silent.now += 5.0
        silent.happens(Tick())
    rows += silent.rows
    for end in (Broken(detail=WORDS), CancelAsked()):
        ended = World.of(contract(question=WORDS), {}).start(members("a", "b"))
        ended.happens(end)
        rows += ended.rows
    for given in (
        PersonAnswered(verdict=Verdict.REJECTED, answered_by="user:ann", reason=WORDS),
        PersonAnswered(detail="failed"),
    ):
        asking = World.of(contract(question=WORDS, ask_person={"question": WORDS}), {}).start(members("a", "b"))
        asking.now += 1000.0
        asking.happens(Tick())
        asking.happens(given)
        assert asking.state.phase is Step.ENDED
        rows += asking.rows
    assert {f"deliberation.sla_{level}" for level in set(SlaLevel) - {SlaLevel.COMPLIANT}} <= {
        kind for kind, _, _ in rows
    }
    text = "\n".join(f"{kind} {data}" for kind, data, _ in rows)
    for word in ("patient", "after all", "depends", "not at all"):
        assert word not in text
    assert WORDS in str([words for _, _, words in rows]), "it is there, apart"
    assert {kind for kind, _, _ in rows} >= kinds_in_code("deliberation") - _WRITTEN_ELSEWHERE - _NO_ROWS


#: By the API; checked in tests/api/test_log_texts.py.
_WRITTEN_ELSEWHERE = {"deliberation.admitted", "deliberation.cancel_requested", "deliberation.erased"}
_NO_ROWS = {
    *("deliberation.turn", "deliberation.question"),  # types of tasks
    *("deliberation.submit", "deliberation.run"),  # names of spans
}


@functools.cache
def _dotted_texts() -> frozenset[str]:
    """Every text in our code that looks like a row's kind. The code is parsed once for all subjects: that takes seconds."""
    files = (file for room in ("cluster", "actors", "serve_app", "regions") for file in (ROOT / room).rglob("*.py"))
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return frozenset(text for text in texts if re.fullmatch(r"\w+\.[a-z_]*[a-z]", text))


def kinds_in_code(subject: str) -> set[str]:
    """Those of a subject of the log."""
    return {text for text in _dotted_texts() if text.startswith(f"{subject}.")}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("task.completed", {"result_summary": "yes"}),
        ("task.failed", {"agent_id": "a1", "note": "Hello."}),
        ("task.failed", {"reason": "because I say so"}),
        ("deliberation.vote", {"choice": "yes"}),
        ("agent.status_changed", {"reason": "typed by a person"}),
        ("nobody.knows", {"agent_id": "a1"}),
        ("weights.fitted", {"alarms": [{"kind": "of another set", "agents": ["a1"]}]}),
    ],
)
def test_a_text_that_nobody_declared_is_found(kind: str, data: dict[str, Any]) -> None:
    assert len(words_in(kind, data)) == 1


def test_every_subject_has_its_texts_declared() -> None:
    subjects = {"task", "agent", "breaker", "control", "deliberation", "outcome", "weights", "access", "region"}
    assert LOG_TEXTS.keys() == {
        *subjects,
        "auth",
        "erasure",
        "progress",
        "retention",
        "schedule",
        "credential",
        "budget",
        "quota",
        "policy",
        "workflow",
        "notification",
        "hook",
    }
