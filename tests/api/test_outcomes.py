"""Outcomes and weights over the API: recorded once, imported in bulk, learned from, shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.main import app as cli
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.consensus.ballots import choice
from cluster.domain.consensus.outcomes import Outcome
from cluster.domain.deliberation.stored import Deliberation
from serve_app.routes.outcomes import DeliberationOutcome, aggregation_of, outcome_of
from tests.support.api import Api
from tests.support.crowd import crowd
from tests.support.deliberations import Journal, Vote, decided
from tests.support.models import models, register, vote
from tests.support.probes import eventually
from tests.support.samples import ASKER, NOW

QUESTION = {"content": "Which store?", "config": {"options": ["Postgres", "Redis"], "agents": ["a", "b", "c"]}}
ACCURACY = {"good": 0.9, "fair": 0.5, "poor": 0.3, "weak": 0.3}


def _says(model: str, _: str) -> str:
    return vote("Redis" if model == "b" else "Postgres", "because")


def imports(count: int, start: int = 0, seed: int = 0, **accuracy: float) -> list[dict[str, Any]]:
    outcomes = crowd(accuracy or ACCURACY, count, seed=seed)
    return [
        {
            "id": f"q{start + i}",
            "votes": dict(outcome.votes),
            "correct": outcome.right,
            "options": list(outcome.options),
        }
        for i, outcome in enumerate(outcomes)
    ]


async def test_a_deliberations_outcome_is_recorded_once(api: Api) -> None:
    async with models(_says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        result = await api.post("/deliberations", QUESTION)
    path = f"/deliberations/{result['request_id']}/outcome"
    body = {"correct": "Postgres", "votes": {"a": "Postgres", "b": "Redis", "c": "Postgres"}}
    said = await api.post(path, body)
    assert {agent: verdict["correct"] for agent, verdict in said["agents"].items()} == {
        "a": True,
        "b": False,
        "c": True,
    }
    assert await api.post(path, body) == said
    other = await api.call("POST", path, {**body, "correct": "Redis"})
    assert (other.status_code, other.json()["code"]) == (409, "outcome_conflict")
    rows = [row for row in await api.rows(result["request_id"]) if row.kind == "outcome.recorded"]
    assert [row.data for row in rows] == [
        {"outcome_id": result["request_id"], "source": "deliberation", "agents": 3, "right": 2}
    ]


def _ended(journal: Journal, **result: Any) -> Deliberation:
    return Deliberation(
        request_id="d", task_id="d", workspace="w", principal="p", admitted_at=NOW, deadline_at=NOW, contract={},
        contract_digest=b"", mode="sync", state="DECIDED", terminal="DECIDED", result=result, completed_at=NOW,
        owner=None, fence=1, events=len(journal.events),
    )  # fmt: skip


def test_votes_and_panel_come_from_what_the_decision_was_made_from() -> None:
    journal = decided([Vote("a", choice("Postgres")), Vote("b", choice("Redis")), Vote("c", None), Vote("d", None)])
    journal.events[-1].data["aggregation"]["ballots"]["d"]["reason"] = "not_asked"
    asked = aggregation_of(journal.events)
    assert asked is not None
    new = outcome_of(_ended(journal), asked, DeliberationOutcome(correct="Redis"), ASKER, NOW)
    assert new.outcome == Outcome(
        votes={"a": "Postgres", "b": "Redis", "c": None}, right="Redis", options=("Postgres", "Redis")
    )
    assert new.panel == ("a", "b", "c", "d"), "who was not asked is on the panel, without a vote"
    none = outcome_of(_ended(journal), asked, DeliberationOutcome(correct=None), ASKER, NOW)
    assert none.outcome.right not in ("Postgres", "Redis")
    with pytest.raises(InvalidRequest, match="Oracle"):
        outcome_of(_ended(journal), asked, DeliberationOutcome(correct="Oracle"), ASKER, NOW)


def test_a_text_may_be_named_by_its_words() -> None:
    journal = decided([Vote("a", choice("#1")), Vote("b", choice("#2"))], options=("#1", "#2"))
    ended = _ended(journal, candidates={"#1": "Use Postgres.", "#2": "Use Redis."})
    new = outcome_of(ended, aggregation_of(journal.events), DeliberationOutcome(correct="Use Redis."), ASKER, NOW)
    assert new.outcome.right == "#2"


def test_a_journal_without_votes_says_so() -> None:
    journal = decided([Vote("a", choice("Redis"))], recorded=False)
    assert aggregation_of(journal.events) is None
    with pytest.raises(Conflict, match="recorded no votes"):
        outcome_of(_ended(journal), None, DeliberationOutcome(correct="Redis"), ASKER, NOW)


async def test_an_outcome_needs_an_ended_deliberation(api: Api) -> None:
    missing = await api.call("POST", "/deliberations/nothing/outcome", {"correct": "x"})
    assert (missing.status_code, missing.json()["code"]) == (404, "deliberation_not_found")
    admitted = await api.post("/deliberations", {**QUESTION, "async": True})
    early = await api.call("POST", f"/deliberations/{admitted['request_id']}/outcome", {"correct": "Redis"})
    assert (early.status_code, early.json()["code"]) == (409, "not_ended")


async def test_imported_history_becomes_weights(api: Api) -> None:
    assert await api.get("/weights") == {"snapshots": []}
    done = await api.post("/outcomes/batch", {"outcomes": imports(200)})
    assert (done["recorded"], done["conflict"]) == (200, 0)
    assert await api.post("/outcomes/batch", {"outcomes": imports(200)}) == done
    changed = [{**imports(1)[0], "correct": None}, imports(1)[0]]
    other = await api.post("/outcomes/batch", {"outcomes": changed})
    assert [result["status"] for result in other["results"]] == ["conflict", "recorded"]
    assert len([row for row in await api.rows() if row.kind == "outcome.recorded"]) == 200

    async def fitted() -> list[dict[str, Any]]:
        return list((await api.get("/weights"))["snapshots"])

    (summary,) = await eventually(fitted)
    assert (summary["version"], summary["outcomes"], summary["agents"]) == (1, 200, sorted(ACCURACY))
    assert summary["gate"]["choice"] == "learned"
    assert summary["learned"]["good"] == max(summary["learned"].values())
    whole = await api.get(f"/weights/{summary['snapshot_id']}")
    assert whole["document"]["learned"] == summary["learned"]
    assert whole["document"]["calibration"]["learned"]["outcomes"] == 200
    (pair,) = (await api.get("/weights?agents=good,poor"))["snapshots"]
    assert pair["agents"] == ["good", "poor"]
    assert (await api.get("/weights?agents=stranger"))["snapshots"] == []
    missing = await api.call("GET", "/weights/" + "0" * 64)
    assert (missing.status_code, missing.json()["code"]) == (404, "snapshot_not_found")


async def test_alarms_follow_the_latest_outcomes(api: Api) -> None:
    assert await api.get("/weights/alarms") == {"alarms": []}
    await api.post("/outcomes/batch", {"outcomes": imports(300)})
    turned = imports(100, start=300, seed=5, **{**ACCURACY, "good": 0.0})
    await api.post("/outcomes/batch", {"outcomes": turned})
    (alarm,) = (await api.get("/weights/alarms"))["alarms"]
    assert (alarm["kind"], alarm["agents"]) == ("accuracy_fell", ["good"])
    assert alarm["observed"] < alarm["expected"]


async def test_answers_of_any_type_are_compared_by_their_canonical_form(api: Api) -> None:
    batch = [
        {"id": "n", "votes": {"x": 4.0, "y": "4", "z": 5}, "correct": 4},
        {"id": "b", "votes": {"x": True, "y": None, "z": False}, "correct": True, "options": [True, False]},
        {"id": "none", "votes": {"x": "a", "y": "b"}, "correct": None, "options": ["a", "b"]},
    ]
    assert (await api.post("/outcomes/batch", {"outcomes": batch}))["recorded"] == 3
    rows = {row.entity: row.data["right"] for row in await api.rows() if row.kind == "outcome.recorded"}
    assert rows == {"n": 2, "b": 1, "none": 0}


async def test_invalid_outcomes_are_refused_with_their_position(api: Api) -> None:
    good = {"id": "q", "votes": {"x": "a"}, "correct": "a"}
    bad: list[dict[str, Any]] = [
        {**good, "id": "no spaces"},
        {**good, "votes": {}},
        {**good, "votes": {"no spaces": "a"}},
        {**good, "votes": {"x": ""}},
        {**good, "votes": {"x": "a" * 501}},
        {**good, "votes": {"x": "\u0000"}},
        {**good, "correct": "b", "options": ["a"]},
        {**good, "correct": 2**60},
        {**good, "correct": "\u0000"},
        {**good, "votes": {f"x{i}": "a" for i in range(65)}},
        {"id": "q", "votes": {"x": "a"}},
    ]
    for item in bad:
        answer = await api.call("POST", "/outcomes/batch", {"outcomes": [good, item]})
        assert answer.status_code == 400, item
        assert "1" in answer.json()["error"] or answer.json().get("errors"), answer.text
    for body in ({}, {"outcomes": []}, {"outcomes": [good] * 1001}, {"outcomes": "x"}, []):
        assert (await api.call("POST", "/outcomes/batch", body)).status_code == 400
    assert [row for row in await api.rows() if row.kind == "outcome.recorded"] == []


async def _command(api: Api, *arguments: str) -> Result:
    environment = {"ARAGORA_API_URL": api.url}
    return await asyncio.to_thread(CliRunner().invoke, cli, list(arguments), env=environment)


async def test_the_commands_import_outcomes_and_show_weights(api: Api, tmp_path: Path) -> None:
    nothing = await _command(api, "weights")
    assert "Nothing has been learned yet" in nothing.output
    file = tmp_path / "outcomes.jsonl"
    file.write_text("\n".join(json.dumps(outcome) for outcome in imports(120)))
    first = await _command(api, "outcomes", "import", str(file))
    assert (first.exit_code, first.output) == (0, "120 recorded, 0 conflict\n")
    again = await _command(api, "outcomes", "import", str(file), "--json")
    assert json.loads(again.output) == {"recorded": 120, "conflict": 0}
    await eventually(lambda: api.get("/weights?agents=good,fair,poor,weak"))
    shown = await _command(api, "weights", "--agents", "good,fair,poor,weak")
    assert "learned decides" in shown.output, shown.output
    assert shown.output.index("good") < shown.output.index("weak")
    listed = await _command(api, "weights", "--json")
    snapshot_id = json.loads(listed.output)["snapshots"][0]["snapshot_id"]
    snapshot = await _command(api, "weights", "show", snapshot_id)
    assert json.loads(snapshot.output)["document"]["outcomes"] == 120
    unknown = await _command(api, "weights", "show", snapshot_id, "--kind", "law")
    assert isinstance(unknown.exception, InvalidRequest)
    assert unknown.exception.code == "unknown_kind"
    assert (await _command(api, "weights", "alarms")).output == "No alarms.\n"


async def test_the_commands_show_what_is_known_of_a_kind(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    maths = imports(150, **{"good": 0.9, "fair": 0.4, "poor": 0.5})
    law = imports(150, 150, seed=1, **{"good": 0.4, "fair": 0.9, "poor": 0.5})
    named = [{**item, "c": kind} for kind, items in (("maths", maths), ("law", law)) for item in items]
    file.write_text("\n".join(json.dumps(item) for item in named))
    await _command(api, "outcomes", "import", str(file))
    shown = await _command(api, "weights", "--agents", "good,fair,poor")
    assert "kind law: has weights of its own" in shown.output, shown.output
    listed = await _command(api, "weights", "--agents", "good,fair,poor", "--json")
    snapshot_id = json.loads(listed.output)["snapshots"][0]["snapshot_id"]
    found = json.loads((await _command(api, "weights", "show", snapshot_id, "--kind", "law")).output)
    assert (found["kind"], found["earned"], found["snapshot_id"]) == ("law", True, snapshot_id)
    assert found["learned"]["fair"] > found["learned"]["good"]


async def test_recorded_votes_can_be_imported_as_they_are(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    lines = [json.dumps({"models": ["x", "y"]})]
    lines += [json.dumps({"q": q, "n": 3, "g": "A", "a": "A-" if q % 2 else "BA"}) for q in range(50)]
    lines += [json.dumps({"q": 99, "n": 3, "g": "A", "a": "A."})]
    file.write_text("\n".join(lines))
    done = await _command(api, "outcomes", "import", str(file), "--prefix", "mmlu:", "--json")
    assert json.loads(done.output)["recorded"] == 50
    part = await _command(api, "outcomes", "import", str(file), "--split", "calibration", "--json")
    assert 0 < json.loads(part.output)["recorded"] < 50, "without the prefix these are other ids"
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "q", "votes": {"x": "a"}, "correct": "a"}\nnonsense')
    refused = await _command(api, "outcomes", "import", str(bad))
    assert refused.exit_code != 0
    assert "Line 2" in str(refused.exception)


async def test_a_batch_of_one_id_is_a_few_transactions_at_most(api: Api) -> None:
    """Each different outcome of an id is a transaction of its own: a thousand held up everybody's."""
    first, another = imports(2)
    same = [first | {"correct": vote} for vote in ("A", "B", *["A"] * 998)]
    same = [item | {"options": ["A", "B"], "votes": {"a": "A", "b": "B"}} for item in same]
    answer = await api.post("/outcomes/batch", {"outcomes": same})
    assert (answer["recorded"], answer["conflict"]) == (999, 1)
    assert [result["status"] for result in answer["results"][:3]] == ["recorded", "conflict", "recorded"]
    many = [another | {"votes": {"a": f"v{n}", "b": "A"}, "correct": "A", "options": []} for n in range(1000)]
    refused = await api.call("POST", "/outcomes/batch", {"outcomes": many})
    assert (refused.status_code, refused.json()["code"]) == (400, "too_many_outcomes")
    assert await api.rows(another["id"]) == []
    assert [row.kind for row in await api.rows(first["id"])] == ["outcome.recorded"]
    assert (await api.post("/outcomes/batch", {"outcomes": many[:8]}))["conflict"] == 7
