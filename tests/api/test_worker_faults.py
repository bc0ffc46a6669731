"""The worker kit behind a proxy that answers oddly in place of the API."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aragora_worker.errors import ApiError
from aragora_worker.repeating import Patience
from aragora_worker.worker import Job, Worker
from tests.api.test_worker import COMMAND, a_worker, ended, running, submit
from tests.support.api import Api, api_settings
from tests.support.odd_proxy import CALLS, CLAIM, HANGS, HEARTBEAT, ODDITIES, REGISTER, REPORT, Odd, OddProxy, http, own
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

QUICK = Patience(first_s=0.01, most_s=0.05, asked_most_s=0.05)
#: What answers besides ODDITIES: what httpx stumbles over, in headers.
ODD_HEADERS = (
    Odd("cookie that no header may have", http(200, "<html>Bitte anmelden</html>", Set_Cookie="name=Jürgen; Path=/")),
    Odd("redirect to a mail", http(302, "", Location="mailto:admin@example.org")),
    Odd("redirect to a broken name", http(302, "", Location="http://xn--/")),
    Odd("retry after the end of time", http(503, "", Retry_After="Fri, 31 Dec 99999999999999999999 23:59:59 GMT")),
)
HTML_502 = next(odd for odd in ODDITIES if odd.name == "html 502")


def behind(proxy: OddProxy, **options: Any) -> Worker:
    given = {"agent_id": "w1", "capabilities": ["x"], "base_url": proxy.url, "heartbeat_s": 0.05, "patience": QUICK}
    return Worker(**(given | options))


def counting(worker: Worker) -> Counter[str]:
    """How often the handler ran for each task."""
    runs: Counter[str] = Counter()

    @worker.handles()
    async def run(job: Job) -> Any:
        runs[job.id] += 1
        await asyncio.sleep(0)
        return {"said": job.payload}

    return runs


async def assert_done_once(api: Api, ids: list[str], runs: Counter[str]) -> None:
    results = [await ended(api, task_id) for task_id in ids]
    assert [result["result"] for result in results] == [{"said": number} for number in range(len(ids))]
    assert runs == Counter(ids)
    for task_id in ids:
        assert [row.kind for row in await api.rows(task_id)] == ["task.submitted", "task.claimed", "task.completed"]


@pytest.mark.parametrize("odd", [*ODDITIES, *ODD_HEADERS], ids=str)
async def test_odd_answers_to_every_call_lose_nothing_and_do_nothing_twice(api: Api, odd: Odd) -> None:
    def script(call: str, number: int) -> Odd | None:
        """The first two of each kind, and the fourth: in the middle of work."""
        return odd if call in CALLS and number in (1, 2, 4) else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy, concurrency=2)
        runs = counting(worker)
        ids = [await submit(api, number) for number in range(4)]
        async with running(worker):
            await assert_done_once(api, ids, runs)
            await eventually(lambda: all(proxy.odd[call] == 3 or proxy.counts[call] < 4 for call in CALLS))
            late = await submit(api, "late")
            assert (await ended(api, late))["result"] == {"said": "late"}
        assert all(proxy.odd[call] >= 2 for call in CALLS), proxy.odd


@pytest.mark.parametrize("seed", range(4))
async def test_any_mixture_of_odd_answers_loses_nothing_and_does_nothing_twice(api: Api, seed: int) -> None:
    chance = random.Random(seed)

    def script(call: str, number: int) -> Odd | None:
        return chance.choice(ODDITIES) if call in CALLS and number < 30 and chance.random() < 0.6 else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy, concurrency=3, batch=2)
        runs = counting(worker)
        ids = [await submit(api, number) for number in range(12)]
        async with running(worker):
            await assert_done_once(api, ids, runs)


async def test_a_result_is_kept_through_an_outage_and_reported_under_its_lease(api: Api) -> None:
    """However many times it is refused by what is not the API; leases are not renewed meanwhile, nor lost (30 s)."""
    out = asyncio.Event()
    async with OddProxy(api.url, lambda call, number: HTML_502 if out.is_set() else None).running() as proxy:
        worker = behind(proxy)
        started, go = asyncio.Event(), asyncio.Event()

        @worker.handles()
        async def waits(job: Job) -> str:
            started.set()
            await go.wait()
            return "kept"

        task_id = await submit(api)
        async with running(worker):
            await started.wait()
            out.set()
            go.set()
            before = proxy.counts.copy()
            await eventually(lambda: all(proxy.counts[call] > before[call] + 5 for call in (HEARTBEAT, REPORT)))
            out.clear()
            task = await ended(api, task_id)
            assert (task["status"], task["result"], task["attempt"]) == ("completed", "kept", 1)


async def test_an_outage_is_two_lines_however_often_it_is_tried(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Every loop tries again and again; an idle claim, which may wait for long, does not hold the second line up."""
    out = asyncio.Event()

    async def goes_away_and_comes_back() -> None:
        caplog.clear()
        out.set()
        before = proxy.counts.copy()
        await api.post("/tasks", {"task_type": "t", "required_capabilities": ["x"]})  # ends the claim that waits
        await eventually(lambda: all(proxy.counts[call] > before[call] + 5 for call in (HEARTBEAT, CLAIM)))
        out.clear()
        await eventually(lambda: "is back" in caplog.text, 10)

    caplog.set_level(logging.INFO, logger="aragora_worker")
    proxy = OddProxy(api.url, lambda call, number: HTML_502 if out.is_set() else None)
    async with proxy.running():
        worker = behind(proxy)
        counting(worker)
        async with running(worker):
            await eventually(lambda: proxy.counts[HEARTBEAT] > 1 and proxy.counts[CLAIM] > 0)
            for _ in range(2):
                await goes_away_and_comes_back()
                said = [record.getMessage() for record in caplog.records if record.name.startswith("aragora_worker")]
                assert [line.partition(",")[0] for line in said] == [
                    "the control plane is away",
                    "the control plane is back",
                ]


