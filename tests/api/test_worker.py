"""The worker kit against the real API: claims, reports, cancels, drains, and restarts of what it talks to."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aragora_worker.worker import Job, Reject, Worker
from cluster.domain.base.errors import ControlPlaneError
from tests.support.answering import always
from tests.support.api import Api
from tests.support.docs import ROOT
from tests.support.probes import eventually

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.drain()
        await asyncio.wait_for(task, 30)


def a_worker(api: Api, **options: Any) -> Worker:
    return Worker(**({"agent_id": "w1", "capabilities": ["x"], "base_url": api.url, "heartbeat_s": 0.2} | options))


async def submit(api: Api, payload: Any = None, **changes: Any) -> str:
    body = {"task_type": "echo", "payload": payload, "required_capabilities": ["x"], "max_retries": 0} | changes
    return str((await api.post("/tasks", body))["task_id"])


async def ended(api: Api, task_id: str) -> dict[str, Any]:
    async def look() -> Any:
        task = await api.get(f"/tasks/{task_id}")
        return task if task["status"] not in ("pending", "running") else None

    return dict(await eventually(look, 90))


async def test_jobs_are_claimed_in_batches_run_and_reported(api: Api) -> None:
    worker = a_worker(api, concurrency=4)
    at_once: list[int] = []

    @worker.handles("echo")
    async def echo(job: Job) -> Any:
        at_once.append(len(worker._session.jobs))
        await asyncio.sleep(0)
        return {"said": job.payload}

    @worker.handles("blocking")
    def blocking(job: Job) -> str:
        return threading.current_thread().name

    ids = [await submit(api, number) for number in range(10)]
    thread = await submit(api, task_type="blocking")
    async with running(worker):
        results = [await ended(api, task_id) for task_id in ids]
        assert [result["result"] for result in results] == [{"said": number} for number in range(10)]
        assert str((await ended(api, thread))["result"]).startswith("job-w1")
    assert 1 < max(at_once) <= 4


async def test_what_a_handler_raises_fails_the_attempt_and_a_rejection_the_task(api: Api) -> None:
    worker = a_worker(api)

    @worker.handles()
    async def fails(job: Job) -> None:
        raise Reject("never") if job.payload == "reject" else ValueError("not now")

    rejected = await submit(api, "reject", max_retries=5)
    failed = await submit(api, "fail")
    async with running(worker):
        task = await ended(api, rejected)
        assert (task["status"], task["error"], task["attempt"]) == ("failed", "never", 1)
        assert [row.data["error_class"] for row in await api.rows(rejected) if row.kind == "task.failed"] == [
            "not_retryable"
        ]
        assert "ValueError: not now" in (await ended(api, failed))["error"]


async def test_a_cancelled_job_is_stopped(api: Api) -> None:
    worker = a_worker(api)
    started = asyncio.Event()
    stopped: list[str] = []

    @worker.handles()
    async def waits(job: Job) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(job.id)

    task_id = await submit(api)
    async with running(worker):
        await started.wait()
        await api.post(f"/tasks/{task_id}/cancel")
        assert (await ended(api, task_id))["status"] == "cancelled"
        assert stopped == [task_id]


async def test_draining_ends_jobs_and_claims_no_more(api: Api) -> None:
    worker = a_worker(api, concurrency=1)
    started, go = asyncio.Event(), asyncio.Event()

    @worker.handles()
    async def waits(job: Job) -> str:
        started.set()
        await go.wait()
        return "done"

    first, second = await submit(api), await submit(api)
    run = asyncio.create_task(worker.run())
    await started.wait()
    worker.drain()

    async def draining() -> bool:
        return bool((await api.get("/agents/w1"))["status"] == "draining")

    await eventually(draining)
    go.set()
    await asyncio.wait_for(run, 30)
    assert (await api.get(f"/tasks/{first}"))["result"] == "done"
    assert (await api.get(f"/tasks/{second}"))["status"] == "pending"
    async with running(a_worker(api)):

        async def back() -> bool:
            return bool((await api.get("/agents/w1"))["intent"] == "active")

        await eventually(back)


async def test_a_worker_gets_work_although_its_predecessor_drained_last(api: Api) -> None:
    """A rolling restart under one id: the new process registers before the old one says that it drains."""
    worker = a_worker(api)

    @worker.handles()
    async def echo(job: Job) -> Any:
        return job.payload

    async with running(worker):
        assert (await ended(api, await submit(api, 1)))["result"] == 1
        await api.post("/agents/w1/heartbeat", {"status": "draining"})
        assert (await ended(api, await submit(api, 2)))["result"] == 2


async def test_a_worker_respects_an_operators_pause_and_logs_it(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await api.post("/agents", {"agent_id": "w1", "capabilities": ["x"]})
    await api.post("/agents/w1/pause")
    worker = a_worker(api, heartbeat_s=0.02)
    heartbeats: list[float] = []

    async def has_beaten() -> bool:
        heartbeats.append((await api.get("/agents/w1"))["last_heartbeat"])
        return len(set(heartbeats)) > 4

    def told() -> bool:
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        return "aragora-cp agents resume w1" in "".join(warnings)

    async with running(worker):
        await eventually(told)  # heartbeats do not wait for the registration
        await eventually(has_beaten)
        assert (await api.get("/agents/w1"))["status"] == "paused"


async def test_a_job_that_does_not_end_in_time_goes_back(api: Api) -> None:
    worker = a_worker(api, drain_s=0.1)
    started = asyncio.Event()

    @worker.handles()
    async def waits(job: Job) -> None:
        started.set()
        await asyncio.Event().wait()

    task_id = await submit(api, max_retries=1)
    async with running(worker):
        await started.wait()
    rows = [row.kind for row in await api.rows(task_id)]
    assert rows[:2] == ["task.submitted", "task.claimed"]
    assert len(rows) == 3
    assert (await api.get(f"/tasks/{task_id}"))["status"] == "pending"


async def test_a_worker_outlives_the_scheduler_and_a_lost_registration(api: Api) -> None:
    worker = a_worker(api)

    @worker.handles()
    async def echo(job: Job) -> Any:
        return job.payload

    async with running(worker):
        assert (await ended(api, await submit(api, 1)))["result"] == 1
        await api.kill_scheduler()
        task_id = await submit(api, 2)
        await api.start_scheduler()
        assert (await ended(api, task_id))["result"] == 2
        await api.call("DELETE", "/agents/w1")
        assert (await ended(api, await submit(api, 3)))["result"] == 3


_SLOW_JOB = """
import asyncio
import pathlib


