"""The commands of tasks, queues and the dead letter, as a user types them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

from cluster.domain.tasks.task import LeaseToken
from cluster.version import VERSION
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))


async def _run(tasks: TaskApi, *words: str, code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *words,
        env=clean_environment(ARAGORA_API_URL=tasks.api.url, COLUMNS="200"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == code, output.decode()
    return output.decode()


async def test_a_task_is_submitted_explained_and_followed(tasks: TaskApi) -> None:
    first = (await _run(tasks, "tasks", "submit", "build", "--payload", '{"n": 1}', "--capabilities", "gpu")).strip()
    then = (await _run(tasks, "tasks", "submit", "ship", "--after", first)).strip()
    assert "Register an agent with gpu." in await _run(tasks, "tasks", "explain", first)
    assert f"tasks that have not ended: {first}" in await _run(tasks, "tasks", "explain", then)
    listed = await _run(tasks, "tasks", "list", "--type", "ship")
    assert then in listed
    assert "1 of 1" in listed
    waiting = await _run(tasks, "tasks", "list", "--status", "queued")  # as the list shows it
    assert (first in waiting, then in waiting) == (True, False)
    assert first in await _run(tasks, "tasks", "list", "--status", "pending", "--detail", "queued")
    assert "completed" in await _run(
        tasks, "tasks", "list", "--status", "waits", code=1
    )  # the error names those that exist
    await _run(tasks, "tasks", "cancel", first)
    assert "cancelled" in await _run(tasks, "tasks", "events", first)
    assert "There is no task" in await _run(tasks, "tasks", "explain", "task_nobody", code=1)


async def test_children_are_submitted_with_their_parents_lease_or_without(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    parent = await tasks.submit(target_agent="a1")
    words = ("tasks", "submit", "part", "--capabilities", "none", "--parent", parent)
    held = ("--lease-token", (await tasks.claim_one("a1"))["lease_token"], "--key", "k")
    lost = ("--lease-token", LeaseToken(task_id=parent, attempt=9, agent_id="a1").encode())
    first, again, plain, *_ = await asyncio.gather(
        *(_run(tasks, *words, *held), _run(tasks, *words, *held), _run(tasks, *words)),
        *(_run(tasks, *words, *lost, code=1), _run(tasks, *words[:5], *held, code=2)),
    )
    assert first == again, "a repeat under its key is no second child"
    for child in (plain.strip(), first.strip()):
        shown, got = await asyncio.gather(_run(tasks, "tasks", "show", child), _run(tasks, "tasks", "get", child))
        assert (json.loads(shown)["parent_task_id"], shown) == (parent, got)


async def test_the_exit_code_of_a_wait_says_how_the_task_ended(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    waiting = asyncio.create_task(_run(tasks, "tasks", "submit", "build", "--wait"))
    lease = await tasks.claim_one("a1")
    report = {"lease_token": lease["lease_token"], "result": {"ok": "[red]"}}
    await tasks.post(f"/tasks/{lease['id']}/complete", report)
    lines = (await waiting).splitlines()
    assert lines[0] == lease["id"]
    assert lines[1].partition(",")[0] in ("queued", "running at a1", "completed at a1"), "as of its first look"
    assert json.loads("\n".join(lines[lines.index("{") :])) == {"ok": "[red]"}
    failed, cancelled = await tasks.submit(max_retries=0), await tasks.submit(required_capabilities=["none"])
    await tasks.fail(await tasks.claim_one("a1"), error="bug")
    await tasks.post(f"/tasks/{cancelled}/cancel")
    said, whole = await asyncio.gather(
        _run(tasks, "tasks", "wait", failed, code=7), _run(tasks, "tasks", "wait", cancelled, "--json", code=8)
    )
    assert said == "dead_lettered at a1, attempt 1: bug\n"
    assert json.loads(whole[whole.index("{") :])["status"] == "cancelled"


async def test_dead_tasks_are_listed_replayed_and_purged(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    for error in ("flaky network", "bug"):
        await tasks.submit(max_retries=0, payload={"n": 1})
        await tasks.fail(await tasks.claim_one("a1"), error=error)
    assert "2 of 2" in await _run(tasks, "dlq", "list")
    dry = await _run(tasks, "dlq", "replay", "--error", "network", "--dry-run", "--patch", '{"n": "[red]\\nb"}')
    (line, _) = dry.splitlines()
    assert re.fullmatch(r"task_[0-9a-z]{26}", line.partition(" ")[0])
    assert line.endswith(r' would be replayed with {"n": "[red]\nb"}'), line
    assert " -> task_" in await _run(tasks, "dlq", "replay", "--error", "network", "--patch", '{"n": 2}')
    assert (await tasks.claim_one("a1"))["payload"] == {"n": 2}
    await _run(tasks, "dlq", "replay", code=2)
    assert "1 purged." in await _run(tasks, "dlq", "purge", "--all")
    assert "0 of 0" in await _run(tasks, "dlq", "list")


async def test_queues_are_paused_and_limited(tasks: TaskApi) -> None:
    await _run(tasks, "queue", "pause", "mail")
    limited = json.loads(await _run(tasks, "queue", "limit", "mail", "--rate", "5", "--burst", "2"))
    assert (limited["paused"], limited["rate_per_second"], limited["burst"]) == (True, 5.0, 2)
    await _run(tasks, "queue", "weight", "acme", "3")
    shown = await _run(tasks, "queue", "controls")
    assert "mail" in shown
    assert "acme" in shown
    await _run(tasks, "queue", "resume", "mail")
    unlimited = json.loads(await _run(tasks, "queue", "limit", "mail", "--unlimited"))
    assert (unlimited["paused"], unlimited["rate_per_second"]) == (False, None)
    task_id = await tasks.submit()
    await _run(tasks, "queue", "prioritize", task_id, "urgent")
    assert (await tasks.get(f"/tasks/{task_id}"))["priority"] == 100
    last = await tasks.submit(priority="urgent")
    assert "number 1 in its sub-queue" in await _run(tasks, "queue", "prioritize", last, "--position", "1")
    assert (await tasks.get(f"/tasks/{last}/explain"))["position"] == 1
    await _run(tasks, "queue", "prioritize", last, code=2)


async def test_a_dead_task_that_is_not_there_is_an_error(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    dead = await tasks.submit(max_retries=0)
    await tasks.fail(await tasks.claim_one("a1"))
    alive = await tasks.submit(required_capabilities=["none"])
    calls = [
        ("replay", "nope"),
        ("replay", alive),
        ("purge", "nope"),
        ("purge", alive),
        ("replay", dead, "nope", "--dry-run"),
        ("purge", dead, "nope", "--dry-run"),
    ]
    for words, printed in zip(
        calls, await asyncio.gather(*(_run(tasks, "dlq", *words, code=1) for words in calls)), strict=True
    ):
        missing = alive if alive in words else "nope"
        assert f"The dead letter holds no task {missing}, or it was replayed already" in " ".join(printed.split())
    printed = await _run(tasks, "dlq", "replay", dead, "nope", code=1)
    assert f"{dead} -> task_" in printed, "what is there is replayed"
    await _run(tasks, "dlq", "replay", dead, code=1)
    assert "0 purged." in await _run(tasks, "dlq", "purge", "--type", "unknown"), "a filter may match nothing"


async def test_the_version_is_an_option_too(tasks: TaskApi) -> None:
    assert (await _run(tasks, "--version")).strip() == VERSION