async def test_a_task_redelivered_before_its_lost_attempts_report_runs_again(
    store_urls: StoreUrls, schema: str
) -> None:
    """The lease ends in an outage; afterwards claims pass sooner than reports."""
    out, reports_too = asyncio.Event(), asyncio.Event()

    def script(call: str, number: int) -> Odd | None:
        return HTML_502 if out.is_set() or (call == REPORT and reports_too.is_set()) else None

    settings = api_settings(store_urls, schema, heartbeat_timeout=3.0)
    async with Api(settings).running() as api, OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy)
        attempts: list[int] = []

        @worker.handles()
        async def run(job: Job) -> int:
            attempts.append(job.attempt)
            if job.attempt == 1:
                reports_too.set()
                out.set()
            return job.attempt

        task_id = await submit(api, max_retries=3)

        async def is_lost() -> bool:
            return len(await api.rows(task_id)) > 2

        async with running(worker):
            await eventually(is_lost)
            out.clear()
            await eventually(lambda: attempts == [1, 2])
            reports_too.clear()
            task = await ended(api, task_id)
            assert (task["status"], task["result"], attempts) == ("completed", 2, [1, 2])


async def test_a_job_whose_lease_was_lost_in_an_outage_is_abandoned(api: Api) -> None:
    out = asyncio.Event()

    def script(call: str, number: int) -> Odd | None:
        return HTML_502 if out.is_set() and call == REPORT else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy, concurrency=1)

        @worker.handles()
        async def run(job: Job) -> str:
            if job.payload == "lost":
                out.set()
            return "done"

        lost = await submit(api, "lost")
        async with running(worker):
            await eventually(lambda: proxy.odd[REPORT] > 2)
            await api.post(f"/tasks/{lost}/cancel", {"force": True})
            out.clear()
            assert (await ended(api, await submit(api, "next")))["result"] == "done"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_the_api_refuses_ends_the_worker(api: Api, call: str, status: int) -> None:
    refused = Odd("refused", own(status, "forbidden"))

    def script(asked: str, number: int) -> Odd | None:
        return refused if asked == call else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy, drain_s=0.1)
        counting(worker)
        task_id = await submit(api)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aragora_worker.jobs_at_hand.LAST_REPORTS_S", 0.1)
            with pytest.raises(ApiError, match="Our own forbidden") as raised:
                await asyncio.wait_for(worker.run(), 30)
        assert raised.value.status == status
        assert (await api.get(f"/tasks/{task_id}"))["status"] in ("pending", "running", "completed")


