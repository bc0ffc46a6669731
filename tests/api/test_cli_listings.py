"""Listings on the command line: every id is whole in a pipe and on a terminal of 80 columns."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.agents.agent import Health, Intent, Liveness
from cluster.ports.agents import AgentChange
from tests.support.samples import system_event
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))
AGENT = "an-agent-whose-name-is-as-long-as-a-host-name.of.the-cluster.example:4711"
QUEUE = "invoices-of-the-northern-region-that-must-be-sent-before-midnight"


async def _in_a_pipe(url: str, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        COMMAND, *words, env=clean_environment(ARAGORA_API_URL=url, COLUMNS="80"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode()


async def _on_a_terminal(url: str, *words: str) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = clean_environment(ARAGORA_API_URL=url, TERM="xterm-256color")
    environment.pop("COLUMNS", None)
    process = await asyncio.create_subprocess_exec(COMMAND, *words, env=environment, stdout=theirs)
    os.close(theirs)
    pieces = []

    def read() -> None:
        try:
            while piece := os.read(ours, 4096):
                pieces.append(piece)
        except OSError:  # Linux says so when the last writer has left
            pass

    await asyncio.to_thread(read)
    os.close(ours)
    await process.wait()
    return re.sub(r"\x1b\[[0-9;]*m", "", b"".join(pieces).decode())


async def test_a_lost_agent_is_seen_as_lost_whatever_its_status_hides(tasks: TaskApi) -> None:
    facts: dict[str, dict[str, Any]] = {
        "well": {"liveness": Liveness.ALIVE},
        "late": {"liveness": Liveness.SUSPECT},
        "gone": {"liveness": Liveness.OFFLINE, "intent": Intent.PAUSED},
        "deaf": {"liveness": Liveness.DEAF, "health": Health.DEGRADED},
        "odd": {"liveness": Liveness.ALIVE, "health": Health.FAILED},
    }
    gate = tasks.api.gateway
    for agent_id, changed in facts.items():
        await tasks.agent(agent_id)
        record = replace(system_event(agent_id), workspace="default", kind="agent.status_changed")
        await gate.agents.change([AgentChange(workspace="default", agent_id=agent_id, record=record, **changed)])
    for agent in (await gate.agents.get_many([("default", agent_id) for agent_id in facts])).values():
        gate.directory.note(agent)
    lines = (await _in_a_pipe(tasks.api.url, "agents", "list")).splitlines()[1:]
    assert {line.split()[0]: re.split(r" {2,}", line)[1] for line in lines} == {
        "well": "ready",
        "late": "ready (suspect)",
        "gone": "paused (offline)",
        "deaf": "failed (deaf, degraded)",
        "odd": "failed",
    }


@pytest.mark.parametrize("shown", [_in_a_pipe, _on_a_terminal])
async def test_ids_are_whole_in_every_listing(tasks: TaskApi, shown: Callable[..., Coroutine[Any, Any, str]]) -> None:
    url = tasks.api.url
    await tasks.agent(AGENT, capabilities=["translate", "summarize", "judge", "critique"], model="a-model-with-a-name")
    dead = await tasks.submit("send.invoice.by.mail", max_retries=0, queue=QUEUE)
    await tasks.fail(await tasks.claim_one(AGENT), error="the server said [red]no[/] and " + "went on and on " * 20)
    copy = (await tasks.post("/dead-letter/replay", {"ids": [dead]}))["replayed"][0]["replayed_as"]
    held = (await tasks.claim_one(AGENT))["id"]
    await tasks.post("/queue/pause", {"kind": "queue", "name": QUEUE})
    asked = await tasks.post("/deliberations", {"content": "Which [one]?\n" * 20, "async": True})
    expected = {
        ("tasks", "list"): (dead, held, AGENT, "send.invoice.by.mail"),
        ("tasks", "events", dead): (AGENT, copy),
        ("dlq", "list", "--replayed"): (dead, copy, QUEUE, "[red]no[/] and went"),
        ("agents", "list"): (AGENT, "translate,summarize,judge,critique"),
        ("queue", "controls"): (QUEUE,),
        ("deliberations", "list"): (asked["request_id"], "Which [one]? Which"),
        ("story", dead): (dead, copy),
    }
    outputs = await asyncio.gather(*(shown(url, *words) for words in expected))
    for (words, wanted), output in zip(expected.items(), outputs, strict=True):
        for text in wanted:
            assert text in output, (words, text, output)
