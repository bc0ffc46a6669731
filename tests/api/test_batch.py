"""Batches in processes of their own against the real API: refused, killed, resumed, repeated."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.models import models, register, vote
from tests.support.probes import eventually
from tests.support.system import clean_environment

CONFIG = {"options": ["yes", "no"], "agents": ["a", "b", "c"], "rounds": 0, "debate_on": "always"}


class Batch:
    """Files of a batch and the command over them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.input, self.out = folder / "in.jsonl", folder / "out.jsonl"
        self.environment = clean_environment(ARAGORA_API_URL=url, ARAGORA_DATA_DIR=str(folder / "none"))

    def questions(self, count: int, *more: bytes) -> None:
        items = [
            json.dumps({"id": f"q{n}", "content": f"Question {n}?", "config": CONFIG}).encode() for n in range(count)
        ]
        self.input.write_bytes(b"\n".join([*items, *more]) + b"\n")

    async def start(
        self, *words: str, out: Path | None = None, under: tuple[str, ...] = ()
    ) -> asyncio.subprocess.Process:
        """``under``: the words of a command that takes ours as its arguments."""
        command = ["-m", "cluster.batch", "run", str(self.input), "--out", str(out or self.out), *words]
        return await asyncio.create_subprocess_exec(
            *under,
            sys.executable,
            *command,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str, out: Path | None = None) -> tuple[int, str, str]:
        process = await self.start(*words, out=out)
        printed, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, printed.decode(), errors.decode()

    def lines(self, out: Path | None = None) -> list[dict[str, Any]]:
        path = out or self.out
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture
def batch(tmp_path: Path, api: Api) -> Batch:
    return Batch(tmp_path, api.url)


def _says(model: str, _: str) -> str:
    return vote("no" if model == "c" else "yes")


async def test_every_item_has_its_line_whatever_became_of_it(api: Api, batch: Batch) -> None:
    split = json.dumps({"content": "Split?", "config": {**CONFIG, "agents": ["a", "c"]}}).encode()
    refused = json.dumps({"content": "q", "config": {"consensus": "byzantine"}}).encode()
    batch.questions(3, split, refused, b"no item", b"", b'{"content": "Question 0?"')
    async with models(_says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        code, printed, errors = await batch.run("--bad-lines", "skip", "--json")
    assert code == 1, errors
    lines = {line["line"]: line for line in batch.lines()}
    assert {n: line["status"] for n, line in lines.items()} == {
        1: "decided",
        2: "decided",
        3: "decided",
        4: "no_consensus",
        5: "refused",
        6: "invalid",
        8: "invalid",
    }
    first = lines[1]
    assert (first["id"], first["answer"], first["consensus_reached"]) == ("q0", "yes", True)
    assert first["result"]["dissenting_views"] == ["c: no"]
    assert lines[5]["code"] == "unsupported_consensus_mode"
    assert json.loads(printed)["by_status"] == {"decided": 3, "invalid": 2, "no_consensus": 1, "refused": 1}
    assert "line 6" in errors
    assert "7 of 7 items" in errors


async def test_bad_lines_are_fatal_unless_one_says_otherwise(api: Api, batch: Batch) -> None:
    batch.questions(2, b"{")
    code, _, errors = await batch.run()
    assert code == 2
    assert "line 3" in errors
    assert not batch.out.exists()
    assert (await api.get("/deliberations"))["total"] == 0


async def test_a_killed_batch_goes_on_and_asks_nothing_twice(api: Api, batch: Batch) -> None:
    asked: Counter[str] = Counter()
    release = asyncio.Event()

    async def says(model: str, prompt: str) -> str:
        asked[prompt] += 1
        if sum(asked.values()) > 3 * 6:
            await release.wait()
        return _says(model, prompt)

    batch.questions(20)
    async with models(says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        first = await batch.start("--concurrency", "4")
        await eventually(lambda: len(batch.lines()) >= 4 and sum(asked.values()) > 3 * 6)
        first.kill()
        await first.wait()
        before = batch.lines()
        with batch.out.open("ab") as file:
            file.write(b'{"line": 9, "id": "q')
        release.set()
        code, printed, errors = await batch.run("--resume")
    assert code == 0, errors
    assert "torn" in errors
    lines = batch.lines()
    assert lines[: len(before)] == before
    assert sorted(line["id"] for line in lines) == sorted(f"q{n}" for n in range(20))
    assert {line["status"] for line in lines} == {"decided"}
    assert (await api.get("/deliberations"))["total"] == 20
    assert len(asked) == 20
    assert set(asked.values()) == {3}
    assert "20" in printed


async def test_the_same_batch_again_has_the_same_results(api: Api, batch: Batch, tmp_path: Path) -> None:
    calls = 0

    def says(model: str, prompt: str) -> str:
        nonlocal calls
        calls += 1
        return _says(model, prompt)

    batch.questions(3, json.dumps({"content": "Question 0?", "config": CONFIG}).encode())
    again, anew = tmp_path / "again.jsonl", tmp_path / "anew.jsonl"
    async with models(says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        assert (await batch.run())[0] == 0
        assert calls == 9, "the last item is the first one again"
        assert (await batch.run(out=again))[0] == 0
        assert calls == 9

        def results(out: Path | None) -> dict[int, Any]:
            return {line["line"]: line["result"] for line in batch.lines(out)}

        assert results(again) == results(None)
        assert (await batch.run("--run", "anew", out=anew))[0] == 0
        assert calls == 18
        assert {line["request_id"] for line in batch.lines(anew)}.isdisjoint(
            line["request_id"] for line in batch.lines()
        )


async def test_an_unreachable_control_plane_ends_the_batch_and_resume_continues_it(api: Api, batch: Batch) -> None:
    batch.questions(2)
    here = batch.environment["ARAGORA_API_URL"]
    batch.environment["ARAGORA_API_URL"] = "http://127.0.0.1:9"
    code, _, errors = await batch.run("--patience", "0")
    assert code == 4
    assert "--resume" in errors
    batch.environment["ARAGORA_API_URL"] = here
    async with models(_says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        assert (await batch.run("--resume"))[0] == 0
    assert len(batch.lines()) == 2


async def test_a_batch_outlives_the_worker_that_runs_its_deliberations(api: Api, batch: Batch) -> None:
    release = asyncio.Event()
    asked = 0

    async def says(model: str, prompt: str) -> str:
        nonlocal asked
        asked += 1
        await release.wait()
        return _says(model, prompt)

    batch.questions(3)
    async with models(says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        running = asyncio.create_task(batch.run())
        await eventually(lambda: asked >= 9)
        await api.kill("deliberation")
        await api.start("deliberation")
        release.set()
        assert (await running)[0] == 0
    assert {line["status"] for line in batch.lines()} == {"decided"}


_IN_THE_BACKGROUND_OF_A_SCRIPT = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


@pytest.mark.parametrize("under", [(), _IN_THE_BACKGROUND_OF_A_SCRIPT], ids=["alone", "ctrl-c is ignored"])
async def test_a_batch_that_is_stopped_says_so_and_leaves_its_deliberations_running(
    api: Api, batch: Batch, under: tuple[str, ...]
) -> None:
    """As `ray job stop` does it."""
    batch.questions(2)
    process = await batch.start(under=under)

    async def admitted() -> bool:
        return bool((await api.get("/deliberations"))["total"] == 2)

    await eventually(admitted)
    process.terminate()
    printed, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert b"Batch" in printed, "the summary is printed all the same"
    listed = (await api.get("/deliberations"))["deliberations"]
    assert [deliberation["terminal"] for deliberation in listed] == [None, None]