@pytest.mark.parametrize("call", CALLS)
async def test_a_worker_waits_while_its_workspace_is_suspended(api: Api, call: str) -> None:
    suspended = Odd("refused", own(403, "workspace_suspended"))
    refusals = 0

    def script(asked: str, number: int) -> Odd | None:
        nonlocal refusals
        refusals += asked == call
        return suspended if asked == call and refusals <= 3 else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy)
        runs = counting(worker)
        ids = [await submit(api, 0)]
        async with running(worker):
            await assert_done_once(api, ids, runs)
            await eventually(lambda: refusals > 3, timeout_s=30)
            assert (await ended(api, await submit(api, "later")))["result"] == {"said": "later"}


async def test_a_refused_key_lets_running_jobs_report_first(api: Api) -> None:
    worker_began = asyncio.Event()

    def script(call: str, number: int) -> Odd | None:
        return Odd("refused", own(403, "forbidden")) if call == HEARTBEAT and worker_began.is_set() else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy)

        @worker.handles()
        async def run(job: Job) -> str:
            worker_began.set()
            await eventually(lambda: worker._session.draining.is_set())
            return "said at the end"

        task_id = await submit(api)
        with pytest.raises(ApiError):
            await asyncio.wait_for(worker.run(), 30)
        assert (await api.get(f"/tasks/{task_id}"))["result"] == "said at the end"


@pytest.mark.parametrize(
    ("description", "words"),
    [({"capabilities": ["x" * 300]}, "capabilities"), ({"concurrency": 0}, "max_concurrency"), ({"model": 7}, "model")],
)
async def test_a_registration_that_the_api_refuses_ends_the_worker_with_its_sentence(
    api: Api, description: dict[str, Any], words: str
) -> None:
    async with OddProxy(api.url, lambda call, number: None).running() as proxy:
        options = dict(description)
        concurrency = options.pop("concurrency", 1)
        worker = behind(proxy, **options)
        worker._session.registration.description["max_concurrency"] = concurrency
        with pytest.raises(ApiError, match=words):
            await asyncio.wait_for(worker.run(), 30)


async def test_a_forgotten_agent_registers_again_through_odd_answers(api: Api) -> None:
    async with OddProxy(
        api.url, lambda call, number: HTML_502 if call == REGISTER and number in (2, 3, 4) else None
    ).running() as proxy:
        worker = behind(proxy)
        runs = counting(worker)
        async with running(worker):
            await ended(api, await submit(api, 0))
            await api.call("DELETE", "/agents/w1")
            task_id = await submit(api, 1)
            assert (await ended(api, task_id))["result"] == {"said": 1}
            assert runs[task_id] == 1
            assert proxy.counts[REGISTER] >= 5


async def test_a_worker_goes_on_after_a_refused_claim(api: Api) -> None:
    refused = Odd("refused", own(409, "conflict"))
    async with OddProxy(
        api.url, lambda call, number: refused if call == CLAIM and number <= 3 else None
    ).running() as proxy:
        worker = behind(proxy)
        counting(worker)
        async with running(worker):
            assert (await ended(api, await submit(api, 0)))["status"] == "completed"


