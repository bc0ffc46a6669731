"""What jobs of the worker kit emit: in order, joined, bounded, and there before the result."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aragora_worker import emitting
from aragora_worker.worker import Job
from cluster.domain.base.errors import InvalidRequest, TooLarge
from tests.api.test_worker import a_worker, ended, running, submit
from tests.support.api import Api, in_thread
from tests.support.probes import eventually

PAGE = Path(__file__).parents[2] / "docs" / "streaming.md"


async def _contents(api: Api, task_id: str) -> list[Any]:
    return [chunk["content"] for chunk in (await api.get(f"/tasks/{task_id}/chunks", params={"limit": 1000}))["chunks"]]


async def test_what_jobs_emit_is_there_when_they_have_ended(api: Api) -> None:
    worker = a_worker(api)

    @worker.handles("echo")
    async def echo(job: Job) -> str:
        for word in ("Once", " upon", " a", " time", {"step": 1}, " there", " was"):
            await job.emit(word)
        return "done"

    @worker.handles("blocking")
    def blocking(job: Job) -> None:
        for n in range(250):
            job.emit_blocking({"n": n})

    @worker.handles("odd")
    async def odd(job: Job) -> None:
        with pytest.raises(InvalidRequest):
            await job.emit(object())
        with pytest.raises(TooLarge):
            await job.emit("x" * 65_536)
        await job.emit("fine")

    ids = [await submit(api, task_type=kind) for kind in ("echo", "blocking", "odd")]
    async with running(worker):
        for task_id in ids:
            assert (await ended(api, task_id))["status"] == "completed"
    told = await _contents(api, ids[0])
    assert "".join(part for part in told if isinstance(part, str)) == "Once upon a time there was"
    assert {"step": 1} in told
    assert len(told) < 7
    assert [chunk["n"] for chunk in await _contents(api, ids[1])] == list(range(250))
    assert await _contents(api, ids[2]) == ["fine"]


async def test_a_job_waits_while_too_much_waits_to_be_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitting, "MOST_BYTES", 100)
    monkeypatch.setattr(emitting, "EVERY_S", 0.0)
    worker = a_worker(api)
    most: list[int] = []

    @worker.handles("echo")
    async def echo(job: Job) -> None:
        assert job.emitter is not None
        for n in range(20):
            await job.emit([n, "x" * 30])
            most.append(job.emitter._bytes)

    @worker.handles("blocking")
    def blocking(job: Job) -> None:
        for n in range(20):
            job.emit_blocking([n, "x" * 30])

    ids = [await submit(api, task_type=kind) for kind in ("echo", "blocking")]
    async with running(worker):
        for task_id in ids:
            assert (await ended(api, task_id))["status"] == "completed"
    assert max(most) <= 100
    for task_id in ids:
        assert [content[0] for content in await _contents(api, task_id)] == list(range(20))


async def test_what_is_emitted_after_the_report_is_dropped(api: Api) -> None:
    worker, jobs = a_worker(api), list[Job]()

    @worker.handles("echo")
    async def echo(job: Job) -> None:
        jobs.append(job)
        await job.emit("in time")

    task_id = await submit(api)
    async with running(worker):
        assert (await ended(api, task_id))["status"] == "completed"
        await jobs[0].emit("late")
        assert jobs[0].emitter is not None
        assert jobs[0].emitter._pending == []
    assert await _contents(api, task_id) == ["in time"]


async def test_chunks_that_another_region_had_taken_are_skipped() -> None:
    """A region that has not got the former ones refuses the gap; the call is made again with skip."""
    sent: list[dict[str, Any]] = []

    async def send(body: Any) -> None:
        sent.append(dict(body))
        if len(sent) == 2:
            raise emitting.CallerError("The next chunk is number 1.", "chunk_gap")

    emitter = emitting.Emitter("t", send, emitting.Patience())
    await emitter.emit("a")
    await eventually(lambda: sent)
    await emitter.emit("b")
    await emitter.flush()
    assert sent == [
        {"first": 1, "chunks": ["a"]},
        {"first": 2, "chunks": ["b"]},
        {"first": 2, "chunks": ["b"], "skip": True},
    ]


async def test_the_example_of_the_page_is_followed_as_it_says(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(example.replace('Worker("teller"', f'Worker("teller", base_url="{api.url}"'), found)
    task_id = await submit(api, task_type="tell", required_capabilities=["tell"])
    async with running(found["worker"]):
        assert await in_thread(found["show"], api.url, task_id) == "completed"
    assert "Once upon a time" in capsys.readouterr().out
    assert (await api.get(f"/tasks/{task_id}"))["result"] == "Once upon a time"
