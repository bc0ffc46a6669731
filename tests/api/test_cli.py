"""The command line against a running API: exit codes, JSON, and one sentence for whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.version import VERSION
from tests.api.test_sdk import _endpoint
from tests.support.api import Api
from tests.support.system import clean_environment

#: A process of its own for every command.
pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("aragora-cp"))


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def _run(url: str, *words: str, **environment: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        COMMAND, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        env=clean_environment(ARAGORA_API_URL=url, **environment),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    done = Done(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in done.out + done.err, done
    return done


def _one_sentence(done: Done, code: int, *needles: str) -> None:
    """Refused with this exit code, on standard error, in one short text that names what is wrong."""
    assert (done.code, done.out) == (code, ""), done
    text = " ".join(done.err.split())
    assert text.endswith("."), text
    for needle in needles:
        assert needle in text, text


async def test_agents_and_tasks_are_managed_from_the_command_line(api: Api) -> None:
    url = api.url
    registered = await _run(url, "agents", "register", "a1", "--capabilities", "x,y")
    assert (registered.code, registered.json["agent_id"], registered.json["capabilities"]) == (0, "a1", ["x", "y"])
    submitted = await _run(url, "tasks", "submit", "echo", "--payload", '{"n": 1}')
    assert submitted.code == 0
    task_id = submitted.out.strip()
    listed, got, agents, plain = await asyncio.gather(
        _run(url, "tasks", "list", "--json"),
        _run(url, "tasks", "get", task_id),
        _run(url, "agents", "list", "--json"),
        _run(url, "tasks", "list"),
    )
    assert [task["id"] for task in listed.json["tasks"]] == [task_id]
    assert (got.json["status"], got.json["payload"]) == ("pending", {"n": 1})
    assert agents.json["total"] == 1
    assert (plain.code, task_id in plain.out) == (0, True)


async def test_an_error_is_one_sentence_and_an_exit_code(api: Api) -> None:
    unreachable, unknown, refused, usage, payload, version, bad_setting = await asyncio.gather(
        _run("http://127.0.0.1:9", "tasks", "list"),
        _run(api.url, "tasks", "get", "unknown"),
        _run(api.url, "agents", "register", "history"),
        _run(api.url, "tasks", "sing"),
        _run(api.url, "tasks", "submit", "echo", "--payload", "{"),
        _run(api.url, "version"),
        _run(api.url, "tasks", "list", ARAGORA_HTTP_PORT="eighty"),
    )
    _one_sentence(unreachable, 4, "http://127.0.0.1:9")
    _one_sentence(unknown, 1, "no task unknown")
    _one_sentence(refused, 1, "agent_id")
    assert (usage.code, usage.out) == (2, "")
    assert payload.code in (1, 2)
    assert (version.code, VERSION in version.out) == (0, True)
    assert bad_setting.code != 0
    assert "ARAGORA_HTTP_PORT='eighty'" in " ".join(bad_setting.err.split())


async def test_a_deliberation_ends_with_its_result_and_the_right_code(api: Api) -> None:
    async with _endpoint("tea") as tea, _endpoint("coffee") as coffee:
        for n, url in enumerate((tea, tea, coffee)):
            await api.post("/agents", {"agent_id": f"a{n}", "capabilities": ["debate"], "endpoint": url})
        asked = ("deliberate", "Tea or coffee?", "--options", "tea,coffee")
        decided, split, shown = await asyncio.gather(
            _run(api.url, *asked, "--agents", "a0,a1", "--json"),
            _run(api.url, *asked, "--agents", "a1,a2", "--consensus", "unanimous", "--json"),
            _run(api.url, *asked, "--agents", "a0,a1,a2"),
        )
    assert (decided.code, decided.json["result"]["answer"]) == (0, "tea")
    assert (split.code, split.json["result"]["consensus_reached"]) == (3, False)
    assert shown.code == 0
    assert "tea" in shown.out
    assert "a2" in shown.out


@pytest.mark.parametrize("words", [("up",), ("status",), ("down",)])
async def test_commands_that_need_a_data_directory_say_what_is_wrong_with_it(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = await _run("", *words, ARAGORA_DATA_DIR=str(file / "inside"))
    assert done.code == 5
    assert " ".join(done.err.split()).endswith("cannot be used: Not a directory.")
