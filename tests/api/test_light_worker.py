"""``aragora-worker`` where nothing is installed but what its package asks for: it is small, and works against a real API."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.api.test_worker import ended, submit
from tests.support.api import Api
from tests.support.probes import eventually
from tests.support.pythons import VERSIONS, installed_for, light_path, python
from tests.support.system import clean_environment

#: What workers are told to be below, with what Python compiles.
MOST_BYTES = 6_000_000
JOBS = """
import sys
from aragora_worker import Job, Reject


async def adds(job: Job) -> dict:
    job.progress(percent=50, checkpoint={"seen": 1})
    await job.emit("half")
    ours = ("ray", "numpy", "asyncpg", "pydantic", "cluster")
    return {"sum": sum(job.payload), "loaded": [name for name in ours if name in sys.modules]}


def rejects(job: Job) -> None:
    raise Reject("never")


handlers = {"adds": adds, "rejects": rejects}
"""


@asynccontextmanager
async def _working(api: Api, command: list[str], directory: Path, **environment: str) -> AsyncIterator[None]:
    """A worker process, which is then drained, and has to deregister its agent."""
    (directory / "sums.py").write_text(JOBS)
    arguments = ["-m", "aragora_worker", "run", "sums:handlers", "--capabilities", "x", "--agent-id", "light"]
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, cwd=directory, env=clean_environment(ARAGORA_API_URL=api.url, **environment)
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

        async def is_off() -> bool:
            return (await api.call("GET", "/agents/light")).status_code == 404

        await eventually(is_off)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _check(api: Api) -> None:
    added = await submit(api, [1, 2], task_type="adds")
    rejected = await submit(api, task_type="rejects", max_retries=5)
    done = await ended(api, added)
    assert (done["status"], done["result"]) == ("completed", {"sum": 3, "loaded": []})
    refused = await ended(api, rejected)
    assert (refused["status"], refused["error"], refused["attempt"]) == ("failed", "never", 1)
    chunks = (await api.get(f"/tasks/{added}/chunks"))["chunks"]
    assert [chunk["content"] for chunk in chunks] == ["half"]


async def test_it_works_with_what_its_metadata_asks_for_alone(api: Api, tmp_path: Path) -> None:
    size = light_path(tmp_path / "light")
    assert size < MOST_BYTES / 2, "compiled it doubles"
    async with _working(api, [sys.executable, "-S"], tmp_path, PYTHONPATH=str(tmp_path / "light")):
        await _check(api)


@pytest.mark.longer
@pytest.mark.parametrize("version", VERSIONS)
async def test_it_works_as_installed_on_this_python(version: str, api: Api, tmp_path: Path) -> None:
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"this machine has no Python {version}")
    made = await asyncio.to_thread(installed_for, interpreter, tmp_path / "env")
    packages = tmp_path / "env" / "lib" / f"python{version}" / "site-packages"
    assert sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) < MOST_BYTES
    async with _working(api, [str(made)], tmp_path):
        await _check(api)
