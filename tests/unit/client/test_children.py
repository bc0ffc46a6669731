"""What handlers start, and what is left of it when they are cancelled: docs/workers.md says it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aragora_worker.jobs import Job, RunningJob, Stop
from tests.support.probes import eventually
from tests.unit.client.test_jobs import Loop

#: Starts a child, tells both ids, and waits.
PARENT = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
path = pathlib.Path(sys.argv[1])
path.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
path.with_suffix(".new").rename(path)
time.sleep(600)
"""


@pytest.fixture
def jobs() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


def _example() -> Callable[[Job], Any]:
    (code,) = re.findall(
        r"```python\n# my_processes\.py\n(.*?)```",
        (Path(__file__).parents[3] / "docs" / "workers.md").read_text(),
        re.S,
    )
    names: dict[str, Any] = {}
    exec(code, names)
    return names["run"]  # type: ignore[no-any-return]


def _start(jobs: Loop, handler: Callable[[Job], Any], payload: Any) -> RunningJob:
    job = Job(id="t", task_type="x", payload=payload, metadata={}, attempt=1, timeout_s=60.0, lease_token="l-t")
    running = RunningJob(job, "w")
    running.start_coroutine(lambda: handler(job), jobs.loop)
    return running


async def test_the_example_ends_its_process_and_what_that_started(jobs: Loop, tmp_path: Path) -> None:
    told = tmp_path / "ids"
    running = _start(jobs, _example(), [sys.executable, "-c", PARENT, str(told)])
    await eventually(told.exists)
    started = [psutil.Process(int(number)) for number in told.read_text().split()]
    running.stop(Stop.CANCELLED)
    await asyncio.wrap_future(running.over)

    def are_over() -> bool:
        return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in started)

    await eventually(are_over)


HAS_GROUPS = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is of Python 3.11")


@pytest.mark.parametrize(
    ("waits", "goes_on"), [pytest.param("group", False, marks=HAS_GROUPS), ("gather", False), ("nothing", True)]
)
async def test_tasks_end_with_their_handler_if_it_waits_for_them(jobs: Loop, waits: str, goes_on: bool) -> None:
    children: list[asyncio.Task[Any]] = []

    async def handler(job: Job) -> None:
        if waits == "group":
            async with asyncio.TaskGroup() as group:
                children.append(group.create_task(asyncio.sleep(600)))
        children.append(asyncio.create_task(asyncio.sleep(600)))
        await (asyncio.gather(*children) if waits == "gather" else asyncio.sleep(600))

    running = _start(jobs, handler, None)
    await eventually(lambda: bool(children))
    running.stop(Stop.CANCELLED)
    await asyncio.wrap_future(running.over)
    if goes_on:
        assert [child.done() for child in children] == [False]
        jobs.loop.call_soon_threadsafe(children[0].cancel)
    await eventually(lambda: all(child.cancelled() for child in children))
