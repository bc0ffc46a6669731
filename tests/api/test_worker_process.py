"""The worker kit as a process of its own: jobs that block, stop or outlive it, and signals that end it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aragora_worker.worker import Job
from serve_app.schemas.tasks import Report
from tests.api.test_worker import a_worker, ended, running, submit
from tests.support.api import Api, api_settings
from tests.support.odd_proxy import CLAIM, HEARTBEAT, Odd, OddProxy, own
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

#: Handlers by task type. The payload names a folder in which files tell what has happened and what may happen.
_PROGRAM = """
import asyncio, logging, multiprocessing, os, pathlib, signal, sys, threading, time
import aragora_worker.worker as kit
from aragora_worker import jobs_at_hand, session

logging.basicConfig(level=logging.INFO)
jobs_at_hand.LAST_REPORTS_S, session.WATCH_S, session.BLOCKED_S = 0.5, 0.02, 0.1
worker = kit.Worker("w9", capabilities=["x"], concurrency=4, base_url=sys.argv[1], heartbeat_s=0.05, drain_s=0.1)


def begun(job):
    pathlib.Path(job.payload, job.task_type).touch()


def wait(job, name):
    while not pathlib.Path(job.payload, name).exists():
        time.sleep(0.01)


def plain(job):
    begun(job)
    wait(job, "go")
    return "plain"


async def coroutine(job):
    begun(job)
    await asyncio.Event().wait()


async def patient(job):
    begun(job)
    while not pathlib.Path(job.payload, "go").exists():
        await asyncio.sleep(0.01)
    return "patient"


async def blocks(job):
    begun(job)
    wait(job, "unblock")
    return "blocked"


async def swallows(job):
    begun(job)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


async def threads(job):
    begun(job)
    await asyncio.to_thread(threading.Event().wait)


async def stops_the_loop(job):
    asyncio.get_running_loop().stop()


async def cancels_all(job):
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def leaves_an_exit(job):
    async def exits():
        raise SystemExit(3)

    asyncio.ensure_future(exits())
    await asyncio.sleep(0)


class Silent(Exception):
    def __str__(self):
        raise SystemExit(4)


async def raises_without_words(job):
    raise Silent


async def closes_stderr(job):
    sys.stderr.close()
    raise ValueError("nobody can read this")


FORK = multiprocessing.get_context("fork")


def ends_a_child(job):
    child = FORK.Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


def uses_a_pool(job):
    with FORK.Pool(2) as pool:
        return pool.map(abs, [-1, 2])


def says_how_it_handles(number):
    return signal.getsignal(number) is signal.SIG_DFL, signal.set_wakeup_fd(-1)


async def looks_into_a_child(job):
    with FORK.Pool(1) as pool:
        return await asyncio.to_thread(pool.apply, says_how_it_handles, (signal.SIGTERM,))


for handler in (
    plain, coroutine, patient, blocks, swallows, threads, stops_the_loop, cancels_all, leaves_an_exit, raises_without_words,
    closes_stderr, ends_a_child, uses_a_pool, looks_into_a_child,
):
    worker.handles(handler.__name__)(handler)
worker.run_forever()
"""


@asynccontextmanager
async def started(api: Api, folder: Path, url: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, once it is registered. Its log is in the file ``log``."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, url or api.url, stderr=log, env=dict(os.environ)
        )

    async def registered() -> bool:
        return (await api.call("GET", "/agents/w9")).status_code == 200

    try:
        await eventually(registered)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def begun(api: Api, folder: Path, task_type: str, **options: Any) -> str:
    task_id = await submit(api, str(folder), task_type=task_type, **options)
    await eventually((folder / task_type).exists)
    return task_id


async def test_a_coroutine_that_blocks_stops_no_heartbeat_and_no_other_report(api: Api, tmp_path: Path) -> None:
    proxy = OddProxy(api.url, lambda call, number: None)
    async with proxy.running(), started(api, tmp_path, proxy.url):
        other = await begun(api, tmp_path, "plain")
        blocking = await begun(api, tmp_path, "blocks")
        before = proxy.counts[HEARTBEAT]
        await eventually(lambda: proxy.counts[HEARTBEAT] > before + 5)
        (tmp_path / "go").touch()
        assert (await ended(api, other))["result"] == "plain"
        said = re.compile(rf"is blocked since \d+ s by task {blocking};")
        await eventually(lambda: said.search((tmp_path / "log").read_text()))
        (tmp_path / "unblock").touch()
        assert (await ended(api, blocking))["result"] == "blocked"
        assert (await ended(api, await submit(api, str(tmp_path), task_type="patient")))["result"] == "patient"
        assert len(said.findall((tmp_path / "log").read_text())) == 1


@pytest.mark.parametrize(
    "deed", ["stops_the_loop", "cancels_all", "leaves_an_exit", "raises_without_words", "closes_stderr"]
)
async def test_whatever_a_job_does_the_process_goes_on_and_reports_others(api: Api, tmp_path: Path, deed: str) -> None:
    async with started(api, tmp_path) as process:
        other = await begun(api, tmp_path, "patient")
        bad = await ended(api, await submit(api, str(tmp_path), task_type=deed))
        assert bad["status"] == ("failed" if deed in ("raises_without_words", "closes_stderr") else "completed")
        (tmp_path / "go").touch()
        assert (await ended(api, other))["result"] == "patient"
        assert (await ended(api, await submit(api, str(tmp_path), task_type="patient")))["result"] == "patient"
        assert process.returncode is None


@pytest.mark.parametrize(
    ("deed", "result"),
    [("ends_a_child", -signal.SIGTERM), ("uses_a_pool", [1, 2]), ("looks_into_a_child", [True, -1])],
)
async def test_what_ends_a_forked_child_is_not_for_the_worker(api: Api, tmp_path: Path, deed: str, result: Any) -> None:
    """A child shares the descriptor by which its parent hears of signals, and ``multiprocessing`` ends children by SIGTERM."""
    async with started(api, tmp_path) as process:
        other = await begun(api, tmp_path, "patient")
        for _ in range(3):
            assert (await ended(api, await submit(api, str(tmp_path), task_type=deed)))["result"] == result
        (tmp_path / "go").touch()
        assert (await ended(api, other))["result"] == "patient"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert (tmp_path / "log").read_text().count("is deregistered") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["plain", "swallows", "threads", "blocks"])
async def test_a_job_that_cannot_be_ended_is_released_after_its_process(
    api: Api, tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    async with started(api, tmp_path) as process:
        stuck = await begun(api, tmp_path, kind, max_retries=3)
        process.send_signal(number)

        async def is_given_back() -> bool:
            return len(await api.rows(stuck)) == 3

        await eventually(is_given_back)
        assert not _runs(process.pid)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await _assert_costs_no_retry(api, stuck)
        assert (await api.call("GET", "/agents/w9")).status_code == 200
        assert f"task {stuck} does not stop" in (tmp_path / "log").read_text()


def _runs(pid: int) -> bool:
    """Whether the process has not ended; one that nobody has waited for yet has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def _assert_costs_no_retry(api: Api, task_id: str) -> None:
    task = await api.get(f"/tasks/{task_id}")
    assert task["status"] == "pending"
    assert task["retries"] == (0 if "released" in Report.model_fields else 1)  # older servers count it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_job_that_ends_when_told_is_released_first(api: Api, tmp_path: Path, number: signal.Signals) -> None:
    async with started(api, tmp_path) as process:
        task_id = await begun(api, tmp_path, "coroutine", max_retries=3)
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await _assert_costs_no_retry(api, task_id)
        assert (await api.call("GET", "/agents/w9")).status_code == 404


