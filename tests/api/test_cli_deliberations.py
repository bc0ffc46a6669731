"""``aragora-cp deliberate`` and ``deliberations``: ids, reasons, and what follows a decision."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aragora_worker.api import ControlPlaneClient
from tests.support.answering import Agents, always, registrations
from tests.support.api import Api
from tests.support.system import clean_environment

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))


@pytest.fixture
async def panel(api: Api) -> AsyncIterator[None]:
    async with Agents().running() as agents:
        for name, answer in (("a", "tea"), ("b", "tea"), ("c", "coffee")):
            agents.answering[name] = always(answer)
        await api.post("/agents/batch", registrations(agents, "a", "b", "c"))
        yield


async def _run(api: Api, *words: str, code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *words,
        env=clean_environment(ARAGORA_API_URL=api.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == code, output.decode()
    assert "Traceback" not in output.decode()
    return output.decode()


async def test_deliberations_are_searched(api: Api, panel: None) -> None:
    ids = []
    for number in range(3):
        context = {"pr": number, "tags": ["review"], "tenant": "acme"}
        body = {
            "content": f"Tea {number}?",
            "context": context,
            "config": {"agents": ["a", "b"], "options": ["tea", "coffee"]},
        }
        ids.insert(0, (await api.post("/deliberations", body))["request_id"])
    bare = {"content": "Tea?", "config": {"agents": ["a", "c"], "options": ["tea", "coffee"]}}
    ids.insert(0, (await api.post("/deliberations", bare))["request_id"])

    async def found(*words: str) -> list[str]:
        listed = json.loads(await _run(api, "deliberations", "list", "--json", *words))
        return [record["request_id"] for record in listed["deliberations"]]

    assert await found("--where", "metadata.pr=1") == [ids[2]]
    assert await found("--where", "tag=review", "--where", "tenant=acme", "--where", "agent=b") == ids[1:]
    assert await found("--where", "agent=c") == ids[:1]
    assert await found("--status", "consensus_reached", "--where", "created>=2026-01-01", "--limit", "2") == ids[1:3]
    assert await found("--status", "failed") == []
    first = await api.get("/deliberations?limit=3")
    assert [record["request_id"] for record in first["deliberations"]] == ids[:3]
    rest = await api.get(f"/deliberations?cursor={first['next_cursor']}")
    assert [record["request_id"] for record in rest["deliberations"]] == ids[3:]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    async with ControlPlaneClient(api.url) as client:
        assert [record["request_id"] async for record in client.deliberations("tag=review", limit=1)] == ids[1:]
    for query in ("where=pr", "where=tag=x&offset=1", "status=won", "status=failed&offset=1", "cursor=x"):
        assert (await api.call("GET", f"/deliberations?{query}")).status_code == 400, query


async def test_a_decision_is_found_again_by_the_id_that_was_printed(api: Api, panel: None, tmp_path: Path) -> None:
    printed = await _run(api, "deliberate", "Tea?", "--options", "tea,coffee", "--agents", "a,b")
    (request_id,) = {line.partition(": ")[2] for line in printed.splitlines() if line.startswith("Deliberation: ")}
    assert f"{request_id}  consensus_reached" in await _run(api, "deliberations", "list")
    shown = await _run(api, "deliberations", "show", request_id)
    assert "Question: Tea?" in shown
    assert "Decision: tea" in shown
    steps = await _run(api, "deliberations", "transcript", request_id)
    assert "scheduled" in steps
    assert "tea" in steps
    whole = json.loads(await _run(api, "deliberations", "transcript", request_id, "--json"))
    assert whole["request_id"] == request_id
    receipt = tmp_path / "receipt.json"
    await _run(api, "deliberations", "receipt", request_id, "--out", str(receipt))
    assert json.loads(receipt.read_text())["request_id"] == request_id
    recorded = json.loads(await _run(api, "deliberations", "outcome", request_id, "tea"))
    assert recorded["correct"] == "tea"
    assert "already ended" in await _run(api, "deliberations", "cancel", request_id, code=1)


async def test_without_a_decision_the_reason_is_printed(api: Api, panel: None) -> None:
    split = ("--options", "tea,coffee", "--agents", "a,c", "--consensus", "unanimous", "--rounds", "0")
    for words, terminal in (
        (split, "NO_CONSENSUS"),
        (("--agents", "nobody,neither", "--timeout", "2"), "QUORUM_LOST"),
        (("--budget-tokens", "1"), "BUDGET_EXHAUSTED"),
    ):
        printed = await _run(api, "deliberate", "Tea?", *words, code=3)
        (line,) = [line for line in printed.splitlines() if line.startswith("No decision: ")]
        assert re.fullmatch(rf"No decision: {terminal}: \w.*", line), printed
        request_id = printed.strip().splitlines()[-1].partition(": ")[2]
        assert line in await _run(api, "deliberations", "show", request_id)


async def test_a_running_deliberation_is_shown_and_cancelled(api: Api) -> None:
    asked = await api.post("/deliberations", {"content": "Which?", "async": True, "timeout_seconds": 600})
    request_id = asked["request_id"]
    assert f"Deliberation: {request_id}" in await _run(api, "deliberations", "show", request_id)
    assert "Cancelled." in await _run(api, "deliberations", "cancel", request_id)
    assert "There is no deliberation nope" in await _run(api, "deliberations", "show", "nope", code=1)
    assert "is not JSON" in await _run(api, "deliberations", "outcome", request_id, "{", "--parse", code=2)
