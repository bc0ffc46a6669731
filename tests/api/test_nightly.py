"""The tutorial of the nightly run, step by step as it is printed, while workers and actors are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.roles import DELIBERATION, SCHEDULER, SEALER
from tests.support.api import Api, api_settings
from tests.support.cli import command
from tests.support.docs import ROOT
from tests.support.ends import ended
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

PAGE = (ROOT / "docs" / "tutorial-nightly.md").read_text()
FILES = ROOT / "docs" / "nightly"


def commands(name: str, **ids: str) -> list[list[str]]:
    """The words of each line behind ``aragora-cp``, with ids in place of their names."""
    (block,) = re.findall(rf"```sh {name}\n(.*?)```", PAGE, re.DOTALL)
    lines = [shlex.split(line)[1:] for line in block.strip().splitlines()]
    return [[ids.get(word, word) for word in words] for words in lines]


def test_the_page_shows_the_files_that_are_there() -> None:
    shown = dict(re.findall(r"```(?:python|yaml) (\S+\.(?:py|yaml))\n(.*?)```", PAGE, re.DOTALL))
    assert shown == {name: (FILES / name).read_text() for name in ("nightly.py", "panel.py", "nightly.yaml")}


@contextlib.asynccontextmanager
async def program(api: Api, directory: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    changed = {**os.environ, "ARAGORA_API_URL": api.url}
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=directory, env=changed)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await ended(process.wait(), words[0])


WORKER = ("-m", "aragora_worker", "run", "nightly:tasks", "--capabilities", "nightly")


@contextlib.asynccontextmanager
async def prepared(store_urls: StoreUrls, schema: str, directory: Path) -> AsyncIterator[Api]:
    """The directory with the page's files, the panel at work, and the workflow applied."""
    shutil.copytree(FILES, directory, dirs_exist_ok=True)
    async with Api(api_settings(store_urls, schema, heartbeat_timeout=2.0)).running() as api:
        await api.start(SEALER)
        async with program(api, directory, "panel.py"):
            for words in commands("apply", **{"nightly.yaml": str(directory / "nightly.yaml")}):
                assert "nightly version 1" in await command(api, *words)
            yield api


async def question(api: Api) -> str:
    """The task that asks whether to post, once it does."""
    found: list[str] = []

    async def is_asked() -> bool:
        found[:] = [each["task_id"] for each in (await api.get("/questions"))["questions"]]
        return bool(found)

    await eventually(is_asked, what="the question", timeout_s=60)
    return found[0]


async def test_a_newcomer_who_follows_the_page_gets_what_it_says(
    store_urls: StoreUrls, schema: str, tmp_path: Path
) -> None:
    async with prepared(store_urls, schema, tmp_path) as api, program(api, tmp_path, *WORKER):
        start, _ = commands("first")
        run_id = (await command(api, *start)).strip()
        _, status = commands("first", RUN=run_id)

        async def begun() -> bool:
            return "review" in await command(api, *status)

        await eventually(begun, what="the first steps")
        listed, approve, wait = commands("approve", RUN=run_id, TASK=await question(api))
        assert "posted" in await command(api, *listed)
        await command(api, *approve)
        shown = json.loads(await command(api, *wait))
        assert posted(shown) == {"posted": 8}
        create, _, _ = commands("schedule")
        schedule_id = (await command(api, *create)).strip()
        _, preview, run = commands("schedule", SCHEDULE=schedule_id)
        assert "T02:30:00+0" in await command(api, *preview)
        second = (await command(api, *run)).strip()
        rejected = await question(api)
        await command(api, "questions", "reject", rejected, "--reason", "not tonight")
        ends = json.loads(await command(api, "workflows", "wait", second, "--json"))
        assert {step["id"]: step["status"] for step in ends["steps"]}["post"] == "skipped"
        assert ends["metadata"] == {"schedule": schedule_id}
    assert len(list((tmp_path / "posted").iterdir())) == 1


def posted(run: dict[str, Any]) -> Any:
    return {step["id"]: step["result"] for step in run["steps"]}["post"]


@pytest.mark.slow
async def test_a_night_goes_on_whatever_is_killed(store_urls: StoreUrls, schema: str, tmp_path: Path) -> None:
    async with prepared(store_urls, schema, tmp_path) as api:
        start, _, _ = commands("killed")
        run_id = (await command(api, *start)).strip()

        async def some_are_reviewed() -> bool:
            kinds = [row.kind for row in await api.rows() if ".review." in row.entity]
            return "task.completed" in kinds and "task.claimed" in kinds

        async with program(api, tmp_path, *WORKER) as worker:
            await eventually(some_are_reviewed, what="the first review")
            worker.kill()
        for kind in (SCHEDULER, SEALER, DELIBERATION):
            await api.kill(kind)
            await api.start(kind)
        async with program(api, tmp_path, *WORKER):
            task_id = await question(api)
            await api.kill(SEALER)
            await command(api, "questions", "approve", task_id)
            await api.start(SEALER)
            _, wait, story = commands("killed", RUN=run_id)
            await command(api, *wait)
            assert "workflow.run_ended" in await command(api, *story)
        run = await api.get(f"/workflow-runs/{run_id}?results=true")
        assert (run["status"], posted(run)) == ("completed", {"posted": 8})
        completed = [row.entity for row in await api.rows() if row.kind == "task.completed"]
        assert sorted(entity for entity in completed if ".review." in entity) == [
            f"{run_id}.review.{n:05d}.1" for n in range(8)
        ]
    (file,) = (tmp_path / "posted").iterdir()
    assert len(json.loads(file.read_text())) == 8