async def test_a_heartbeat_that_hangs_does_not_hold_up_the_next(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aragora_worker.session.HEARTBEAT_TIMEOUT_S", 0.1)
    monkeypatch.setattr("aragora_worker.api.CONNECT_S", 0.1)
    half = Odd(HANGS, http(200, '{"ack', "application/json", length=100))
    proxy = OddProxy(api.url, lambda call, number: half if call == HEARTBEAT else None)
    async with proxy.running(), running(behind(proxy)):
        await eventually(lambda: proxy.counts[HEARTBEAT] > 3)


class NoException(BaseException):
    pass


class NoWords(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def _nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def _raised(error: BaseException) -> Any:
    raise error


#: What a handler does → whether it can be a result.
OUTCOMES: dict[str, tuple[Callable[[], Any], str]] = {
    "fine": (lambda: {"n": 1}, "completed"),
    "datetime": (lambda: {"at": datetime(2026, 1, 2, tzinfo=UTC)}, "failed"),
    "set": (lambda: {1, 2}, "failed"),
    "bytes": (lambda: b"x", "failed"),
    "NaN": (lambda: {"mean": float("nan")}, "failed"),
    "circular": (_circular, "failed"),
    "NUL": (lambda: "a\0b", "failed"),
    "half a pair": (lambda: "\ud83d", "failed"),
    "100 levels": (lambda: _nested(100), "failed"),
    "5,000 levels": (lambda: _nested(5_000), "failed"),
    "1.2 MB": (lambda: "x" * 1_200_000, "failed"),
    "0.6 MB": (lambda: "x" * 600_000, "completed"),
    "raises NUL": (lambda: _raised(RuntimeError("stderr: \0 binary")), "failed"),
    "raises half a pair": (lambda: _raised(RuntimeError("bad name \udce9")), "failed"),
    "raises 100 kB": (lambda: _raised(RuntimeError("x" * 100_000)), "failed"),
    "raises without words": (lambda: _raised(NoWords()), "failed"),
    "exits": (lambda: _raised(SystemExit(3)), "failed"),
    "interrupts": (lambda: _raised(KeyboardInterrupt()), "failed"),
    "ends its generator": (lambda: _raised(GeneratorExit()), "failed"),
    "cancels": (lambda: _raised(asyncio.CancelledError()), "failed"),
    "stops iterating": (lambda: next(iter(())), "failed"),
    "stops iterating with a value": (lambda: _raised(StopIteration({"n": 1})), "failed"),
    "stops iterating asynchronously": (lambda: _raised(StopAsyncIteration()), "failed"),
    "raises no Exception": (lambda: _raised(NoException("odd")), "failed"),
    "raises a group": (
        lambda: _raised(BaseExceptionGroup("many", [NoException("odd"), KeyboardInterrupt()])),
        "failed",
    ),
}


async def test_a_result_that_cannot_be_reported_fails_its_attempt_alone(api: Api) -> None:
    async with OddProxy(api.url, lambda call, number: None).running() as proxy:
        worker = behind(proxy, concurrency=len(OUTCOMES) * 2)
        together = asyncio.Barrier(len(OUTCOMES) * 2)

        @worker.handles()
        async def run(job: Job) -> Any:
            await together.wait()  # so that their reports share a call
            return OUTCOMES[job.payload][0]()

        ids = {(kind, turn): await submit(api, kind) for turn in range(2) for kind in OUTCOMES}
        async with running(worker):
            ends = {key: await ended(api, task_id) for key, task_id in ids.items()}
        assert {key: task["status"] for key, task in ends.items()} == {key: OUTCOMES[key[0]][1] for key in ids}
        for (kind, _), task in ends.items():
            assert bool(task["error"]) == (OUTCOMES[kind][1] == "failed"), kind


async def test_whatever_a_plain_function_does_its_attempt_ends_and_frees_a_slot(api: Api) -> None:
    worker = a_worker(api, concurrency=2)
    worker.handles()(lambda job: OUTCOMES[job.payload][0]())
    ids = {kind: await submit(api, kind) for kind in OUTCOMES}
    async with running(worker):
        ends = {kind: await ended(api, task_id) for kind, task_id in ids.items()}
    assert {kind: task["status"] for kind, task in ends.items()} == {kind: OUTCOMES[kind][1] for kind in ids}
    assert "StopIteration" in ends["stops iterating"]["error"]


async def test_a_job_that_cancels_itself_counts_as_failed(api: Api) -> None:
    worker = a_worker(api)

    @worker.handles()
    async def run(job: Job) -> None:
        own = asyncio.ensure_future(asyncio.Event().wait())
        own.cancel()
        await own

    async with running(worker):
        task = await ended(api, await submit(api))
    assert (task["status"], "CancelledError" in task["error"]) == ("failed", True)


async def test_leases_of_a_claim_interrupted_by_draining_are_fetched_and_executed(api: Api) -> None:
    """The API has given them; their answer hangs when the signal comes."""
    hangs = Odd(HANGS, http(200, '{"tasks": [', "application/json", length=5000), handled=True)

    def script(call: str, number: int) -> Odd | None:
        return hangs if call == CLAIM and number == 1 else None

    async with OddProxy(api.url, script).running() as proxy:
        worker = behind(proxy, concurrency=3)
        runs = counting(worker)
        ids = [await submit(api, number) for number in range(3)]
        run = asyncio.create_task(worker.run())
        await eventually(lambda: proxy.odd[CLAIM] == 1)
        worker.drain()
        await asyncio.wait_for(run, 30)
        tasks = [await api.get(f"/tasks/{task_id}") for task_id in ids]
        assert [task["status"] for task in tasks] == ["completed"] * 3
        assert [row.kind for row in await api.rows(ids[0])] == ["task.submitted", "task.claimed", "task.completed"]
        assert runs == Counter(ids)


async def test_a_result_that_no_proxy_lets_through_fails_its_attempt_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aragora_worker.reports.TOO_LARGE_S", 0.2)
    async with OddProxy(api.url, lambda call, number: None, most_bytes=10_000).running() as proxy:
        worker = behind(proxy)

        @worker.handles()
        async def run(job: Job) -> str:
            return "x" * int(job.payload)

        large = await submit(api, 20_000)
        small = [await submit(api, 10) for _ in range(5)]
        async with running(worker):
            assert {(await ended(api, task_id))["status"] for task_id in small} == {"completed"}
            task = await ended(api, large)
            assert (task["status"], "proxy" in task["error"]) == ("failed", True)


async def test_the_command_survives_a_restart_and_says_why_it_ends(api: Api, tmp_path: Path) -> None:
    """As a process: odd answers are waited out; a signal ends it with 0, a refusal with 1 and one sentence."""
    (tmp_path / "jobs.py").write_text("async def double(job):\n    return job.payload * 2\n")

    def script(call: str, number: int) -> Odd | None:
        return HTML_502 if call in CALLS and number in (1, 2) else None

    async def start(url: str, capabilities: str) -> asyncio.subprocess.Process:
        words = ["worker", "run", "jobs:double", "--capabilities", capabilities, "--agent-id", "w9"]
        environment = {**os.environ, "ARAGORA_API_URL": url}
        return await asyncio.create_subprocess_exec(
            COMMAND, *words, cwd=tmp_path, env=environment, stderr=asyncio.subprocess.PIPE
        )

    async with OddProxy(api.url, script).running() as proxy:
        process = await start(proxy.url, "x")
        ids = [await submit(api, number) for number in range(3)]
        assert [(await ended(api, task_id))["result"] for task_id in ids] == [0, 2, 4]
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        _, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0

        process = await start(proxy.url, "x" * 300)
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert b"error:" in said
        assert b"Traceback" not in said
