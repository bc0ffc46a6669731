"""The tutorial, step by step as it is printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from cluster.cli import exit_codes
from tests.support.api import Api
from tests.support.cli import command
from tests.support.docs import ROOT
from tests.support.ends import ended
from tests.support.probes import eventually

PAGE = (ROOT / "docs" / "tutorial.md").read_text()


def block(language: str, name: str) -> str:
    (found,) = re.findall(rf"```{language} {name}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def commands(name: str) -> list[list[str]]:
    """The words of each line behind ``aragora-cp``."""
    return [shlex.split(line)[1:] for line in block("sh", name).strip().splitlines()]


@contextlib.asynccontextmanager
async def program(api: Api, directory: Path, *words: str) -> AsyncIterator[None]:
    """A program of the page, in the directory where its file is."""
    environment = {**os.environ, "ARAGORA_API_URL": api.url}
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=directory, env=environment)
    try:
        yield
    finally:
        process.terminate()
        await ended(process.wait(), words[0])


async def test_a_newcomer_who_follows_the_page_gets_what_it_says(api: Api, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("python", "shop"))
    (tmp_path / "panel.py").write_text(block("python", "panel"))
    async with program(api, tmp_path, "-m", "aragora_worker", "run", "shop:price", "--capabilities", "prices"):
        (submit,) = commands("run")
        assert '"total": 7' in await command(api, *submit)
        fails, listed, replay, story = commands("fails")
        await command(api, *fails, code=exit_codes.TASK_FAILED)
        assert "KeyError: 'items'" in await command(api, *listed)
        (task_id,) = set(re.findall(r"task_[0-9a-z]+", await command(api, *listed)))
        await command(api, *(word.replace("TASK", task_id) for word in replay))
        assert "dead_lettered" in await command(api, *(word.replace("TASK", task_id) for word in story))
    async with program(api, tmp_path, "panel.py", *re.findall(r"python panel.py (.*)", PAGE)[0].split()):
        for n in (1, 2, 3):
            await eventually(lambda n=n: _is_there(api, f"member-{n}"), what=f"member {n} to register")
        deliberate, get, verify = commands("deliberates")
        said = await command(api, *deliberate)
        assert "Services" in said
        (request_id,) = set(re.findall(r"delib_[0-9a-z]+", said))
        receipt = str(tmp_path / "receipt.json")
        await command(api, *(word.replace("REQUEST", request_id).replace("receipt.json", receipt) for word in get))
        await command(api, *(word.replace("receipt.json", receipt) for word in verify))


async def _is_there(api: Api, agent_id: str) -> bool:
    return (await api.call("GET", f"/agents/{agent_id}")).is_success
