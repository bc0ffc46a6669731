"""Deliberations that ask a person, through the API and the command: answers, time, erasure, and the page's examples."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import parse, verify
from tests.support.answering import Agents, always, registrations
from tests.support.api import Api
from tests.support.cli import command
from tests.support.docs import ROOT
from tests.support.probes import eventually

PAGE = (ROOT / "docs" / "deliberations.md").read_text()


@pytest.fixture
async def split(api: Api) -> AsyncIterator[Agents]:
    """Two agents that do not agree."""
    async with Agents().running() as running:
        running.answering = {"a": always("yes"), "b": always("no")}
        await api.post("/agents/batch", registrations(running, "a", "b"))
        yield running


def _body(**ask: Any) -> dict[str, Any]:
    config = {"options": ["yes", "no"], "consensus": "majority", "rounds": 0, "ask_person": ask}
    return {"content": "Ship it?", "async": True, "config": config}


async def _waiting(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    """The record of a new deliberation when a person is asked."""
    request_id = (await api.post("/deliberations", body))["request_id"]
    return await _asked(api, request_id)


async def _asked(api: Api, request_id: str) -> dict[str, Any]:
    async def asks() -> dict[str, Any] | None:
        record = await api.get(f"/deliberations/{request_id}")
        found = (await api.get("/questions"))["questions"]
        is_there = any(question["task_id"] == record["question_task_id"] for question in found)
        return record if record["status_detail"] == "input_required" and is_there else None

    found: dict[str, Any] = await eventually(asks, what="a person is asked")
    return found


async def _ended(api: Api, request_id: str) -> dict[str, Any]:
    async def over() -> dict[str, Any] | None:
        record = await api.get(f"/deliberations/{request_id}?wait=5")
        return record if record["terminal"] else None

    found: dict[str, Any] = await eventually(over, what=f"the end of {request_id}")
    return found


async def _answer(api: Api, record: dict[str, Any], verdict: str, **fields: Any) -> Any:
    return await api.post(f"/tasks/{record['question_task_id']}/answer", {"verdict": verdict, **fields})


async def test_a_person_decides_what_the_agents_could_not(api: Api, split: Agents) -> None:
    record = await _waiting(api, _body())
    assert (record["state"], record["deliberation_status"], record["terminal"]) == (
        "INPUT_REQUIRED",
        "in_progress",
        None,
    )
    task = await api.get(f"/tasks/{record['question_task_id']}")
    assert (task["status"], task["status_detail"]) == ("pending", "input_required")
    assert task["payload"]["deliberation_id"] == record["request_id"]
    assert task["payload"]["agents"]["terminal"] == "NO_CONSENSUS"
    assert "Ship it?" in task["question"]["question"]
    listed = await api.get("/deliberations?status=in_progress")
    assert [each["request_id"] for each in listed["deliberations"]] == [record["request_id"]]
    refused = await api.call(
        "POST", f"/tasks/{record['question_task_id']}/answer", {"verdict": "answer", "answer": "maybe"}
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_answer")
    calls = len(split.calls)
    await _answer(api, record, "answer", answer="no")
    result = (await _ended(api, record["request_id"]))["result"]
    assert (result["terminal"], result["answer"], result["decided_by"]) == ("DECIDED", "no", "person")
    assert result["person"]["verdict"] == "answered"
    assert result["person"]["agents"]["terminal"] == "NO_CONSENSUS"
    assert result["tally"] == {"no": 1.0, "yes": 1.0}
    assert len(split.calls) == calls
    kinds = [row.kind for row in await api.rows(record["request_id"])]
    assert kinds[-3:] == ["deliberation.input_required", "deliberation.input_answered", "deliberation.completed"]


async def test_the_receipt_names_the_person_and_recomputes(api: Api, split: Agents) -> None:
    record = await _waiting(api, _body(when="always"))
    await _answer(api, record, "answer", answer="no")
    ended = await _ended(api, record["request_id"])
    response = await api.call("GET", f"/deliberations/{record['request_id']}/receipt")
    receipt = parse(response.content)
    assert verify(receipt).valid
    assert recompute(receipt).verdict is Recomputed.EQUAL
    (answered,) = [event["data"] for event in receipt["events"] if event["kind"] == "person_answered"]
    person = ended["result"]["person"]
    assert (answered["answered_by"], answered["answered_at"]) == (person["answered_by"], person["answered_at"])
    assert answered["verdict"] == "answered"


async def test_a_rejection_takes_a_decision_back(api: Api, split: Agents) -> None:
    split.answering["b"] = always("yes")
    record = await _waiting(api, _body(when="always"))
    await _answer(api, record, "reject", reason="too early")
    ended = await _ended(api, record["request_id"])
    result = ended["result"]
    assert (ended["deliberation_status"], result["terminal"], result["decided_by"]) == (
        "no_consensus",
        "NO_CONSENSUS",
        "person",
    )
    assert (result["answer"], result["authoritative"], result["person"]["rationale"]) == ("yes", False, "too early")


async def test_the_time_of_a_person_is_its_own(api: Api, split: Agents) -> None:
    """The time limit of the agents is over when the default applies, and does not count against them."""
    body = _body(time_limit_seconds=1.5, default="no") | {"timeout_seconds": 1}
    request_id = (await api.post("/deliberations", body))["request_id"]
    ended = await _ended(api, request_id)
    result = ended["result"]
    assert (result["terminal"], result["answer"]) == ("DECIDED", "no")
    assert (result["person"]["verdict"], result["person"]["answered_by"]) == ("default", "system")
    assert result["duration_seconds"] >= 1.5
    assert ended["metrics"]["sla_compliance"] != "violated"


async def test_nobody_in_time_leaves_the_outcome_of_the_agents(api: Api, split: Agents) -> None:
    request_id = (await api.post("/deliberations", _body(time_limit_seconds=0.2)))["request_id"]
    result = (await _ended(api, request_id))["result"]
    assert (result["terminal"], result["decided_by"]) == ("NO_CONSENSUS", None)
    assert (result["person"]["verdict"], result["person"]["ended_as"]) == (None, "no_answer")


async def test_a_cancelled_deliberation_asks_nobody_any_more(api: Api, split: Agents) -> None:
    record = await _waiting(api, _body())
    assert await api.post(f"/deliberations/{record['request_id']}/cancel", {}) == {"cancelled": True}
    assert (await _ended(api, record["request_id"]))["terminal"] == "CANCELLED"
    assert (await api.get("/questions"))["questions"] == []
    assert (await api.get(f"/tasks/{record['question_task_id']}"))["status"] == "cancelled"


async def test_the_question_is_erased_with_its_deliberation(api: Api, split: Agents) -> None:
    record = await _waiting(api, _body())
    await _answer(api, record, "reject", reason="zanzibar")
    await _ended(api, record["request_id"])
    await api.post("/erasures", {"task_id": record["request_id"]})
    task = await api.get(f"/tasks/{record['question_task_id']}")
    shown = json.dumps([task, await api.get(f"/deliberations/{record['request_id']}")])
    assert "zanzibar" not in shown
    assert "Ship it?" not in shown


async def test_what_cannot_be_asked_is_a_400(api: Api, split: Agents) -> None:
    for ask, code in (
        ({"when": "sometimes"}, "invalid_ask_person"),
        ({"answerers": ["nobody"]}, "invalid_subject"),
        ({"default": "no"}, "invalid_question"),
        ({"confidence": 0.5}, "invalid_ask_person"),
    ):
        response = await api.call("POST", "/deliberations", _body(**ask))
        assert (response.status_code, response.json()["code"]) == (400, code), ask


async def test_the_examples_of_the_page_run(api: Api, split: Agents) -> None:
    (line,) = re.findall(r"```sh person\n(.*?)```", PAGE, re.DOTALL)
    asked = asyncio.ensure_future(command(api, *shlex.split(line)[1:]))
    question = await eventually(lambda: _one_question(api))
    await command(api, "questions", "answer", question["task_id"], '"no"')
    shown = await asked
    assert "questions approve|reject|answer" in shown
    assert "Decision: no" in shown
    (body,) = re.findall(r"```json person\n(.*?)```", PAGE, re.DOTALL)
    record = await _waiting(api, json.loads(body))
    assert record["request_id"] in await command(api, "deliberations", "show", record["request_id"])
    await command(api, "questions", "answer", record["question_task_id"], '"yes"')
    result = (await _ended(api, record["request_id"]))["result"]
    assert (result["terminal"], result["decided_by"]) == ("DECIDED", "person")


async def _one_question(api: Api) -> dict[str, Any] | None:
    found = (await api.get("/questions"))["questions"]
    return found[0] if found else None