@pytest.mark.parametrize("first", ["this process", "the other"])
async def test_a_process_does_not_deregister_an_agent_that_another_one_uses(
    api: Api, tmp_path: Path, first: str
) -> None:
    other = a_worker(api, agent_id="w9")

    @other.handles()
    async def echo(job: Job) -> Any:
        return job.payload

    async def other_is_registered() -> bool:
        agent = await api.call("GET", "/agents/w9")
        return (
            agent.status_code == 200
            and agent.json()["metadata"].get("worker_process") == other._session.registration.process
        )

    if first == "the other":
        async with running(other):
            await eventually(other_is_registered)
            async with started(api, tmp_path) as process:
                await _assert_left_alone(api, process, tmp_path)
    else:
        async with started(api, tmp_path) as process, running(other):
            await eventually(other_is_registered)
            await _assert_left_alone(api, process, tmp_path)


async def _assert_left_alone(api: Api, process: asyncio.subprocess.Process, folder: Path) -> None:
    await eventually(lambda: "is registered" in (folder / "log").read_text())
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert "agent.unregistered" not in [row.kind for row in await api.rows("w9")]


async def test_an_operators_pause_outlives_the_process(api: Api, tmp_path: Path) -> None:
    async with started(api, tmp_path) as process:
        await api.post("/agents/w9/pause")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert (await api.get("/agents/w9"))["intent"] == "paused"


@pytest.mark.parametrize(("types", "claimed"), [(("b", "a"), ["a", "b"]), ((), None), (("a", None), None)])
async def test_claims_name_types_with_handlers_the_queues_and_the_version(
    api: Api, types: tuple[str | None, ...], claimed: list[str] | None
) -> None:
    bodies: list[Any] = []

    def seen(request: bytes) -> bytes:
        body = json.loads(request)
        bodies.append((body.get("task_types"), body.get("queues"), body.get("version")))
        return own(503, "unavailable")

    async with OddProxy(
        api.url, lambda call, number: Odd("seen", seen) if call == CLAIM and number == 1 else None
    ).running() as proxy:
        worker = a_worker(
            api, base_url=proxy.url, queues=["q2", "q1"] if claimed else (), version="1.4" if claimed else None
        )
        for task_type in types:
            worker.handles(*([task_type] if task_type else []))(lambda job: job.payload)
        async with running(worker):
            await eventually(lambda: bodies)
    assert bodies == [(claimed, ["q1", "q2"], "1.4") if claimed else (None, None, None)]


async def test_a_task_of_a_killed_process_runs_again_though_its_successor_beats(
    store_urls: StoreUrls, schema: str, tmp_path: Path
) -> None:
    """A container that crashes and is started again at once, under the same agent id."""
    async with Api(api_settings(store_urls, schema, heartbeat_timeout=2.0)).running() as api:
        successor = a_worker(api, agent_id="w9", heartbeat_s=0.05)

        @successor.handles("plain")
        async def echo(job: Job) -> int:
            return job.attempt

        async with started(api, tmp_path) as killed:
            task_id = await begun(api, tmp_path, "plain", max_retries=5)
            async with running(successor):
                await eventually(lambda: successor._session._claims._unanswered is not None)
                killed.kill()
                await killed.wait()
                task = await ended(api, task_id)
    assert task["status"] == "completed"
    assert task["result"] >= 2
