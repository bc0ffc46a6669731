"""Receipts of deliberations that really ran, over the API and through the command."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.domain.receipts.document import redact
from cluster.domain.receipts.keys import Signer
from cluster.domain.receipts.recompute import recompute
from cluster.domain.receipts.verify import parse, verify
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
    assert recompute(receipt).verdict.value != "different"
    words = [event["n"] for event in receipt["events"] if event["text"]]
    assert words
    withheld = receipt
    for n in words:
        withheld = redact(withheld, n)
    assert "for a while" not in json.dumps(withheld)
    assert verify(withheld, await _trusted(api)).trusted


async def test_a_running_one_has_none_yet_and_an_unknown_one_never(api: Api) -> None:
    let_go = asyncio.Event()

    async def waits(model: str, asked: str) -> str:
        await let_go.wait()
        return _says(model, asked)

    async with models(waits) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        admitted = await api.post("/deliberations", {**QUESTION, "async": True})
        running = await api.call("GET", f"/deliberations/{admitted['request_id']}/receipt")
        assert (running.status_code, running.json()["code"]) == (409, "not_ended")
        let_go.set()
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
