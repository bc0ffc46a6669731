"""Commands that a new user finds: who one is, roles, events, files of tasks and agents, the audit, the fleet's health."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cluster.cli.main import app as cli
from tests.support.api import Api, in_thread
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi


async def _done(api: Api, *words: str, code: int = 0, said: str = "") -> str:
    environment = clean_environment(ARAGORA_API_URL=api.url)
    ran = await in_thread(CliRunner().invoke, cli, list(words), input=said, env=environment)
    assert ran.exit_code == code, f"{words}: {ran.output} {ran.exception!r}"
    return str(ran.output)


async def _json(api: Api, *words: str, said: str = "") -> Any:
    return json.loads(await _done(api, *words, "--json", said=said))


async def test_a_file_of_tasks_is_submitted_once_however_often_it_is_given(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    odd = "a\u2028b"  # a line end for Python, and none for JSON
    file.write_text(
        "\n".join(
            json.dumps({"task_type": "echo", "payload": {"n": n, "odd": odd}}, ensure_ascii=False) for n in range(3)
        )
        + "\n\n"
    )
    ids = (await _done(api, "tasks", "import", str(file))).split()
    assert len(set(ids)) == 3
    assert (await _json(api, "tasks", "import", str(file)))["task_ids"] == ids
    again = await _json(api, "tasks", "import", str(file), "--run", "second")
    assert set(again["task_ids"]) & set(ids) == set()
    assert (await _json(api, "tasks", "import", "-", said='{"task_type": "echo"}\n'))["total"] == 1


async def test_a_file_with_a_wrong_line_submits_nothing(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    for wrong in ("[]", "{", '{"task_type": ""}'):
        file.write_text('{"task_type": "echo"}\n' + wrong + "\n")
        await _done(api, "tasks", "import", str(file), code=1)
    assert (await _json(api, "tasks", "list"))["tasks"] == []


async def test_a_file_of_agents_registers_them(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "agents.jsonl"
    file.write_text('{"agent_id": "a1", "capabilities": ["debate"]}\n{"agent_id": "a2"}\n')
    assert (await _done(api, "agents", "import", str(file))).split() == ["a1", "a2"]
    assert {agent["agent_id"] for agent in (await _json(api, "agents", "list"))["agents"]} == {"a1", "a2"}
    assert "a1" in await _done(api, "agents", "health")
    assert "breaker" in await _done(api, "agents", "breakers")


async def test_history_and_jobs_show_what_ended_and_what_goes_on(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker-1")
    ended, held = await tasks.submit("first"), await tasks.submit("second")
    await tasks.complete(await tasks.claim_one("worker-1"))
    await tasks.claim_one("worker-1")
    (line,) = [line for line in (await _done(api, "tasks", "history")).splitlines() if ended in line]
    assert "completed" in line
    assert held not in await _done(api, "tasks", "history")
    shown = await _done(api, "queue", "jobs")
    assert held in shown
    assert "worker-1" in shown


async def test_whoami_tells_the_principal_and_its_workspace(api: Api) -> None:
    shown = await _done(api, "whoami")
    assert "user:local-admin" in shown
    assert "Workspace: default" in shown
    assert (await _json(api, "whoami"))["workspace"] == "default"


async def test_a_role_is_defined_listed_and_deleted(api: Api) -> None:
    await _done(api, "roles", "set", "reader", "controlplane:tasks.read,controlplane:agents.read")
    (line,) = [line for line in (await _done(api, "roles", "list")).splitlines() if line.startswith("reader ")]
    assert "controlplane:tasks.read" in line
    assert "Deleted reader." in await _done(api, "roles", "delete", "reader")
    assert "There was no role reader." in await _done(api, "roles", "delete", "reader")


async def test_events_are_printed_from_a_number_on(api: Api) -> None:
    task_id = await TaskApi(api).submit()
    printed = await _done(api, "events", "--after", "0", "--task", task_id, "--count", "1", "--json")
    event = json.loads(printed)
    assert event["data"]["task_id"] == task_id
    assert task_id in await _done(api, "events", "--after", "0", "--task", task_id, "--count", "1")


async def test_numbers_are_json(api: Api) -> None:
    for words in (("metrics", "fleet"), ("metrics", "today"), ("metrics", "system"), ("metrics", "tasks")):
        assert json.loads(await _done(api, *words)) != {}
    assert "total_entries" in await _json(api, "audit", "stats")


async def test_an_entry_of_the_audit_is_shown_and_the_log_checked(api: Api) -> None:
    await TaskApi(api).submit()
    entry = (await _json(api, "audit", "list"))["entries"][0]
    assert (await _json(api, "audit", "entry", str(entry["entry_id"])))["action"] == entry["action"]
    assert "are what was sealed" in await _done(api, "audit", "check")
    await _done(api, "audit", "entry", "999999", code=1)
