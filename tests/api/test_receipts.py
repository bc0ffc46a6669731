"""Receipts of deliberations that really ran, over the API and through the command."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.domain.base.signing import Signer
from cluster.domain.receipts.document import redact
from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import parse, verify
from tests.support.answering import Agents, always, labels_of, phase_of, registrations, reply
from tests.support.api import Api, api_settings
from tests.support.models import models, register, vote
from tests.support.stores import StoreUrls

QUESTION = {"content": "Which store?", "config": {"options": ["Postgres", "Redis"], "agents": ["a", "b", "c"]}}


def _says(model: str, _: str) -> str:
    return vote("Redis" if model == "b" else "Postgres", f"{model} has thought about it for a while")


async def _receipt(api: Api, request_id: str) -> bytes:
    response = await api.call("GET", f"/deliberations/{request_id}/receipt")
    assert response.status_code == 200, response.text
    return response.content


async def _trusted(api: Api) -> list[bytes]:
    return [bytes.fromhex(key["public_key"]) for key in (await api.get("/receipts/keys"))["keys"]]


async def test_an_ended_deliberation_has_a_receipt_that_verifies(api: Api) -> None:
    async with models(_says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        result = await api.post("/deliberations", QUESTION)
    content = await _receipt(api, result["request_id"])
    receipt = parse(content)
    assert verify(receipt, await _trusted(api)).trusted
    assert receipt["head"]["outcome"] == result["terminal"] == "DECIDED"
    assert receipt["confidence"] == result["confidence"]
    assert receipt["dissenting_views"] == result["dissenting_views"] == ["b: Redis"]
    assert len(receipt["events"]) == len((await api.get(f"/deliberations/{result['request_id']}/transcript"))["events"])
    record = await api.get(f"/deliberations/{result['request_id']}")
    assert receipt["head"]["contract_hash"] == record["contract_digest"]
    assert await _receipt(api, result["request_id"]) == content
    assert recompute(receipt).verdict is Recomputed.EQUAL
    words = [event["n"] for event in receipt["events"] if event["text"]]
    assert words
    withheld = receipt
    for n in words:
        withheld = redact(withheld, n)
    assert "for a while" not in json.dumps(withheld)
    assert verify(withheld, await _trusted(api)).trusted


async def test_only_an_ended_deliberation_has_a_receipt(api: Api) -> None:
    release = asyncio.Event()

    async def waits(model: str, asked: str) -> str:
        await release.wait()
        return _says(model, asked)

    async with models(waits) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        admitted = await api.post("/deliberations", {**QUESTION, "async": True})
        running = await api.call("GET", f"/deliberations/{admitted['request_id']}/receipt")
        assert (running.status_code, running.json()["code"]) == (409, "not_ended")
        release.set()
    unknown = await api.call("GET", "/deliberations/delib_nobody/receipt")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "deliberation_not_found")


async def test_the_key_of_the_settings_signs_and_earlier_keys_stay_published(
    store_urls: StoreUrls, schema: str
) -> None:
    async with Api(api_settings(store_urls, schema)).running() as api:
        ended = await api.post("/deliberations", {**QUESTION, "timeout_seconds": 1})
        before = await _receipt(api, ended["request_id"])
    signer = Signer(b"k" * 32)
    configured = api_settings(store_urls, schema, receipt_signing_key=base64.b64encode(signer.seed).decode())
    async with Api(configured).running() as api:
        after = parse(await _receipt(api, ended["request_id"]))
        keys = await api.get("/receipts/keys")
        assert after["head"]["key_id"] == signer.key_id
        assert [key["current"] for key in keys["keys"]] == [False, True]
        assert verify(parse(before), await _trusted(api)).trusted
        assert verify(after, await _trusted(api)).trusted
        assert after["head"]["root"] != parse(before)["head"]["root"], "salts are of the key"


async def test_the_command_fetches_and_verifies(api: Api, tmp_path: Path, monkeypatch: Any) -> None:
    ended = await api.post("/deliberations", {**QUESTION, "timeout_seconds": 1})
    monkeypatch.setenv("ARAGORA_API_URL", api.url)
    receipt, keys = tmp_path / "receipt.json", tmp_path / "keys.json"

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["receipts", *words])

    got = await asyncio.to_thread(run, "get", ended["request_id"], "--out", str(receipt))
    assert got.exit_code == 0, got.output
    assert (await asyncio.to_thread(run, "keys", "--out", str(keys))).exit_code == 0
    verified = await asyncio.to_thread(run, "verify", str(receipt), "--key", str(keys), "--json")
    assert verified.exit_code == 0
    assert json.loads(verified.output)["trusted"] is True
    assert ended["terminal"] in (await asyncio.to_thread(run, "show", str(receipt))).output


RANKED = json.dumps({"ranking": ["B", "A", "C"], "rationale": "", "confidence": "high"})
ABC = ["A", "B", "C"]


def _ranks(agent: str, body: dict[str, Any]) -> str:
    return json.dumps({"critiques": []}) if phase_of(body) == "CRITIQUE" else RANKED


@pytest.mark.parametrize(
    ("config", "answers", "terminal"),
    [
        ({"options": ABC}, {"a": "A", "b": "A", "c": "B"}, "DECIDED"),
        ({"options": ABC, "consensus": "majority"}, {"a": "A", "b": "B", "c": "A"}, "DECIDED"),
        ({"options": ABC, "consensus": "unanimous"}, {"a": "A", "b": "B", "c": "A"}, "NO_CONSENSUS"),
        ({"options": ABC, "consensus": "plurality", "tie_break": "seeded"}, {"a": "A", "b": "B", "c": "C"}, "DECIDED"),
        ({"options": ABC, "consensus": "plurality"}, {"a": "A", "b": "B", "c": "C"}, "NO_CONSENSUS"),
        ({"options": ABC, "consensus": "judge", "agents": ["a", "b"], "judge": "c"}, {"a": "A", "b": "B", "c": "B"}, "DECIDED"),
        ({"options": ABC, "consensus": "borda"}, {"a": _ranks, "b": _ranks, "c": _ranks}, "DECIDED"),
        ({"options": ABC, "consensus": "schulze"}, {"a": _ranks, "b": _ranks, "c": _ranks}, "DECIDED"),
        ({"options": ABC, "consensus": "none"}, {"a": "A", "b": "B", "c": "C"}, "NO_CONSENSUS"),
        ({"answer_type": "number", "tolerance": 1}, {"a": 10, "b": 10.5, "c": 99}, "DECIDED"),
        ({"answer_type": "boolean"}, {"a": True, "b": False, "c": True}, "DECIDED"),
        ({"answer_type": "json"}, {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 2}}, "DECIDED"),
        ({}, {"a": "use a monolith", "b": "use services", "c": "use a monolith"}, "DECIDED"),
        ({"options": ABC, "budget": {"tokens": 900}, "max_tokens": 64}, {"a": "A", "b": "B", "c": "C"}, "BUDGET_EXHAUSTED"),
    ],
)  # fmt: skip
async def test_every_kind_of_decision_can_be_recomputed(
    api: Api, config: dict[str, Any], answers: dict[str, Any], terminal: str
) -> None:
    async with Agents().running() as agents:
        for name, answer in answers.items():
            agents.answering[name] = answer if callable(answer) else always(answer)
        await api.post("/agents/batch", registrations(agents, *answers))
        result = await api.post("/deliberations", {"content": "Which?", "config": config})
    receipt = parse(await _receipt(api, result["request_id"]))
    assert verify(receipt, await _trusted(api)).trusted
    assert receipt["head"]["outcome"] == result["terminal"] == terminal, result
    again = recompute(receipt)
    assert again.verdict is Recomputed.EQUAL, again
    assert again.result is not None
    assert again.result["confidence"] in (result["confidence"], None)


async def test_no_word_of_an_agent_is_left_when_all_are_withheld(api: Api) -> None:
    """Of a debate about texts, in which everything that an agent can write has a word of its own."""
    words = iter(f"word{n}x" for n in range(10_000))
    said: list[str] = []

    def word() -> str:
        said.append(next(words))
        return said[-1]

    def says(agent: str, body: dict[str, Any]) -> str:
        if phase_of(body) == "CRITIQUE":
            target = body["schema"]["properties"]["critiques"]["items"]["properties"]["target"]["enum"][0]
            critique = {"target": target, "claim_quote": word(), "defect": word(), "severity": "minor", "fix": word()}
            return json.dumps({"critiques": [critique]})
        labels = labels_of(body)
        return reply(labels[0] if labels else f"{agent} wants {word()}", rationale=word(), evidence=[word()])

    async with Agents().running() as agents:
        agents.answering.update(dict.fromkeys("abc", says))
        await api.post("/agents/batch", registrations(agents, "a", "b", "c", metadata={"persona": word()}))
        config = {"rounds": 1, "debate_on": "always", "consensus": "plurality"}
        result = await api.post("/deliberations", {"content": f"What is {word()}?", "config": config})
    receipt = parse(await _receipt(api, result["request_id"]))
    assert {"CRITIQUE", "REVISE", "VOTE"} <= {event["data"].get("phase") for event in receipt["events"]}
    whole = json.dumps(receipt)
    known = [text for text in said if text in whole]
    assert len(known) > 15, "the journal keeps what agents said"
    for n in (0, *(event["n"] for event in receipt["events"] if event["text"])):
        receipt = redact(receipt, n)
    assert [text for text in known if text in json.dumps(receipt)] == []
    assert verify(receipt, await _trusted(api)).trusted
    assert recompute(receipt).verdict is Recomputed.EQUAL
