"""Steps that deliberate, on a real store: each question is put once, whatever is killed, and its decision is the result."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest

from cluster.domain.base.log import record_for
from cluster.domain.workflows.document import RunStatus
from cluster.postgres.stores import Stores
from tests.actors.test_workflows import Killed, Tripwire
from tests.support.samples import NOW
from tests.support.workflows import (
    ORIGIN,
    Agents,
    apply,
    decide,
    open_deliberations,
    run_of,
    settle,
    start,
    task,
    workflow_keeper,
)

OPTIONS = {"options": ["yes", "no"]}
ASK = {"content": {"from": "input", "path": "/question"}, "config": OPTIONS}
THEN = {"id": "then", "task": task({"of": {"from": "verdict", "path": "/answer", "default": "nothing"}})}
ID = "wfrun_1.verdict.00000.1"


def verdict(asked: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "verdict", "deliberation": asked or ASK, **fields}


async def payload_of(stores: Stores, step: str) -> Any:
    ((payload, _),) = (await stores.tasks.bodies("w", [f"wfrun_1.{step}.00000.1"])).values()
    return payload


async def test_the_decision_is_the_result_of_the_step(stores: Stores) -> None:
    await start(stores, await apply(stores, verdict(), THEN), {"question": "Ship it?"}, metadata={"subject": "ann"})
    keeper = workflow_keeper(stores)
    await settle(keeper)
    deliberation = await stores.deliberations.get("w", ID)
    assert deliberation is not None
    assert (deliberation.contract["question"], deliberation.contract["options"]) == ("Ship it?", ["yes", "no"])
    assert deliberation.contract["context"] == {"subject": "ann"}, "so that erasures find it"
    rows = {row.kind: row for row in await stores.log.read(0, 100)}
    admitted, begun = rows["deliberation.admitted"], rows["workflow.run_started"]
    assert (admitted.principal, admitted.cause) == ("user:tester", f"#{begun.seq}")
    await decide(stores, ID, "yes")
    await settle(keeper)
    assert await payload_of(stores, "then") == {"of": "yes"}
    results, _ = await stores.workflows.results("w", [[ID]], 10_000)
    shown = results[ID]
    assert (shown["terminal"], shown["confidence"], shown["consensus_reached"]) == ("DECIDED", 0.9, True)


ENDS = [
    ("NO_CONSENSUS", "no_consensus"),
    ("QUORUM_LOST", "deliberation_failed"),
    ("BUDGET_EXHAUSTED", "deliberation_failed"),
    ("FAILED", "deliberation_failed"),
    ("DEADLINE_EXCEEDED", "deliberation_timeout"),
    ("CANCELLED", "deliberation_cancelled"),
]


@pytest.mark.parametrize(("terminal", "code"), ENDS, ids=[end[0] for end in ENDS])
async def test_an_end_without_a_decision_fails_the_step(stores: Stores, terminal: str, code: str) -> None:
    handler = {"id": "h", "task": task({"why": {"from": "failure"}})}
    await start(stores, await apply(stores, verdict(on_failure={"step": "h"}), handler), {"question": "Ship it?"})
    keeper = workflow_keeper(stores)
    await settle(keeper)
    await decide(stores, ID, None, terminal)
    await settle(keeper)
    why = (await payload_of(stores, "h"))["why"]
    assert (why["code"], why["task_id"], why["deliberation_id"]) == (code, None, ID)


async def test_no_consensus_may_be_a_result(stores: Stores) -> None:
    then = {"id": "then", "when": "!verdict.consensus_reached", "task": task({"of": {"from": "verdict"}})}
    await start(
        stores, await apply(stores, verdict({**ASK, "on_no_consensus": "complete"}), then), {"question": "Ship it?"}
    )
    keeper = workflow_keeper(stores)
    await settle(keeper)
    await decide(stores, ID, "yes", "NO_CONSENSUS")
    await settle(keeper)
    assert (await payload_of(stores, "then"))["of"]["terminal"] == "NO_CONSENSUS"


async def test_a_map_deliberates_on_each_item_in_its_bound(stores: Stores) -> None:
    each = {
        "over": {"from": "input"},
        "filter": "item.doubtful",
        "concurrency": 2,
        "on_item_failure": "continue",
        "deliberation": {"content": {"from": "item", "path": "/question"}, "config": OPTIONS},
    }
    items = [{"question": question, "doubtful": question != "b"} for question in "abcd"]
    then = {"id": "then", "task": task({"of": {"from": "verdict"}})}
    await start(
        stores, await apply(stores, {"id": "verdict", "map": each}, then), [*items, {"question": 3, "doubtful": True}]
    )
    keeper = workflow_keeper(stores)
    answers = {0: "yes", 1: None, 2: "no"}
    for index, answer in answers.items():
        await settle(keeper)
        ids = await open_deliberations(stores)
        assert ids[0] == f"wfrun_1.verdict.{index:05d}.1"
        assert len(ids) <= 2
        await decide(stores, ids[0], answer, "NO_CONSENSUS" if answer is None else "DECIDED")
    await settle(keeper)
    of = (await payload_of(stores, "then"))["of"]
    assert [found and found["answer"] for found in of] == ["yes", None, "no", None]
    assert (await run_of(stores)).steps["verdict"].failed == (1, 3), "the last one asks a number"


REFUSED: list[tuple[Any, str]] = [
    ({"question": 3}, "invalid_deliberation"),
    ({"question": ""}, "invalid_deliberation"),
    ({"question": "?", "options": ["one"]}, "invalid_deliberation"),
    ({"question": "?", "options": 7}, "invalid_deliberation"),
    ({"question": "?", "seconds": 0.5}, "invalid_deliberation"),
    ({"question": "?", "seconds": True}, "invalid_deliberation"),
    ({"question": "?", "documents": [1]}, "invalid_deliberation"),
    ({"question": "?", "capabilities": [""]}, "invalid_deliberation"),
    ({"question": "?", "capabilities": "all"}, "invalid_deliberation"),
    ({"question": "?", "context": []}, "invalid_deliberation"),
    ({"question": "?", "documents": ["x" * 70_000]}, "invalid_deliberation"),
    ({}, "input_unresolved"),
]


@pytest.mark.parametrize(("given", "code"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
async def test_what_cannot_be_asked_fails_the_step(stores: Stores, given: Any, code: str) -> None:
    def part(name: str, default: Any) -> Any:
        return {"from": "input", "path": f"/{name}", "default": default}

    asked = {
        "content": {"from": "input", "path": "/question"},
        "config": {"options": part("options", ["a", "b"])},
        "context": part("context", {}),
        "documents": part("documents", []),
        "required_capabilities": part("capabilities", ["deliberation"]),
        "timeout_seconds": part("seconds", None),
    }
    await start(stores, await apply(stores, verdict(asked)), given)
    await settle(workflow_keeper(stores))
    run = await run_of(stores)
    assert (run.status, run.steps["verdict"].code, bool(run.steps["verdict"].reason)) == (RunStatus.FAILED, code, True)
    assert await open_deliberations(stores) == []


async def test_a_reason_quotes_no_value(stores: Stores) -> None:
    asked = {"content": "Which?", "config": {"from": "input"}}
    await start(stores, await apply(stores, verdict(asked)), {"the secret of ann": 1})
    await settle(workflow_keeper(stores))
    reason = (await run_of(stores)).steps["verdict"].reason
    assert "(invalid_config)" in reason
    assert "secret" not in reason


async def test_a_cancelled_run_cancels_its_deliberations(stores: Stores) -> None:
    await start(
        stores, await apply(stores, verdict(), {"id": "b", "deliberation": {"content": "Why?"}}), {"question": "?"}
    )
    keeper = workflow_keeper(stores)
    await settle(keeper)
    await decide(stores, "wfrun_1.b.00000.1", "because")
    await stores.workflows.ask(
        record_for(ORIGIN, NOW, "workflow.run_cancel_requested", "wfrun_1", {"run_id": "wfrun_1"})
    )
    keeper = workflow_keeper(stores)
    await settle(keeper)
    deliberation = await stores.deliberations.get("w", ID)
    assert deliberation is not None
    assert deliberation.cancel_requested
    assert (await run_of(stores)).status is RunStatus.CANCELLING
    await decide(stores, ID, None, "CANCELLED")
    await settle(keeper)
    assert (await run_of(stores)).status is RunStatus.CANCELLED


STEPS = (
    verdict(on_failure="continue"),
    {
        "id": "each",
        "map": {"over": [1, 2, 3], "concurrency": 2, "deliberation": {"content": "Which?", "config": OPTIONS}},
    },
    {"id": "fails", "deliberation": {"content": "Which?", "config": OPTIONS}, "after": ["each"]},
    {"id": "stopped", "deliberation": {"content": "Which?", "config": OPTIONS}, "after": ["each"]},
)


async def _whole_life(stores: Stores, workflow: Any, run_id: str, at: int, written: bool) -> tuple[int, Any]:
    """(kills, what the end is)."""
    wire = Tripwire(stores, at, written=written)
    agents = Agents(stores)
    keeper, kills = workflow_keeper(stores, agents, workflows=wire), 0
    begins = await stores.log.head()
    await start(stores, workflow, {"question": "Ship it?"}, run_id)
    for _ in range(100):
        try:
            await settle(keeper)
        except Killed:
            keeper, kills = workflow_keeper(stores, agents, workflows=wire), kills + 1
            continue
        if (await run_of(stores, run_id)).ended_at is not None:
            break
        (first, *_) = await open_deliberations(stores)
        asked = await stores.deliberations.get("w", first)
        assert asked is not None
        lost = "verdict" in first or "fails" in first
        await decide(stores, first, "no", "CANCELLED" if asked.cancel_requested else "FAILED" if lost else "DECIDED")
    run = await run_of(stores, run_id)
    rows = await stores.log.read(begins, 100_000)
    asked_once = Counter(row.entity.removeprefix(run_id) for row in rows if row.kind == "deliberation.admitted")
    assert set(asked_once.values()) == {1}, "no question is put twice"
    assert await open_deliberations(stores) == []
    return kills, (run.status, {step: state.status for step, state in run.steps.items()}, sorted(asked_once))


@pytest.mark.parametrize("written", [True, False], ids=["after", "before"])
async def test_a_kill_at_any_commit_puts_no_question_twice(stores: Stores, written: bool) -> None:
    workflow = await apply(stores, *STEPS)
    _, expected = await _whole_life(stores, workflow, "wfrun_0", 0, written)
    assert expected[0] is RunStatus.FAILED
    for at in itertools.count(1):
        kills, end = await _whole_life(stores, workflow, f"wfrun_{at}", at, written)
        assert end == expected, f"commit {at}"
        if kills == 0:
            break
    assert at > 4, "the run has commits to die at"


async def test_an_erased_decision_is_a_removed_result(stores: Stores) -> None:
    await start(
        stores,
        await apply(stores, verdict(), {"id": "go", "signal": {"name": "go"}}, {**THEN, "after": ["go"]}),
        {"question": "?"},
    )
    keeper = workflow_keeper(stores)
    await settle(keeper)
    await decide(stores, ID, "yes")
    await stores.pool.execute("update deliberations set result = null, erased_at = 1")
    assert await stores.workflows.kept("w", [ID]) == []
    assert await stores.workflows.results("w", [[ID], []], 100) == ({}, [0, 0])


async def test_results_of_steps_are_read_as_far_as_there_is_room(stores: Stores) -> None:
    await start(stores, await apply(stores, *({"id": step, "task": task()} for step in "abc")))
    agents, keeper = Agents(stores), workflow_keeper(stores)
    await settle(keeper)
    ids = sorted(await agents.open())
    for id_, result in zip(ids, ("x" * 8, "y" * 20, "z"), strict=True):
        await agents.do(id_, lambda _, result=result: result)
    found, chars = await stores.workflows.results("w", [[id_] for id_ in ids], 15)
    assert chars == [10, 22, 3]
    assert found == {ids[0]: "x" * 8, ids[2]: "z"}