async def double(job):
    if "until" in job.payload:
        pathlib.Path(job.payload["started"]).touch()
        while not pathlib.Path(job.payload["until"]).exists():
            await asyncio.sleep(0.02)
    return job.payload["n"] * 2
"""


async def test_the_command_runs_a_function_and_drains_on_sigterm(api: Api, tmp_path: Path) -> None:
    (tmp_path / "my_jobs.py").write_text(_SLOW_JOB)
    started, go_on = tmp_path / "started", tmp_path / "go_on"
    words = ["worker", "run", "my_jobs:double", "--capabilities", "x,y", "--agent-id", "w9", "--concurrency", "2"]
    environment = {**os.environ, "ARAGORA_API_URL": api.url}
    process = await asyncio.create_subprocess_exec(COMMAND, *words, cwd=tmp_path, env=environment)
    try:
        quick = await submit(api, {"n": 21})
        assert (await ended(api, quick))["result"] == 42
        agent = await api.get("/agents/w9")
        assert (agent["capabilities"], agent["max_concurrency"]) == (["x", "y"], 2)
        slow = await submit(api, {"n": 4, "started": str(started), "until": str(go_on)})
        await eventually(started.exists)
        process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            return bool((await api.get("/agents/w9"))["status"] == "draining")

        await eventually(draining)
        go_on.touch()
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert (await api.get(f"/tasks/{slow}"))["result"] == 8
        assert (await api.call("GET", "/agents/w9")).status_code == 404
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_command_ends_even_if_a_plain_function_hangs(api: Api, tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "stuck_jobs.py").write_text(
        "import pathlib, threading\n"
        "def block(job):\n    pathlib.Path(job.payload).touch()\n    threading.Event().wait()\n"
    )
    words = ["worker", "run", "stuck_jobs:block", "--capabilities", "x", "--agent-id", "w9", "--drain-seconds", "0.1"]
    environment = {**os.environ, "ARAGORA_API_URL": api.url}
    process = await asyncio.create_subprocess_exec(COMMAND, *words, cwd=tmp_path, env=environment)
    try:
        task_id = await submit(api, str(started), max_retries=1)
        await eventually(started.exists)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        await eventually(lambda: _is_given_back(api, task_id))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _is_given_back(api: Api, task_id: str) -> bool:
    return len(await api.rows(task_id)) == 3 and (await api.get(f"/tasks/{task_id}"))["status"] == "pending"


async def test_workers_form_a_panel_that_decides(api: Api) -> None:
    """Turns go to agents without an endpoint as tasks, and their results decide."""

    def answer(job: Job) -> Any:
        assert job.task_type == "deliberation.turn"
        return {"text": always("A")("", job.payload), "input_tokens": 10, "output_tokens": 5}

    workers = [a_worker(api, agent_id=f"p{number}", capabilities=["deliberation"]) for number in range(3)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            worker.handles("deliberation.turn")(answer)
            await stack.enter_async_context(running(worker))

        async def all_there() -> bool:
            return bool((await api.get("/agents?capability=deliberation"))["total"] == 3)

        await eventually(all_there)
        body = {"content": "Which?", "config": {"options": ["A", "B"]}, "timeout_seconds": 60}
        result = await api.post("/deliberations", body)
        assert (result["terminal"], result["answer"], result["consensus_reached"]) == ("DECIDED", "A", True)


async def test_a_job_reports_progress_and_the_next_attempt_goes_on(api: Api) -> None:
    """From a thread and from a coroutine; each attempt fails after the page that it has reported."""
    worker = a_worker(api)
    seen: list[tuple[str, int, Any]] = []

    @worker.handles("thread")
    def in_a_thread(job: Job) -> str:
        seen.append((job.task_type, job.attempt, job.checkpoint))
        if job.attempt == 3:
            return "done"
        job.progress(percent=10 * job.attempt, message=f"page {job.attempt}").wait(60)
        job.progress(checkpoint={"page": job.attempt})  # nobody waits for this one
        raise ValueError("not yet")

    @worker.handles("coroutine")
    async def in_a_coroutine(job: Job) -> str:
        seen.append((job.task_type, job.attempt, job.checkpoint))
        if job.attempt == 3:
            return "done"
        await job.progress(percent=10 * job.attempt, checkpoint={"page": job.attempt})
        raise ValueError("not yet")

    tasks = {kind: await submit(api, task_type=kind, max_retries=5) for kind in ("thread", "coroutine")}
    async with running(worker):
        ends = {kind: await ended(api, task_id) for kind, task_id in tasks.items()}
    for kind, end in ends.items():
        assert (end["result"], end["attempt"], end["progress"]["percent"]) == ("done", 3, 20.0)
        assert [told[1:] for told in seen if told[0] == kind] == [(1, None), (2, {"page": 1}), (3, {"page": 2})]


async def test_a_job_that_lost_its_lease_is_told_to_stop(api: Api) -> None:
    worker = a_worker(api)
    reported, lost = threading.Event(), threading.Event()
    tokens: list[str] = []
    codes: list[str | None] = []

    @worker.handles()
    def goes_on(job: Job) -> None:
        tokens.append(job.lease_token)
        job.progress(percent=1).wait(60)
        reported.set()
        lost.wait(60)
        try:
            job.progress(percent=2).wait(60)
        except ControlPlaneError as error:
            codes.append(error.code)
        assert job.cancelled.wait(60)

    task_id = await submit(api)
    async with running(worker):
        await eventually(reported.is_set)
        await api.post(f"/tasks/{task_id}/fail", {"lease_token": tokens[0], "requeue": False})
        lost.set()
        await eventually(lambda: not worker._session.jobs)
    assert codes == ["lease_lost"]


async def test_the_pages_example_goes_on_from_its_checkpoint(api: Api) -> None:
    (code,) = re.findall(r"```python\n# my_pages\.py\n(.*?)```", (ROOT / "docs" / "workers.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    worker = a_worker(api)
    checkpoints: list[Any] = []

    @worker.handles()
    async def fails_at_first(job: Job) -> Any:
        checkpoints.append(job.checkpoint)
        counted = await names["count_words"](job)
        if job.attempt == 1:
            raise ValueError("after all pages")
        return counted

    task_id = await submit(api, {"pages": ["one", "two words", "now three words"]}, max_retries=1)
    async with running(worker):
        task = await ended(api, task_id)
    all_pages = {"pages": 3, "words": 6}
    assert (task["result"], checkpoints) == (all_pages, [None, all_pages])
    assert (task["progress"]["percent"], task["progress"]["message"]) == (100.0, "page 3")
