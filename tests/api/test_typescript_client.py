"""The TypeScript client: what it has for calls, what its compiler says, and its worker and its calls against a real API."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cluster.embedded.ports import free_ports
from cluster.version import VERSION
from scripts.docs import typescript_client
from tests.api.test_worker import ended, submit
from tests.support.api import Api, api_settings
from tests.support.docs import ROOT
from tests.support.node_packages import NODE, installed
from tests.support.other_regions import two_regions
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.system import clean_environment

CLIENT = ROOT / "clients" / "typescript"
PROGRAMS = Path(__file__).parents[1] / "support" / "typescript"


def test_the_committed_calls_are_the_generated_ones() -> None:
    committed = (CLIENT / "src" / "api.ts").read_text()
    assert committed == typescript_client.page(), (
        "clients/typescript/src/api.ts is stale: run `make docs` and commit it"
    )


def test_its_version_is_that_of_the_control_plane() -> None:
    versions = [json.loads((CLIENT / name).read_text())["version"] for name in ("package.json", "package-lock.json")]
    assert versions == [VERSION, VERSION]


def test_the_compiler_takes_it_and_what_its_page_shows(tmp_path: Path) -> None:
    packages = installed("TypeScript", CLIENT, ("package.json", "package-lock.json")) / "node_modules"
    blocks = re.findall(r"^```ts\n(.*?)^```", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 1
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.mts").write_text(block)
    options = {
        "noEmit": True,
        "rootDir": "/",
        "typeRoots": [str(packages / "@types")],
        "paths": {"aragora-client": [str(CLIENT / "src" / "index.ts")]},
    }
    project = {"extends": str(CLIENT / "tsconfig.json"), "compilerOptions": options}
    project["include"] = [str(CLIENT / "src"), str(PROGRAMS), str(tmp_path)]
    (tmp_path / "tsconfig.json").write_text(json.dumps(project))
    command = [NODE, packages / "typescript" / "bin" / "tsc", "--project", tmp_path]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


@asynccontextmanager
async def node(
    program: str, url: str, *arguments: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(NODE, "--no-warnings", PROGRAMS / program, *arguments),
        env=clean_environment(ARAGORA_API_URL=url, **environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ts_task(api: Api, task_type: str, payload: Any = None, **changes: Any) -> str:
    return await submit(api, payload, task_type=task_type, required_capabilities=["ts"], **changes)


async def test_a_worker_does_each_kind_of_job(api: Api) -> None:
    async with node("worker.mts", api.url, "ts-1") as process:
        added = await ts_task(api, "adds", {"terms": [1, 2]})
        ends = {
            name: await ended(api, await ts_task(api, name, max_retries=retries))
            for name, retries in (
                ("rejects", 5),
                ("fails", 0),
                ("returns-no-json", 0),
                ("returns-nothing", 0),
                ("goes-on", 1),
            )
        }
        done = await ended(api, added)
        assert (done["result"], done["progress"]["percent"]) == ({"sum": 3, "attempt": 1}, 50)
        assert [chunk["content"] for chunk in (await api.get(f"/tasks/{added}/chunks"))["chunks"]] == [
            "one ",
            {"two": 2},
        ]
        assert {name: (task["status"], task["attempt"]) for name, task in ends.items()} == {
            "rejects": ("failed", 1),
            "fails": ("failed", 1),
            "returns-no-json": ("failed", 1),
            "returns-nothing": ("completed", 1),
            "goes-on": ("completed", 2),
        }
        assert (ends["rejects"]["error"], ends["goes-on"]["result"]) == ("never", {"done": [1, 2]})
        assert ends["fails"]["error"] == "Error: come back later"
        assert "cannot be reported" in ends["returns-no-json"]["error"]
        asked = await ts_task(api, "asks")

        async def is_asked() -> bool:
            return (await api.get(f"/tasks/{asked}"))["status_detail"] == "input_required"

        await eventually(is_asked)
        await api.post(f"/tasks/{asked}/answer", {"verdict": "answer", "answer": "b"})
        answered = await ended(api, asked)
        assert answered["result"] == {"answer": "b", "by": "answered", "checkpoint": {"asked": True}}
        parked = await ended(api, await ts_task(api, "parks", max_retries=0))
        assert (parked["result"], parked["attempt"]) == ({"sums": [11, 12], "checkpoint": {"asked": 2}}, 2)
        waiting = await ts_task(api, "waits")
        await eventually(lambda: _says(api, waiting, "waiting"))
        await api.post(f"/tasks/{waiting}/cancel")
        assert (await ended(api, waiting))["status"] == "cancelled"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert (await api.call("GET", "/agents/ts-1")).status_code == 404


async def _says(api: Api, task_id: str, message: str) -> bool:
    progress = (await api.get(f"/tasks/{task_id}")).get("progress")
    return progress is not None and progress["message"] == message


async def test_a_worker_that_drains_gives_its_jobs_back(api: Api) -> None:
    async with node("worker.mts", api.url, "ts-1", DRAIN_MS="0") as process:
        waiting = await ts_task(api, "waits")
        await eventually(lambda: _says(api, waiting, "waiting"))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    task = await api.get(f"/tasks/{waiting}")
    assert (task["status"], task["retries"]) == ("pending", 0)
    assert (await api.call("GET", "/agents/ts-1")).status_code == 404


async def test_a_worker_whose_id_another_uses_leaves_it_registered(api: Api) -> None:
    async with node("worker.mts", api.url, "ts-1") as first:
        assert (await ended(api, await ts_task(api, "adds", {"terms": [1]})))["status"] == "completed"
        marked = (await api.get("/agents/ts-1"))["metadata"]["worker_process"]

        async def another_has_registered() -> bool:
            return bool((await api.get("/agents/ts-1"))["metadata"]["worker_process"] != marked)

        async with node("worker.mts", api.url, "ts-1") as second:
            await eventually(another_has_registered)
            for process in (second, first):
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
    assert (await api.call("GET", "/agents/ts-1")).status_code == 200


async def test_an_agent_that_an_operator_paused_stays_when_its_worker_ends(api: Api) -> None:
    async with node("worker.mts", api.url, "ts-1") as process:
        assert (await ended(api, await ts_task(api, "adds", {"terms": [1]})))["status"] == "completed"
        await api.post("/agents/ts-1/pause")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert (await api.get("/agents/ts-1"))["intent_by"] == "operator"


async def test_a_worker_that_is_refused_ends_and_says_why(api: Api) -> None:
    async with node("worker.mts", api.url, "no id") as process:
        told, _ = await process.communicate()
    assert process.returncode == 3
    assert b"ended: Refused: agent_id" in told


async def test_a_worker_outlives_the_control_plane(store_urls: StoreUrls, schema: str) -> None:
    settings, (port,) = api_settings(store_urls, schema), free_ports(1)
    async with node("worker.mts", f"http://127.0.0.1:{port}", "ts-1") as process:
        async with Api(settings).running(port=port) as api:
            first = await ts_task(api, "adds", {"terms": [1]})
            assert (await ended(api, first))["status"] == "completed"
            waiting = await ts_task(api, "waits", max_retries=3)
            await eventually(lambda: _says(api, waiting, "waiting"))
        async with Api(settings).running(port=port) as again:
            second = await ts_task(again, "adds", {"terms": [4]})
            assert (await ended(again, second))["result"]["sum"] == 4
            await again.post(f"/tasks/{waiting}/cancel")
            assert (await ended(again, waiting))["status"] == "cancelled"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_calls_answer_and_throw_what_they_say(api: Api) -> None:
    done = await ts_task(api, "adds", {"terms": [1, 2]})
    async with node("worker.mts", api.url, "ts-1"), node("client.mts", api.url, done) as process:
        told, _ = await process.communicate()
    unknown = {"kind": "OutcomeUnknown", "code": "outcome_unknown"}
    assert dict(map(json.loads, told.splitlines())) == {
        "result": {"sum": 3, "attempt": 1},
        "output": ["task_attempt", "one ", {"two": 2}, "task_ended"],
        "repeated": [True, {"text": "ä€😀", "n": 2**53 - 1}],
        "listed": ["t/ö"],
        "missing": {"kind": "Refused", "code": "task_not_found"},
        "no id": {"kind": "Refused", "code": "invalid_id"},
        "no JSON": {"kind": "Refused", "code": "invalid_body"},
        "invalid": {"kind": "Refused", "code": "invalid_request"},
        "failed": {"kind": "TaskNotCompleted", "code": "task_cancelled"},
        "text": True,
        "foreign": unknown,
        "nobody": unknown,
    }


async def told_by(url: str, **environment: str) -> list[Any]:
    async with node("regions.mts", url, ARAGORA_API_KEY="secret", **environment) as process:
        lines, _ = await process.communicate()
    return [json.loads(line) for line in lines.splitlines()]


async def test_calls_go_on_where_their_zone_is() -> None:
    async with two_regions() as (first, url, second, other):
        first.elsewhere = other + "/"
        assert await told_by(url, ARAGORA_API_URLS=f"{url}, {other}") == [["t", other]] * 2
        assert (len(first.calls), len(second.calls)) == (1, 2)
        assert {call[1:] for call in (*first.calls, *second.calls)} == {("Bearer secret", b'{"task_type":"t"}')}


async def test_calls_go_to_no_address_that_is_not_known() -> None:
    async with two_regions() as (first, url, second, other):
        first.elsewhere = other
        assert await told_by(url) == [["wrong_zone", url]] * 2
        assert (len(first.calls), second.calls) == (2, [])
